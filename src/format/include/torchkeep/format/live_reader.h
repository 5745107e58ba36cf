// SPDX-License-Identifier: BSD-3-Clause
// Tensors of a file straight into live memory: the one place that says what fits, what overlaps, and how it is read.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/format/record_storage.h>

namespace torchkeep {

/// Why a file's tensor cannot be read into the memory of a live one; empty when it can.
std::string why_not_in_place(const Tensor& file, const Tensor& live);

/// Collects tensors of a file and the live ones that are to get their bytes; then reads all of them at once.
class LiveReader {
 public:
  /// Which live tensors are read into.
  enum class Strides {
    any,  ///< all; where elements lie otherwise than in the file, they are put in place one by one
    same  ///< only those whose elements lie as in the file, so that the bytes go straight there
  };
  explicit LiveReader(Strides strides = Strides::any) : strides_(strides) {}
  LiveReader(const LiveReader&) = delete;  // requests point into it
  LiveReader& operator=(const LiveReader&) = delete;

  /// What became of a pair.
  struct Added {
    bool is_read = false;                  ///< read() fills the live one, for this pair or an equal one of before
    std::optional<std::size_t> clashes{};  ///< number of the pair that gives some of that memory other bytes
  };
  /// Adds a pair for which why_not_in_place() is empty. Pairs are numbered in their order, from 0. Where a pair is not
  /// read, the caller needs a copy. Throws what Tensor::extent() throws, of either.
  Added add(const Tensor& file, const Tensor& live);
  /// Adds a whole storage, and memory of the caller's that nothing else looks at yet.
  void add_fresh(StoragePtr storage, MutableBytes memory);
  /// The same for a tensor that nothing else looks at yet. False, and nothing is read, where its elements do not lie as
  /// in the file.
  bool add_fresh(const Tensor& file, const Tensor& fresh);

  /// Reads everything, in the order of the file and by at most `threads` threads (0: one per core); checksums are
  /// checked on the way. Once. An Error says that the live tensors are partly overwritten where that is so.
  void read(unsigned threads = 0);

 private:
  /// Memory that a request fills to the last byte.
  struct Dense {
    std::size_t size;     ///< bytes
    std::size_t request;  ///< its place in requests_
    std::size_t pair;     ///< its number
  };
  /// A pair whose elements do not lie as they do in the file.
  struct Scattered {
    Tensor file;
    Tensor live;
    std::size_t size;  ///< bytes from the live tensor's first element to its last
    std::size_t pair;  ///< its number
  };

  Added add_dense(ReadRequest request, const Tensor& live, std::size_t pair);
  Added add_scattered(const Tensor& file, const Tensor& live, std::size_t pair);
  /// The number of the scattered pair that has elements in common with `live`, which begins at `begin`.
  std::optional<std::size_t> scattered_over(const Tensor& live, std::uintptr_t begin, std::size_t size) const;

  Strides strides_;
  std::size_t count_ = 0;  ///< of pairs
  std::vector<ReadRequest> requests_;
  std::map<std::uintptr_t, Dense> dense_;               ///< by where it begins; disjoint
  std::multimap<std::uintptr_t, Scattered> scattered_;  ///< extents may overlap, elements do not
  std::size_t longest_ = 0;                             ///< the largest Scattered::size
  std::atomic<bool> overwritten_ = false;
};

}  // namespace torchkeep
