// SPDX-License-Identifier: BSD-3-Clause
// What from_value() makes of tensors and of the other values that have no built-in Python type.
#pragma once

#include <span>

#include <torchkeep/state/value.h>

#include "python.h"

namespace torchkeep::python {

/// Makes the objects that differ between loading and looking.
class LeafMaker {
 public:
  LeafMaker() = default;
  LeafMaker(const LeafMaker&) = delete;
  LeafMaker& operator=(const LeafMaker&) = delete;
  virtual ~LeafMaker() = default;

  virtual nb::object tensor(const Value& value) = 0;
  /// Gives a tensor its Python attributes.
  virtual nb::object with_attributes(const Value& value, nb::object tensor, const nb::object& attributes) = 0;
  /// A sparse or nested tensor.
  virtual nb::object compound(const Value& value) = 0;
  virtual nb::object dtype(DType dtype) = 0;
  virtual nb::object device(const Device& device) = 0;
  virtual nb::object size(const nb::object& tuple) = 0;
  /// `made` and `parts`: see opaque_maker.h.
  virtual nb::object opaque(const Value& value, const nb::object& made, std::span<const nb::object> parts) = 0;
  /// True when the exception on its way came out of a function of the user's, who wants to see it as it is.
  virtual bool is_users_error() const noexcept { return false; }
};

}  // namespace torchkeep::python
