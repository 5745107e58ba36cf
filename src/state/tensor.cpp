// SPDX-License-Identifier: BSD-3-Clause
// Strided views: sizes, bounds, and reading elements in row-major order.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <numeric>

#include <torchkeep/base/checked.h>
#include <torchkeep/state/tensor.h>

namespace torchkeep {
namespace {

[[noreturn]] void corrupt(std::string message) {
  throw Error(Code::corrupt, std::move(message));
}

// Elements from the first one to the last one that is looked at; 0 when there are none.
std::uint64_t reach(const Tensor& tensor) {
  if (std::find(tensor.sizes.begin(), tensor.sizes.end(), 0) != tensor.sizes.end()) return 0;
  std::optional<std::int64_t> last = 0;
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    const auto span = checked_mul(tensor.sizes[i] - 1, tensor.strides[i]);
    if (span && last) last = checked_add(*last, *span);
    if (!span || !last) corrupt("the tensor's strides overflow 64 bits");
  }
  if (!checked_add(tensor.storage_offset, *last)) corrupt("the tensor's strides overflow 64 bits");
  return static_cast<std::uint64_t>(*last) + 1;
}

// Calls `row(place, count, stride)` for every row of the innermost dimension, in row-major order: `place` counts
// elements from the first one, `stride` is the step along the row.
template <class Row>
void for_each_row(const Tensor& tensor, Row&& row) {
  if (tensor.numel() == 0) return;
  if (tensor.sizes.empty()) return row(std::int64_t{0}, std::int64_t{1}, std::int64_t{1});
  std::vector<std::int64_t> index(tensor.sizes.size(), 0);
  std::int64_t place = 0;
  const std::size_t inner = tensor.sizes.size() - 1;
  // Nothing steps along a dimension of size 1, whose stride may be any number.
  const auto stride = [&tensor](std::size_t d) { return tensor.sizes[d] == 1 ? 0 : tensor.strides[d]; };
  for (;;) {
    row(place, tensor.sizes[inner], stride(inner));
    std::size_t d = inner;
    while (d-- > 0) {
      place += stride(d);
      if (++index[d] < tensor.sizes[d]) break;
      place -= stride(d) * tensor.sizes[d];
      index[d] = 0;
    }
    if (d == static_cast<std::size_t>(-1)) return;
  }
}

// Copies the elements of a view to where they are contiguous. `memory` begins with the first one.
void gather(const Tensor& tensor, Bytes memory, char* out) {
  const std::size_t item = itemsize(tensor.dtype);
  for_each_row(tensor, [&](std::int64_t place, std::int64_t count, std::int64_t stride) {
    const std::byte* from = memory.data() + static_cast<std::uint64_t>(place) * item;
    const std::int64_t step = stride * static_cast<std::int64_t>(item);
    for (std::int64_t i = 0; i < count; ++i, from += step, out += item) std::memcpy(out, from, item);
  });
}

}  // namespace

Tensor Tensor::from_bytes(DType dtype, std::vector<std::int64_t> sizes, Bytes bytes) {
  Tensor tensor;
  tensor.dtype = dtype;
  tensor.sizes = std::move(sizes);
  tensor.strides = contiguous_strides(tensor.sizes);
  std::optional<std::uint64_t> wanted = itemsize(dtype);
  for (const std::int64_t size : tensor.sizes) {
    if (size < 0)
      throw Error(Code::invalid_argument, fmt::format("negative size in shape [{}]", fmt::join(tensor.sizes, ", ")));
    if (wanted) wanted = checked_mul(*wanted, static_cast<std::uint64_t>(size));
  }
  if (wanted != bytes.size()) {
    throw Error(Code::invalid_argument, fmt::format("{} bytes given for a {} tensor of shape [{}]", bytes.size(),
                                                    to_string(dtype), fmt::join(tensor.sizes, ", ")));
  }
  tensor.storage = std::make_shared<OwnedStorage>(bytes);
  return tensor;
}

std::int64_t Tensor::numel() const noexcept {
  std::uint64_t count = 1;  // unsigned: a hostile shape may wrap before a zero ends it
  for (const std::int64_t size : sizes) count *= static_cast<std::uint64_t>(size);
  return static_cast<std::int64_t>(count);
}

bool Tensor::is_contiguous() const noexcept {
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return true;
  std::uint64_t expected = 1;  // unsigned: a shape that nobody has validated may wrap
  for (std::size_t i = sizes.size(); i-- > 0;) {
    if (sizes[i] != 1 && static_cast<std::uint64_t>(strides[i]) != expected) return false;
    expected *= static_cast<std::uint64_t>(sizes[i]);
  }
  return true;
}

bool Tensor::is_dense() const {
  if (is_contiguous()) return true;
  std::vector<std::size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return strides[a] < strides[b]; });
  std::uint64_t expected = 1;  // unsigned: a shape that nobody has validated may wrap
  for (const std::size_t i : order) {
    if (sizes[i] == 1) continue;
    if (static_cast<std::uint64_t>(strides[i]) != expected) return false;
    expected *= static_cast<std::uint64_t>(sizes[i]);
  }
  return true;
}

