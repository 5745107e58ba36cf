// SPDX-License-Identifier: BSD-3-Clause
// Writing the extents of a Plan.
#include "write_plan.h"

#include <algorithm>
#include <cstring>

#include <torchkeep/base/crc32.h>

namespace torchkeep {
namespace {

// Large enough that a system call costs nothing beside its bytes, small enough to stay in the L2 cache between the CRC
// and the write.
constexpr std::uint64_t kBlock = BlockCrcs::kBlock;
// Extents below this size are gathered; larger ones that lie in memory are written from where they are.
constexpr std::uint64_t kGathered = std::uint64_t{64} << 10;

class PlanWriter {
 public:
  PlanWriter(Plan& plan, File& file, const Progress& on_progress)
      : plan_(plan), file_(file), on_progress_(on_progress), crcs_(plan.payloads.size()) {
    buffer_.reserve(kBlock);
  }

  void run() {
    for (const Extent& extent : plan_.extents) {
      if (extent.is_payload)
        write_payload(extent);
      else
        write_literal(extent);
    }
    flush();
  }

 private:
  void write_literal(const Extent& extent) {
    for (; patch_ < plan_.patches.size() && plan_.patches[patch_].literal_offset < extent.index + extent.size;
         ++patch_) {
      const CrcPatch& patch = plan_.patches[patch_];
      std::memcpy(plan_.literals.data() + patch.literal_offset, &crcs_[patch.payload], sizeof(std::uint32_t));
    }
    write(as_bytes(plan_.literals).subspan(extent.index, extent.size));
  }

  void write_payload(const Extent& extent) {
    const Storage& storage = *plan_.payloads[extent.index];
    if (storage.nbytes() < extent.size)
      throw Error(Code::invalid_argument, "a storage that shrank while it was being saved");
    const Bytes memory(storage.data(), storage.data() != nullptr ? static_cast<std::size_t>(extent.size) : 0);
    const std::unique_ptr<StorageReader> reader = memory.empty() ? storage.reader() : nullptr;
    std::uint32_t crc = 0;
    for (std::uint64_t done = 0; done < extent.size;) {
      const std::uint64_t size = std::min(kBlock, extent.size - done);
      if (!memory.empty()) {
        const Bytes block = memory.subspan(done, size);
        crc = crc32(block, crc);
        write(block);
      } else {
        const MutableBytes block = grow_buffer(size);
        reader != nullptr ? reader->read(block) : storage.read(done, block);
        crc = crc32(block, crc);
      }
      note_block(extent.index, done / kBlock, crc);
      done += size;
    }
    crcs_[extent.index] = crc;
  }

  // The CRC of a payload up to the end of its block `i`.
  void note_block(std::uint64_t payload, std::uint64_t i, std::uint32_t crc) {
    const BlockCrcs& blocks = plan_.blocks;
    if (payload >= blocks.first.size() || blocks.first[payload] == BlockCrcs::kNone) return;
    const auto number = std::int64_t{crc};
    std::memcpy(blocks.table->mutable_bytes().data() + (blocks.first[payload] + i) * sizeof(number), &number,
                sizeof(number));
  }

  void write(Bytes bytes) {
    if (bytes.size() < kGathered) {
      const MutableBytes place = grow_buffer(bytes.size());
      if (!bytes.empty()) std::memcpy(place.data(), bytes.data(), bytes.size());
      return;
    }
    flush();
    for (; !bytes.empty(); bytes = bytes.subspan(std::min<std::size_t>(bytes.size(), kBlock))) {
      const Bytes block = bytes.first(std::min<std::size_t>(bytes.size(), kBlock));
      write_block(block);
    }
  }

  void write_block(Bytes block) {
    file_.write_at(position_, block);
    position_ += block.size();
    if (on_progress_) on_progress_(position_, plan_.file_size);
  }

  // Room for `size` bytes (at most a block) behind those gathered so far.
  MutableBytes grow_buffer(std::uint64_t size) {
    if (buffer_.size() + size > kBlock) flush();
    buffer_.resize(buffer_.size() + size);
    return std::span(buffer_).last(size);
  }

  void flush() {
    if (buffer_.empty()) return;
    write_block(buffer_);
    buffer_.clear();
  }

  Plan& plan_;
  File& file_;
  const Progress& on_progress_;
  std::vector<std::uint32_t> crcs_;  // by payload
  std::vector<std::byte> buffer_;    // bytes that follow position_
  std::uint64_t position_ = 0;
  std::size_t patch_ = 0;
};

}  // namespace

void write_plan(Plan& plan, File& file, const Progress& on_progress) {
  PlanWriter(plan, file, on_progress).run();
}

}  // namespace torchkeep
