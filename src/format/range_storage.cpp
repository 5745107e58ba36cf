// SPDX-License-Identifier: BSD-3-Clause
// Storages of files that are not zips, and of big-endian ones.
#include "range_storage.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace torchkeep::detail {
namespace {

void check_range(const Storage& storage, std::uint64_t offset, std::uint64_t size) {
  if (offset <= storage.nbytes() && size <= storage.nbytes() - offset) return;
  throw Error(Code::invalid_argument,
              fmt::format("bytes [{}, +{}) lie outside a storage of {} bytes", offset, size, storage.nbytes()));
}

}  // namespace

void swap_bytes(MutableBytes bytes, std::size_t size) noexcept {
  if (size < 2) return;
  for (auto number = bytes.begin(); number != bytes.end(); number += static_cast<std::ptrdiff_t>(size)) {
    std::reverse(number, number + static_cast<std::ptrdiff_t>(size));
  }
}

void RangeStorage::read(std::uint64_t offset, MutableBytes out) const {
  check_range(*this, offset, out.size());
  if (!out.empty()) file_->read_at(begin_ + offset, out);
}

void SwappedStorage::set_dtype(DType dtype) {
  const std::size_t size = info(dtype).component_size;
  if (size_ != 0 && size_ != size) {
    throw Error(Code::unsupported,
                fmt::format("a storage of a big-endian file holds numbers of {} bytes and of {} bytes", size_, size));
  }
  size_ = size;
}

void SwappedStorage::read(std::uint64_t offset, MutableBytes out) const {
  check_range(*this, offset, out.size());
  const std::uint64_t size = std::max<std::size_t>(size_, 1);
  const std::uint64_t begin = offset / size * size;
  const std::uint64_t end = std::min((offset + out.size() + size - 1) / size * size, nbytes());
  if (begin == offset && end == offset + out.size()) {
    base_->read(offset, out);
    return swap_bytes(out.first(out.size() / size * size), size);
  }
  std::string whole(static_cast<std::size_t>(end - begin), '\0');
  const auto numbers = std::as_writable_bytes(std::span(whole));
  base_->read(begin, numbers);
  swap_bytes(numbers.first(numbers.size() / size * size), size);
  std::memcpy(out.data(), whole.data() + (offset - begin), out.size());
}

}  // namespace torchkeep::detail
