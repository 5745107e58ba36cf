// SPDX-License-Identifier: BSD-3-Clause
// Blocks of a chunk, the last of which is kept.
#include "chunk_blocks.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include <torchkeep/base/crc32.h>
#include <torchkeep/format/plan.h>

namespace torchkeep::dcp {
namespace {

constexpr std::uint64_t kBlock = BlockCrcs::kBlock;

}  // namespace

ChunkBlocks::ChunkBlocks(const OpenFolder& opened, const MetaEntry& entry, std::size_t chunk)
    : opened_(opened),
      entry_(entry),
      chunk_(chunk),
      nbytes_(static_cast<std::uint64_t>(*element_count(entry.chunks[chunk].size)) * itemsize(entry.dtype)),
      bytes_(find_chunk(*opened.source, entry, chunk, entry.places[chunk])),
      has_blocks_(!entry.known.empty()),
      reads_all_(!has_blocks_ && bytes_.memory == nullptr && bytes_.crc != 0 && opened.source->options.verify) {
  if (bytes_.memory == nullptr) file_ = open_data(*opened.source, entry.places[chunk], entry.fqn);
}

std::uint64_t ChunkBlocks::size_of(std::uint64_t block) const noexcept {
  return std::min(kBlock, nbytes_ - block * kBlock);
}

void ChunkBlocks::read(std::uint64_t begin, MutableBytes out) {
  if (bytes_.memory != nullptr) {
    std::memcpy(out.data(), bytes_.memory->data() + begin, out.size());
    return;
  }
  while (!out.empty()) {
    const std::uint64_t block = begin / kBlock, inside = begin % kBlock;
    const std::size_t size = std::min<std::uint64_t>(out.size(), size_of(block) - inside);
    if (size == size_of(block)) {
      fetch(block, out.first(size));
    } else {
      if (buffered_ != block) {
        buffer_.resize(static_cast<std::size_t>(size_of(block)));
        fetch(block, buffer_);
        buffered_ = block;
      }
      std::memcpy(out.data(), buffer_.data() + inside, size);
    }
    begin += size;
    out = out.subspan(size);
  }
}

void ChunkBlocks::fetch(std::uint64_t block, MutableBytes out) {
  if (reads_all_) pass_over(block);
  file_->read_at(bytes_.begin + block * kBlock, out);
  if (has_blocks_ && opened_.source->options.verify) return check(block, out);
  if (!reads_all_) return;
  crc_ = crc32(out, crc_);
  next_ = block + 1;
}

// A block continues the CRC-32 of those before it.
void ChunkBlocks::check(std::uint64_t block, Bytes bytes) const {
  const ChunkPlace& known = entry_.known[chunk_];
  std::uint32_t before = 0, expected = known.crc;
  if (known.number != BlockCrcs::kNone) {
    const auto numbers = opened_.tails->numbers(entry_.places[chunk_].file).subspan(known.number);
    before = block == 0 ? 0 : numbers[block - 1];
    expected = numbers[block];
  }
  const std::uint32_t crc = crc32(bytes, before);
  if (crc == expected) return;
  const ItemPlace& place = entry_.places[chunk_];
  throw at_item(
      Error(Code::corrupt,
            fmt::format("CRC-32 is {:08x}, and {:08x} was saved: bytes {} to {} of chunk {}, of rank {}, have "
                        "changed",
                        crc, expected, block * kBlock, block * kBlock + bytes.size(), to_string(entry_.chunks[chunk_]),
                        opened_.manifest->files[place.file].rank)),
      *opened_.source, place, entry_.fqn);
}

// Reads the blocks before `end` that nobody wanted.
void ChunkBlocks::pass_over(std::uint64_t end) {
  std::vector<std::byte> block;
  for (; next_ < end; ++next_) {
    block.resize(static_cast<std::size_t>(size_of(next_)));
    file_->read_at(bytes_.begin + next_ * kBlock, block);
    crc_ = crc32(block, crc_);
  }
}

void ChunkBlocks::finish() {
  if (!reads_all_) return;
  pass_over((nbytes_ + kBlock - 1) / kBlock);
  check_crc(*opened_.source, entry_, chunk_, bytes_, crc_);
}

}  // namespace torchkeep::dcp
