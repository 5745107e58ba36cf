// SPDX-License-Identifier: BSD-3-Clause
// Reading many records of a file at once.
#include "bulk_read.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include <torchkeep/base/crc32.h>
#include <torchkeep/base/parallel.h>

#include "zip/records.h"

namespace torchkeep {
namespace {

// Records up to this size, headers included, are read with their neighbours into a slab that they then share: they need
// no allocation of their own, and a slab outlives its last storage by little.
constexpr std::uint64_t kSmall = std::uint64_t{32} << 10;
constexpr std::uint64_t kSlab = std::uint64_t{1} << 20;
constexpr std::uint64_t kAlignment = 64;  // payloads keep the alignment in memory that they have in the file
// What one thread reads of a record at a time: enough to make handing out cheap, little enough to keep all threads
// busy.
constexpr std::uint64_t kChunk = std::uint64_t{8} << 20;
// What is read and then checked at once: small enough to be in the L2 cache still.
constexpr std::uint64_t kBlock = std::uint64_t{256} << 10;
// The same where it comes from the disk, which wants large requests, and several at once.
constexpr std::uint64_t kColdBlock = std::uint64_t{1} << 20;
constexpr unsigned kColdThreads = 4;

bool is_small(const BulkItem& item) {
  const zip::Record& record = *item.record;
  return record.method == zip::kMethodStored && record.limit - record.header_offset <= kSmall;
}

/// A record that is read in chunks, by whoever has time.
struct Large {
  BulkItem* item = nullptr;
  std::shared_ptr<OwnedStorage> memory;
  std::uint64_t data = 0;           // offset of the payload in the file
  std::vector<std::uint32_t> crcs;  // of the chunks
  std::atomic<std::size_t> remaining{0};

  std::uint64_t size() const { return item->record->size; }
  std::uint64_t chunk_size(std::size_t chunk) const { return std::min(kChunk, size() - chunk * kChunk); }
};

/// What one thread does in one go: a chunk of a large record, or neighbouring small ones.
struct Task {
  Large* large = nullptr;
  std::size_t begin = 0;  // chunk, or first item
  std::size_t end = 0;    // behind the last item
};

class BulkReader {
 public:
  BulkReader(const zip::Reader& zip, std::vector<BulkItem>& items, Bulk what) : zip_(zip), items_(items), what_(what) {}

  void run(unsigned threads) {
    plan();
    if (threads == 0) threads = usable_cores();
    if (threads > 1 && is_cold()) threads = std::max(threads, kColdThreads);  // most of them wait
    parallel_for(tasks_.size(), threads, [this](std::uint64_t i) { work(tasks_[i]); });
  }

 private:
  /// Whether the first bytes are.
  bool is_cold() const {
    if (items_.empty()) return false;
    const std::uint64_t begin = items_.front().record->header_offset;
    return zip_.file().is_cold(begin, std::min(zip_.file().size() - begin, kChunk));
  }

  void plan() {
    for (std::size_t i = 0; i < items_.size();) {
      const std::size_t end = slab_end(i);
      if (end > i)
        tasks_.push_back({nullptr, i, end});
      else
        plan_large(items_[i]);
      i = std::max(end, i + 1);
    }
  }

  // The first item behind `begin` that does not go into a slab with it.
  std::size_t slab_end(std::size_t begin) const {
    std::size_t end = begin;
    while (end < items_.size() && is_small(items_[end]) &&
           items_[end].record->limit - items_[begin].record->header_offset <= kSlab) {
      ++end;
    }
    return end;
  }

  void plan_large(BulkItem& item) {
    Large& large = *larges_.emplace_back(std::make_unique<Large>());
    large.item = &item;
    if (item.record->method != zip::kMethodStored) {
      tasks_.push_back({&large, 0, 0});
      return;
    }
    large.data = zip_.locate(*item.record);
    const auto chunks = static_cast<std::size_t>((item.record->size + kChunk - 1) / kChunk);
    large.crcs.resize(chunks);
    large.remaining = chunks;
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) tasks_.push_back({&large, chunk, 0});
    if (what_ == Bulk::load) allocate(large);
  }

  void allocate(Large& large) const {
    large.memory = std::make_shared<OwnedStorage>(large.size());
    large.item->out = large.memory->mutable_bytes();
    large.item->memory = {large.memory, large.memory->data()};
  }

