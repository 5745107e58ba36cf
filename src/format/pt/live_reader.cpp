// SPDX-License-Identifier: BSD-3-Clause
// One fit test, one overlap check, one wording.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <memory>

#include <torchkeep/format/live_reader.h>

namespace torchkeep {
namespace {

std::uintptr_t address_of(MutableBytes memory) {
  return reinterpret_cast<std::uintptr_t>(memory.data());
}

bool is_same(const ReadRequest& a, const ReadRequest& b) {
  return a.storage == b.storage && a.offset == b.offset && a.out.data() == b.out.data() && a.out.size() == b.out.size();
}

bool is_same(const Tensor& a, const Tensor& b) {
  return a.storage == b.storage && a.storage_offset == b.storage_offset && a.strides == b.strides;
}

/// Memory as a tensor of all its bytes.
Tensor bytes_of(MutableBytes memory) {
  Tensor tensor;
  tensor.dtype = DType::uint8;
  tensor.sizes = {static_cast<std::int64_t>(memory.size())};
  tensor.strides = {1};
  tensor.storage = std::make_shared<BorrowedStorage>(memory);
  return tensor;
}

}  // namespace

std::string why_not_in_place(const Tensor& file, const Tensor& live) {
  if (file.is_meta()) return "a meta tensor in the file, which has no values";
  if (live.is_meta()) return "a meta tensor here, which has no memory";
  if (file.dtype != live.dtype) {
    return fmt::format("{} in the file, {} here", to_string(file.dtype), to_string(live.dtype));
  }
  if (file.sizes != live.sizes) {
    return fmt::format("shape [{}] in the file, [{}] here", fmt::join(file.sizes, ", "), fmt::join(live.sizes, ", "));
  }
  if (file.is_conj != live.is_conj || file.is_neg != live.is_neg) return "another conj or neg bit in the file";
  if (file.quantizer != nullptr || live.quantizer != nullptr) return "quantized tensors are not read into place";
  if (live.nbytes() > 0 && live.storage->writable() == nullptr) return "the target's memory cannot be written";
  return {};
}

LiveReader::Added LiveReader::add(const Tensor& file, const Tensor& live) {
  const std::size_t pair = count_++;
  if (live.nbytes() == 0) {
    live.validate();
    return {.is_read = true};
  }
  std::optional<ReadRequest> request = request_in_place(file, live);
  if (request) return add_dense(*std::move(request), live, pair);
  return strides_ == Strides::same ? Added{} : add_scattered(file, live, pair);
}

LiveReader::Added LiveReader::add_dense(ReadRequest request, const Tensor& live, std::size_t pair) {
  const std::uintptr_t begin = address_of(request.out);
  const std::size_t size = request.out.size();
  auto other = dense_.upper_bound(begin);
  if (other != dense_.begin()) --other;
  for (; other != dense_.end() && other->first < begin + size; ++other) {
    if (other->first + other->second.size <= begin) continue;
    if (is_same(requests_[other->second.request], request)) return {.is_read = true};
    return {.clashes = other->second.pair};
  }
  if (const auto clash = scattered_over(live, begin, size)) return {.clashes = clash};
  dense_.emplace(begin, Dense{size, requests_.size(), pair});
  request.overwritten = &overwritten_;
  requests_.push_back(std::move(request));
  return {.is_read = true};
}

LiveReader::Added LiveReader::add_scattered(const Tensor& file, const Tensor& live, std::size_t pair) {
  const MutableBytes memory = live.writable_memory();
  const std::uintptr_t begin = address_of(memory);
  const auto [first, last] = scattered_.equal_range(begin);
  for (auto one = first; one != last; ++one) {
    if (is_same(one->second.file, file) && one->second.live.strides == live.strides) return {.is_read = true};
  }
  auto other = dense_.upper_bound(begin);
  if (other != dense_.begin()) --other;
  for (; other != dense_.end() && other->first < begin + memory.size(); ++other) {
    if (bytes_of(requests_[other->second.request].out).shares_elements(live)) return {.clashes = other->second.pair};
  }
  if (const auto clash = scattered_over(live, begin, memory.size())) return {.clashes = clash};
  longest_ = std::max(longest_, memory.size());
  scattered_.emplace(begin, Scattered{file, live, memory.size(), pair});
  return {.is_read = true};
}

std::optional<std::size_t> LiveReader::scattered_over(const Tensor& live, std::uintptr_t begin,
                                                      std::size_t size) const {
  auto one = scattered_.lower_bound(begin - std::min<std::uintptr_t>(begin, longest_));
  for (; one != scattered_.end() && one->first < begin + size; ++one) {
    if (one->second.live.shares_elements(live)) return one->second.pair;
  }
  return std::nullopt;
}

void LiveReader::add_fresh(StoragePtr storage, MutableBytes memory) {
  requests_.push_back({std::move(storage), 0, memory});
}

bool LiveReader::add_fresh(const Tensor& file, const Tensor& fresh) {
  if (!why_not_in_place(file, fresh).empty()) return false;
  std::optional<ReadRequest> request = request_in_place(file, fresh);
  if (!request) return false;
  requests_.push_back(*std::move(request));
  return true;
}

void LiveReader::read(unsigned threads) {
  try {
    if (!requests_.empty()) read_storages(requests_, threads);
    for (const auto& [begin, pair] : scattered_) {
      const std::string elements = pair.file.contiguous_bytes();
      overwritten_ = true;
      pair.live.write_contiguous(elements);
    }
  } catch (const Error& error) {
    if (!overwritten_) throw;
    throw Error(error.code(), error.message() + "; what it was loaded into is now partly overwritten: do not use it",
                error.where())
        .with_errno(error.system_error())
        .caused_by(error.cause());
  }
}

}  // namespace torchkeep