std::string Tensor::contiguous_bytes() const {
  const ByteRange extent = this->extent();
  std::string bytes(static_cast<std::size_t>(nbytes()), '\0');
  if (bytes.empty()) return bytes;
  if (is_contiguous()) {
    storage->read(extent.begin, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }
  Bytes from = memory();
  std::string copy;
  if (from.empty()) {
    copy.resize(static_cast<std::size_t>(extent.size));
    storage->read(extent.begin, std::as_writable_bytes(std::span(copy)));
    from = as_bytes(copy);
  }
  gather(*this, from, bytes.data());
  return bytes;
}

void Tensor::write_contiguous(std::string_view elements) const {
  const MutableBytes memory = writable_memory();
  if (elements.size() != nbytes() || memory.empty() != elements.empty()) {
    throw Error(Code::invalid_argument, fmt::format("{} bytes for a tensor of {} bytes, or none that can be written",
                                                    elements.size(), nbytes()));
  }
  const std::size_t item = itemsize(dtype);
  const char* from = elements.data();
  for_each_row(*this, [&](std::int64_t place, std::int64_t count, std::int64_t stride) {
    std::byte* to = memory.data() + static_cast<std::uint64_t>(place) * item;
    const std::int64_t step = stride * static_cast<std::int64_t>(item);
    for (std::int64_t i = 0; i < count; ++i, to += step, from += item) std::memcpy(to, from, item);
  });
}

bool Tensor::shares_elements(const Tensor& other) const {
  const MutableBytes mine = writable_memory();
  const MutableBytes theirs = other.writable_memory();
  const std::byte* const begin = std::max(mine.data(), theirs.data());
  const std::byte* const end = std::min(mine.data() + mine.size(), theirs.data() + theirs.size());
  if (mine.empty() || theirs.empty() || begin >= end) return false;
  std::vector<bool> taken(static_cast<std::size_t>(end - begin));
  bool met = false;
  // Bytes of an element that lie in both tensors' extents: marked by the first tensor, met by the second.
  const auto visit = [&](const Tensor& tensor, const std::byte* base, auto&& at) {
    const auto item = static_cast<std::int64_t>(itemsize(tensor.dtype));
    for_each_row(tensor, [&](std::int64_t place, std::int64_t count, std::int64_t stride) {
      for (std::int64_t i = 0; i < count; ++i) {
        const std::byte* const element = base + (place + i * stride) * item;
        for (const std::byte* one = std::max(element, begin); one < std::min(element + item, end); ++one) {
          at(static_cast<std::size_t>(one - begin));
        }
      }
    });
  };
  visit(*this, mine.data(), [&](std::size_t i) { taken[i] = true; });
  visit(other, theirs.data(), [&](std::size_t i) { met = met || taken[i]; });
  return met;
}

ByteRange Tensor::extent() const {
  validate();
  if (is_meta()) throw Error(Code::unsupported, "a meta tensor has no values");
  const std::uint64_t elements = reach(*this);
  if (elements == 0) return {};
  return {static_cast<std::uint64_t>(storage_offset) * itemsize(dtype), elements * itemsize(dtype)};
}

Bytes Tensor::memory() const {
  const ByteRange extent = this->extent();
  const std::byte* const data = storage->data();
  if (extent.size == 0 || data == nullptr) return {};
  return Bytes(data, static_cast<std::size_t>(storage->nbytes())).subspan(extent.begin, extent.size);
}

MutableBytes Tensor::writable_memory() const {
  const ByteRange extent = this->extent();
  std::byte* const data = storage->writable();
  if (extent.size == 0 || data == nullptr) return {};
  return MutableBytes(data, static_cast<std::size_t>(storage->nbytes())).subspan(extent.begin, extent.size);
}

void Tensor::validate() const {
  if (sizes.size() != strides.size()) corrupt(fmt::format("{} sizes but {} strides", sizes.size(), strides.size()));
  if (storage_offset < 0) corrupt(fmt::format("negative storage offset {}", storage_offset));
  std::optional<std::int64_t> count = 1;
  bool has_elements = true;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 0 || strides[i] < 0) corrupt(fmt::format("negative size or stride in dimension {}", i));
    has_elements = has_elements && sizes[i] != 0;
    if (count) count = checked_mul(*count, sizes[i]);
  }
  if (has_elements && (!count || !checked_mul(static_cast<std::uint64_t>(*count), std::uint64_t{itemsize(dtype)}))) {
    corrupt(fmt::format("shape [{}] overflows 64 bits", fmt::join(sizes, ", ")));
  }
  if (!storage) corrupt("the tensor has no storage");
  const std::uint64_t elements = reach(*this);
  if (is_meta()) {
    if (!checked_mul(elements, std::uint64_t{itemsize(dtype)})) corrupt("the tensor's strides overflow 64 bits");
    return;
  }
  const std::uint64_t available = storage->nbytes() / itemsize(dtype);
  const std::uint64_t needed = elements == 0 ? 0 : static_cast<std::uint64_t>(storage_offset) + elements;
  if (needed > available) {
    corrupt(fmt::format("a {} tensor of shape [{}], strides [{}], offset {} needs {} elements, its storage has {}",
                        to_string(dtype), fmt::join(sizes, ", "), fmt::join(strides, ", "), storage_offset, needed,
                        available));
  }
}

std::vector<std::int64_t> contiguous_strides(std::span<const std::int64_t> sizes) {
  std::vector<std::int64_t> strides(sizes.size());
  std::int64_t stride = 1;
  for (std::size_t i = sizes.size(); i-- > 0;) {
    strides[i] = stride;
    // Wrapping on purpose: an absurd shape is refused by validate(), not here.
    stride = static_cast<std::int64_t>(static_cast<std::uint64_t>(stride) *
                                       static_cast<std::uint64_t>(sizes[i] == 0 ? 1 : sizes[i]));
  }
  return strides;
}

void detail::throw_dtype_mismatch(DType actual, DType wanted) {
  throw Error(Code::mismatch, fmt::format("expected a {} tensor, found {}", to_string(wanted), to_string(actual)));
}

}  // namespace torchkeep
