// SPDX-License-Identifier: BSD-3-Clause
// One fit test, one overlap check, one wording.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <tuple>

#include <torchkeep/format/live_reader.h>

namespace torchkeep {

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
  const std::size_t number = count_++;
  if (live.nbytes() == 0) {
    live.validate();
    return {.is_read = true};
  }
  std::optional<ReadRequest> request = request_in_place(file, live);
  if (!request && strides_ == Strides::same) return {};
  const MutableBytes memory = live.writable_memory();
  Pair pair{file, live, number, reinterpret_cast<std::uintptr_t>(memory.data()), memory.size()};
  if (const Pair* const other = meeting(pair, request.has_value())) {
    if (is_same(*other, pair)) return {.is_read = true};
    return {.clashes = other->number};
  }
  if (request) {
    request->overwritten = &overwritten_;
    requests_.push_back(*std::move(request));
    dense_.emplace(pair.begin, std::move(pair));
  } else {
    longest_ = std::max(longest_, pair.size);
    scattered_.emplace(pair.begin, std::move(pair));
  }
  return {.is_read = true};
}

/// A pair of before that gets some of the same memory.
const LiveReader::Pair* LiveReader::meeting(const Pair& wanted, bool is_dense) const {
  const std::uintptr_t end = wanted.begin + wanted.size;
  auto one = dense_.upper_bound(wanted.begin);
  if (one != dense_.begin()) --one;
  for (; one != dense_.end() && one->first < end; ++one) {
    if (one->first + one->second.size <= wanted.begin) continue;
    // Both without gaps: what overlaps meets.
    if (is_dense || one->second.live.shares_elements(wanted.live)) return &one->second;
  }
  one = scattered_.lower_bound(wanted.begin - std::min<std::uintptr_t>(wanted.begin, longest_));
  for (; one != scattered_.end() && one->first < end; ++one) {
    if (is_same(one->second, wanted) || one->second.live.shares_elements(wanted.live)) return &one->second;
  }
  return nullptr;
}

bool LiveReader::is_same(const Pair& a, const Pair& b) {
  const auto layout = [](const Tensor& one) { return std::tie(one.storage_offset, one.sizes, one.strides); };
  return a.file.storage == b.file.storage && layout(a.file) == layout(b.file) && a.begin == b.begin &&
         a.live.strides == b.live.strides;
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
