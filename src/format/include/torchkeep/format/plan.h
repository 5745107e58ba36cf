// SPDX-License-Identifier: BSD-3-Clause
// A Plan: how a Value becomes a file, with every size known before the first byte is written.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torchkeep/state/storage.h>

namespace torchkeep {

/// A little-endian u32 inside Plan::literals that receives the CRC-32 of a payload once that has been written.
struct CrcPatch {
  std::uint64_t literal_offset;  ///< where in Plan::literals
  std::uint32_t payload;         ///< index into Plan::payloads
};

/// CRC-32s of the first MiB of a payload, of its first two MiB, and so on to its end, so that each MiB can be checked
/// by itself: the CRC of its bytes that continues from the number before it is the next number.
struct BlockCrcs {
  static constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  /// int64 each; filled in while the payloads are written, and itself one of the payloads behind them. Null: none.
  std::shared_ptr<OwnedStorage> table;
  std::vector<std::uint64_t> first;  ///< by payload: which number is that of its first MiB; kNone
};

/// One run of bytes of the file: literal bytes of the plan, or the bytes of a payload.
struct Extent {
  std::uint64_t file_offset;
  std::uint64_t size;
  /// Literal: where in Plan::literals it begins. Payload: index into Plan::payloads.
  std::uint64_t index;
  bool is_payload;
};

/// The extents of one file, ascending and without gaps. Extents before a payload never hold that payload's CRC, so a
/// writer may go from front to back, or write all payloads first (from several threads) and the literals at the end.
struct Plan {
  std::vector<Extent> extents;
  std::string literals;              ///< all headers, the pickle, padding, directory: one buffer
  std::vector<CrcPatch> patches;     ///< ascending by literal_offset
  std::vector<StoragePtr> payloads;  ///< in file order
  std::uint64_t file_size = 0;
  BlockCrcs blocks = {};
};

}  // namespace torchkeep