  void work(const Task& task) {
    if (task.large == nullptr)
      read_slab(std::span(items_).subspan(task.begin, task.end - task.begin));
    else if (task.large->item->record->method != zip::kMethodStored)
      inflate(*task.large);
    else
      read_chunk(*task.large, task.begin);
  }

  void inflate(Large& large) const {
    if (what_ != Bulk::fill) allocate(large);
    note_overwriting(*large.item);
    zip_.read(*large.item->record, large.item->out, large.item->verify);
    if (what_ == Bulk::check) large.item->memory.reset(), large.memory.reset();
  }

  void read_chunk(Large& large, std::size_t chunk) const {
    const std::uint64_t begin = chunk * kChunk;
    const std::uint64_t size = large.chunk_size(chunk);
    const std::uint64_t most = zip_.file().is_cold(large.data + begin, size) ? kColdBlock : kBlock;
    std::uint32_t crc = 0;
    for (std::uint64_t done = 0; done < size;) {
      const auto count = static_cast<std::size_t>(std::min(most, size - done));
      const Bytes block = read_block(large, begin + done, count);
      if (large.item->verify) crc = crc32(block, crc);
      done += count;
    }
    large.crcs[chunk] = crc;
    if (large.remaining.fetch_sub(1) == 1 && large.item->verify) zip_.check_crc(*large.item->record, whole_crc(large));
  }

  Bytes read_block(const Large& large, std::uint64_t begin, std::size_t count) const {
    if (what_ == Bulk::check) return zip_.file().look_at(large.data + begin, count);
    const MutableBytes block = large.item->out.subspan(begin, count);
    note_overwriting(*large.item);
    zip_.file().read_at(large.data + begin, block);
    return block;
  }

  static void note_overwriting(const BulkItem& item) {
    if (item.overwritten != nullptr) *item.overwritten = true;
  }

  static std::uint32_t whole_crc(const Large& large) {
    std::uint32_t crc = large.crcs[0];
    for (std::size_t i = 1; i < large.crcs.size(); ++i) {
      crc = crc32_combine(crc, large.crcs[i], large.chunk_size(i));
    }
    return crc;
  }

  void read_slab(std::span<BulkItem> items) const {
    const std::uint64_t begin = items.front().record->header_offset;
    const std::uint64_t base = begin / kAlignment * kAlignment;
    const std::uint64_t end = items.back().record->limit;
    const auto slab = what_ == Bulk::load ? std::make_shared<OwnedStorage>(end - base) : nullptr;
    const MutableBytes bytes = slab ? slab->mutable_bytes() : scratch(static_cast<std::size_t>(end - base));
    zip_.file().read_at(begin, bytes.subspan(begin - base));
    for (BulkItem& item : items) {
      const zip::Record& record = *item.record;
      const std::uint64_t data = zip_.check_local(record, bytes.subspan(record.header_offset - base));
      const MutableBytes payload = bytes.subspan(data - base, record.size);
      if (item.verify) zip_.check_crc(record, crc32(payload));
      deliver(item, payload, slab, data % kAlignment == 0);
    }
  }

  void deliver(BulkItem& item, MutableBytes payload, const std::shared_ptr<OwnedStorage>& slab, bool aligned) const {
    if (what_ == Bulk::fill && !payload.empty()) {
      note_overwriting(item);
      std::memcpy(item.out.data(), payload.data(), payload.size());
    }
    if (what_ != Bulk::load) return;
    const auto owner = aligned ? slab : std::make_shared<OwnedStorage>(Bytes(payload));
    item.memory = {owner, aligned ? payload.data() : owner->data()};
  }

  /// Memory of this thread; the last call's is gone.
  static MutableBytes scratch(std::size_t size) {
    thread_local std::vector<std::byte> memory;
    if (memory.size() < size) memory.resize(size);
    return {memory.data(), size};
  }

  const zip::Reader& zip_;
  std::vector<BulkItem>& items_;
  Bulk what_;
  std::vector<std::unique_ptr<Large>> larges_;
  std::vector<Task> tasks_;
};

}  // namespace

void bulk_read(const zip::Reader& zip, std::vector<BulkItem>& items, Bulk what, unsigned threads) {
  const auto before = [](const BulkItem& a, const BulkItem& b) {
    return a.record->header_offset < b.record->header_offset;
  };
  if (!std::is_sorted(items.begin(), items.end(), before)) std::sort(items.begin(), items.end(), before);
  BulkReader(zip, items, what).run(threads);
}

}  // namespace torchkeep
