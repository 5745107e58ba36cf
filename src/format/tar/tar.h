// SPDX-License-Identifier: BSD-3-Clause
// The tar archive that torch.save wrote before PyTorch 0.1.10.
//
//   member `storages`  pickle: n, then n times: pickle (key, location, class); i64 numel; the elements
//                      pickle: [(key of the view, key of its storage, first element, number of elements), ...]
//   member `tensors`   pickle: n, then n times: pickle (key, key of the storage, class); i32 dimensions; 4 bytes that
//                      mean nothing; sizes and strides, i64 each; i64 offset
//   member `pickle`    the object; a persistent id is the key of a tensor or storage, or a tuple that begins with a
//   class
//
// Keys are ints (addresses). A member is a 512-byte header and its bytes, padded to 512; two zero blocks end the file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <torchkeep/format/pt.h>

namespace torchkeep::tar {

inline constexpr std::uint64_t kBlock = 512;
// In a header: name 0 (100 bytes), size 124 (12, octal text), checksum 148 (8), type 156, "ustar" 257, prefix 345
// (155).

/// Whether these first bytes of a file are a tar header.
bool is_tar(Bytes start) noexcept;

OpenedFile read(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth);

/// Where a member's bytes lie.
struct Member {
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
};

/// The member of each of the three names. Throws Error (corrupt) for a broken archive or a missing member, (refused)
/// for names twice and paths that leave the folder. `hidden` says what no reader looks at: other members, and bytes
/// where only padding belongs.
struct Members {
  Member storages, tensors, pickle;
  std::vector<std::string> hidden;
};
Members find_members(const ReadAt& file);

}  // namespace torchkeep::tar
