// SPDX-License-Identifier: BSD-3-Clause
// Numbers, counters and tensors of optimizer states, between LibTorch's types and Python's.
#include <cmath>
#include <fmt/format.h>

#include <ATen/ATen.h>
#include <c10/core/DefaultDtype.h>

#include <torchkeep/torch/tensor.h>

#include "errors.h"
#include "optimizer_table.h"
#include "tensor_io.h"

namespace torchkeep {

namespace {

constexpr std::int64_t kFloat32Counts = std::int64_t{1} << 24;
constexpr std::int64_t kFloat64Counts = std::int64_t{1} << 53;

/// The element of a tensor that has one.
at::Scalar only_element(const Value& value) {
  const Tensor& leaf = value.as_tensor();
  if (leaf.numel() != 1) value.fail_kind("a number, or a tensor with one element");
  return placed(value, [&] { return borrow(leaf).item(); });
}

std::int64_t whole(const Value& value, double number) {
  if (!(number >= 0 && number <= static_cast<double>(kFloat64Counts)) || number != std::floor(number)) {
    value.fail(Code::mismatch, fmt::format("{} is no count of steps", number));
  }
  return static_cast<std::int64_t>(number);
}

}  // namespace

Value step_value(std::int64_t step) {
  if (step > kFloat64Counts) {
    throw Error(Code::unsupported,
                fmt::format("step {} is larger than a float64, Python's widest step, can count", step));
  }
  if (step > kFloat32Counts || c10::get_default_dtype_as_scalartype() == c10::ScalarType::Double) {
    return Tensor::of<double>({}, {static_cast<double>(step)});
  }
  return Tensor::of<float>({}, {static_cast<float>(step)});
}

double read_number(const Value& value) {
  if (!value.is(Kind::tensor)) return value.to<double>();
  const at::Scalar element = only_element(value);
  if (element.isComplex() || element.isBoolean()) value.fail_kind("a real number");
  return element.toDouble();
}

std::int64_t read_step(const Value& value) {
  const std::int64_t step = value.is(Kind::integer) ? value.to<std::int64_t>() : whole(value, read_number(value));
  if (step < 0) value.fail(Code::mismatch, fmt::format("{} is no count of steps", step));
  return step;
}

std::int64_t read_count(const Value& value) {
  return value.is(Kind::integer) ? value.to<std::int64_t>() : whole(value, read_number(value));
}

bool read_flag(const Value& value) {
  if (value.is(Kind::integer)) return value.to<std::int64_t>() != 0;
  return value.to<bool>();
}

at::Tensor read_tensor(const Value& value, const c10::Device& device) {
  Tensor leaf = value.as_tensor();
  leaf.requires_grad = false;
  return placed(value, [&] { return to_torch(leaf).to(device); });
}

at::Tensor read_tensor_later(const Value& value, const at::Tensor& live, const c10::Device& device,
                             LiveReader* reader) {
  const Tensor& leaf = value.as_tensor();
  if (reader == nullptr || !device.is_cpu()) return read_tensor(value, device);
  return placed(value, [&] {
    if (live.defined() && read_in_place(leaf, live, *reader)) {
      live.unsafeGetTensorImpl()->bump_version();
      return live;
    }
    // Only where bytes are still in a file: strides of a tensor with gaps would ask for more memory than it has
    // elements.
    if (leaf.storage->data() != nullptr) return read_tensor(value, device);
    at::Tensor fresh = at::empty(leaf.sizes, to_scalar_type(leaf.dtype));
    return reader->add_fresh(leaf, detached_leaf(fresh)) ? fresh : read_tensor(value, device);
  });
}

std::optional<Value> StateReader::find(std::string_view name) const {
  std::optional<Value> value = state.find(Value(name));
  if (value && value->is_none()) value.reset();
  return value;
}

}  // namespace torchkeep
