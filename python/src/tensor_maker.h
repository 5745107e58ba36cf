// SPDX-License-Identifier: BSD-3-Clause
// Tensor leaves -> torch.Tensor.
#pragma once

#include <string>
#include <unordered_map>

#include "address_map.h"
#include "leaf_maker.h"
#include "placed.h"
#include "torch_bridge.h"

namespace torchkeep::python {

/// Makes the objects of torch.load(weights_only=True).
class TensorMaker : public LeafMaker {
 public:
  /// `placed`: see from_value(); null, or it outlives this.
  TensorMaker(nb::handle map_location, const Placed* placed);

  nb::object tensor(const Value& value) override;
  nb::object with_attributes(const Value& value, nb::object tensor, const nb::object& attributes) override;
  nb::object compound(const Value& value) override;
  nb::object dtype(DType dtype) override { return torch().dtype(dtype); }
  nb::object device(const Device& device) override;
  nb::object size(const nb::object& tuple) override;
  nb::object opaque(const Value& value, const nb::object& made, std::span<const nb::object> parts) override;
  bool is_users_error() const noexcept override { return users_error_; }

  /// The tensor on the device "meta".
  nb::object meta(const Tensor& leaf);

 private:
  const Torch& torch() { return torch_ != nullptr ? *torch_ : *(torch_ = &Torch::get()); }
  nb::object plain(const Tensor& leaf);
  nb::object view(const Tensor& leaf);
  StoragePtr in_memory(const StoragePtr& storage) const;
  nb::object untyped(const StoragePtr& storage);
  nb::object restore(const nb::object& storage, const std::string& location);
  nb::object part(const Value& value);

  const Placed* placed_;
  const Torch* torch_ = nullptr;  ///< found when the first tensor is made: plain data needs no PyTorch
  nb::object restorer_;           ///< torch's own, None where everything stays on or goes to the CPU
  bool stays_on_cpu_ = false;     ///< whatever the storage's location
  bool goes_to_meta_ = false;
  bool restores_by_users_function_ = false;
  bool users_error_ = false;
  /// By identity: an UntypedStorage, or the tensor that covers it (whose storage nobody has asked for yet).
  AddressMap<nb::object> storages_;
};

/// Makes tensors on the device "meta", to look at and not to keep: those that look alike are one.
class StructureMaker final : public TensorMaker {
 public:
  StructureMaker();
  nb::object tensor(const Value& value) override;

 private:
  std::unordered_map<std::string, nb::object> made_;
};

}  // namespace torchkeep::python
