// SPDX-License-Identifier: BSD-3-Clause
// Writes tensors and the storages they refer to.
#pragma once

#include <optional>
#include <vector>

#include <torchkeep/state/tensor.h>

#include "emitter.h"
#include "pickle.h"

namespace torchkeep::pickle {

/// Errors it throws name no key; the caller knows where the tensor stands.
class TensorWriter {
 public:
  /// Storages count from `first_number` on.
  TensorWriter(Emitter& out, std::uint32_t first_number) : out_(out), first_number_(first_number) {}

  /// A torch.Tensor, whatever tensor.is_parameter says.
  void tensor(const Tensor& tensor, bool requires_grad);
  /// A torch.nn.Parameter.
  void parameter(const Tensor& tensor);
  /// What stands before the dict of attributes of a tensor or Parameter; TUPLE and REDUCE are to follow that.
  void begin_with_attributes(const Tensor& tensor);
  /// A storage by itself, of which `tensor` has all elements.
  void storage(const Tensor& tensor, bool is_untyped);
  /// All storages, by number.
  std::vector<NumberedStorage> take_storages() { return std::move(storages_); }

 private:
  /// How a tensor is written: its storage's number, and whether its dtype stands beside the storage.
  struct Form {
    std::uint32_t number;
    bool is_v3;
    std::uint64_t nbytes;  // of the storage
  };
  Form prepare(const Tensor& tensor);
  void arguments(const Tensor& tensor, bool requires_grad, Form form);
  void persistent_id(const Tensor& tensor, Form form);
  void quantizer(const Quantizer& quantizer);

  Emitter& out_;
  std::uint32_t first_number_;
  AddressMemo numbers_;  // by Storage::identity()
  std::vector<NumberedStorage> storages_;
  std::vector<std::optional<DType>> dtypes_;  // of the class each was first written under; none: UntypedStorage
};

}  // namespace torchkeep::pickle
