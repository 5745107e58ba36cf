// SPDX-License-Identifier: BSD-3-Clause
// Reads the storages of a file into memory in one pass.
#include <algorithm>
#include <vector>

#include <torchkeep/base/crc32.h>
#include <torchkeep/format/record_storage.h>

#include "zip/records.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

// Records up to this size, headers included, are read with their neighbours into a slab that they then share: they need
// no allocation of their own, and a slab outlives its last storage by little.
constexpr std::uint64_t kSmall = std::uint64_t{32} << 10;
constexpr std::uint64_t kSlab = std::uint64_t{1} << 20;
constexpr std::uint64_t kAlignment = 64;  // payloads keep the alignment in memory that they have in the file

}  // namespace

class StorageLoader {
 public:
  explicit StorageLoader(std::span<const std::shared_ptr<RecordStorage>> storages) {
    order_.reserve(storages.size());
    for (const auto& storage : storages) {
      if (storage->zip_ != nullptr) order_.push_back(storage.get());
    }
    const auto before = [](const RecordStorage* a, const RecordStorage* b) {
      return a->record_->header_offset < b->record_->header_offset;
    };
    if (!std::is_sorted(order_.begin(), order_.end(), before)) std::sort(order_.begin(), order_.end(), before);
  }

  void run() {
    for (std::size_t i = 0; i < order_.size();) {
      const std::size_t end = slab_end(i);
      if (end - i > 1)
        load_slab(std::span(order_).subspan(i, end - i));
      else
        load_one(*order_[i]);
      i = std::max(end, i + 1);
    }
  }

 private:
  static bool is_small(const RecordStorage& storage) {
    const zip::Record& record = *storage.record_;
    return record.method == zip::kMethodStored && record.limit - record.header_offset <= kSmall;
  }

  // The first storage behind `begin` that does not go into a slab with it.
  std::size_t slab_end(std::size_t begin) const {
    std::size_t end = begin;
    while (end < order_.size() && is_small(*order_[end]) &&
           order_[end]->record_->limit - order_[begin]->record_->header_offset <= kSlab) {
      ++end;
    }
    return end;
  }

  static void load_slab(std::span<RecordStorage* const> storages) {
    const std::shared_ptr<const zip::Reader> zip = storages.front()->zip_;
    const std::uint64_t begin = storages.front()->record_->header_offset;
    const std::uint64_t base = begin / kAlignment * kAlignment;
    const std::uint64_t end = storages.back()->record_->limit;
    const auto slab = std::make_shared<OwnedStorage>(end - base);
    const MutableBytes bytes = slab->mutable_bytes();
    zip->file().read_at(begin, bytes.subspan(begin - base));
    for (RecordStorage* storage : storages) {
      const zip::Record& record = *storage->record_;
      const std::uint64_t data = zip->check_local(record, bytes.subspan(record.header_offset - base));
      const MutableBytes payload = bytes.subspan(data - base, record.size);
      if (storage->verify_) zip->check_crc(record, crc32(payload));
      if (data % kAlignment == 0)
        finish(*storage, {slab, payload.data()});
      else
        finish(*storage, copy(payload));
    }
  }

  static void load_one(RecordStorage& storage) {
    const auto memory = std::make_shared<OwnedStorage>(storage.nbytes_);
    storage.zip_->read(*storage.record_, memory->mutable_bytes(), storage.verify_);
    finish(storage, {memory, memory->data()});
  }

  static std::shared_ptr<const std::byte> copy(Bytes bytes) {
    const auto memory = std::make_shared<OwnedStorage>(bytes);
    return {memory, memory->data()};
  }

  static void finish(RecordStorage& storage, std::shared_ptr<const std::byte> memory) {
    storage.memory_ = std::move(memory);
    storage.zip_.reset();
    storage.record_ = nullptr;
  }

  std::vector<RecordStorage*> order_;  // as in the file
};

void load_storages(std::span<const std::shared_ptr<RecordStorage>> storages) {
  StorageLoader(storages).run();
}

}  // namespace torchkeep
