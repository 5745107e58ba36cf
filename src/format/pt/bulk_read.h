// SPDX-License-Identifier: BSD-3-Clause
// Reading many records of a file at once: in the file's order, small neighbours together, large ones in chunks, by
// several threads, each byte once and its CRC while it is in the cache.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/state/storage.h>

#include "zip/zip.h"

namespace torchkeep {

/// One record and what becomes of its bytes.
struct BulkItem {
  const zip::Record* record = nullptr;
  bool verify = true;
  /// Where the bytes go, record->size of them. With a null pointer and Bulk::load they get memory of their own.
  MutableBytes out = {};
  /// Set by Bulk::load: the bytes.
  std::shared_ptr<const std::byte> memory = {};
  /// Set before the first byte of `out` is overwritten (Bulk::fill).
  std::atomic<bool>* overwritten = nullptr;
};

enum class Bulk : std::uint8_t {
  load,   ///< into new memory; small neighbours share a slab of it
  fill,   ///< into BulkItem::out; a small record's bytes only once they were verified
  check,  ///< nowhere: only local headers and CRCs are checked
};

/// Reads the items, all of one zip, in the order of their records in the file. Throws Error (corrupt, io); `out` may
/// hold anything then.
void bulk_read(const zip::Reader& zip, std::vector<BulkItem>& items, Bulk what, unsigned threads);

}  // namespace torchkeep
