// SPDX-License-Identifier: BSD-3-Clause
// Comparing tensors and values bit for bit, and expecting errors.
#pragma once

#include <cstring>
#include <gtest/gtest.h>
#include <string>

#include <torch/torch.h>

#include <torchkeep/torch.h>

namespace torchkeep {

/// Same dtype, shape, strides and bytes of every element.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && a.strides() == b.strides() &&
         to_leaf(a.detach()).contiguous_bytes() == to_leaf(b.detach()).contiguous_bytes();
}

/// A storage whose bytes cannot be read, like a record of a damaged file.
class BrokenStorage final : public Storage {
 public:
  explicit BrokenStorage(std::uint64_t nbytes) : nbytes_(nbytes) {}
  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  void read(std::uint64_t, MutableBytes) const override { throw Error(Code::corrupt, "CRC-32 is wrong"); }

 private:
  std::uint64_t nbytes_;
};

/// A float tensor that cannot be read.
inline Tensor broken_tensor(std::vector<std::int64_t> sizes) {
  Tensor tensor;
  tensor.sizes = std::move(sizes);
  tensor.strides = contiguous_strides(tensor.sizes);
  tensor.storage = std::make_shared<BrokenStorage>(tensor.nbytes());
  return tensor;
}

/// The Error that `action` throws; a test failure and an empty one when it throws nothing.
template <class Action>
Error error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(Code::io, "");
}

/// Expects an Error of this code whose message contains every one of `words`.
template <class Action, class... Words>
void expect_error(Action&& action, Code code, const Words&... words) {
  const Error error = error_of(std::forward<Action>(action));
  EXPECT_EQ(to_string(error.code()), to_string(code)) << error.what();
  for (const std::string& word : {std::string(words)...}) {
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << "no '" << word << "' in: " << error.what();
  }
}

}  // namespace torchkeep
