// SPDX-License-Identifier: BSD-3-Clause
// Tensor leaves -> torchkeep.TensorInfo: looking into a checkpoint without PyTorch.
#pragma once

#include "leaf_maker.h"

namespace torchkeep::python {

/// Makes descriptions.
class InfoMaker final : public LeafMaker {
 public:
  InfoMaker();

  nb::object tensor(const Value& value) override;
  nb::object with_attributes(const Value& value, nb::object tensor, const nb::object& attributes) override;
  nb::object compound(const Value& value) override;
  nb::object dtype(DType dtype) override;
  nb::object device(const Device& device) override;
  nb::object size(const nb::object& tuple) override { return tuple; }
  nb::object opaque(const Value& value, const nb::object& made, std::span<const nb::object> parts) override;

 private:
  nb::object part(const Value& value);

  nb::object inspection_;  ///< the module torchkeep._inspect
};

/// A tensor whose bytes are still in the file.
struct StoredTensor {
  Tensor tensor;
  nb::bytes contiguous_bytes() const;
};

}  // namespace torchkeep::python
