// SPDX-License-Identifier: BSD-3-Clause
// Storages that are records of a file: loaded, checked, or read into memory of the caller's, many at once.
#include <map>
#include <vector>

#include <torchkeep/base/parallel.h>
#include <torchkeep/format/record_storage.h>

#include "bulk_read.h"

namespace torchkeep {

class RecordAccess {
 public:
  using Storages = std::span<const std::shared_ptr<RecordStorage>>;

  static void load(Storages storages, unsigned threads) {
    for (auto& [zip, wanted] : by_zip(storages)) {
      std::vector<BulkItem> items = items_of(wanted);
      bulk_read(*zip, items, Bulk::load, threads);
      std::map<const zip::Record*, std::shared_ptr<const std::byte>> loaded;
      // The items were put into the order of the file, and so are the storages of most files.
      bool same_order = true;
      for (std::size_t i = 0; i < items.size(); ++i) same_order = same_order && items[i].record == wanted[i]->record_;
      if (!same_order) {
        for (BulkItem& item : items) loaded.emplace(item.record, std::move(item.memory));
      }
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        finish(*wanted[i], same_order ? std::move(items[i].memory) : loaded[wanted[i]->record_]);
      }
    }
  }

  static void check(Storages storages, unsigned threads) {
    for (auto& [zip, wanted] : by_zip(storages)) {
      std::vector<BulkItem> items = items_of(wanted);
      bulk_read(*zip, items, Bulk::check, threads);
    }
  }

  static void read(std::span<const ReadRequest> requests, unsigned threads) {
    std::map<std::shared_ptr<const zip::Reader>, std::vector<BulkItem>> records;
    std::vector<const ReadRequest*> others;
    for (const ReadRequest& request : requests) {
      const auto* storage = dynamic_cast<const RecordStorage*>(request.storage.get());
      const bool whole = storage != nullptr && storage->zip_ != nullptr && request.offset == 0 &&
                         request.out.size() == storage->nbytes_;
      if (whole)
        records[storage->zip_].push_back({storage->record_, storage->verify_, request.out, {}, request.overwritten});
      else
        others.push_back(&request);
    }
    for (auto& [zip, items] : records) bulk_read(*zip, items, Bulk::fill, threads);
    parallel_for(others.size(), threads, [&](std::uint64_t i) { read_one(*others[i]); });
  }

 private:
  static void read_one(const ReadRequest& request) {
    if (request.overwritten != nullptr) *request.overwritten = true;
    request.storage->read(request.offset, request.out);
  }

  using ByZip = std::map<std::shared_ptr<const zip::Reader>, std::vector<RecordStorage*>>;

  // Those whose bytes are not in memory yet.
  static ByZip by_zip(Storages storages) {
    ByZip result;
    std::vector<RecordStorage*>* last = nullptr;
    const zip::Reader* last_zip = nullptr;
    for (const auto& storage : storages) {
      if (storage->zip_ == nullptr) continue;
      if (storage->zip_.get() != last_zip) {
        last = &result[storage->zip_];
        last_zip = storage->zip_.get();
        last->reserve(storages.size());
      }
      last->push_back(storage.get());
    }
    return result;
  }

  static std::vector<BulkItem> items_of(const std::vector<RecordStorage*>& storages) {
    std::vector<BulkItem> items;
    items.reserve(storages.size());
    for (const RecordStorage* storage : storages) items.push_back({storage->record_, storage->verify_});
    return items;
  }

  static void finish(RecordStorage& storage, std::shared_ptr<const std::byte> memory) {
    storage.memory_ = std::move(memory);
    storage.zip_.reset();
    storage.record_ = nullptr;
  }
};

void load_storages(std::span<const std::shared_ptr<RecordStorage>> storages, unsigned threads) {
  RecordAccess::load(storages, threads);
}

void check_storages(std::span<const std::shared_ptr<RecordStorage>> storages, unsigned threads) {
  RecordAccess::check(storages, threads);
}

std::optional<ReadRequest> request_in_place(const Tensor& file, const Tensor& live) {
  const ByteRange from = file.extent();
  const MutableBytes out = live.writable_memory();
  if (file.dtype != live.dtype || file.sizes != live.sizes || !file.is_dense() || out.size() != from.size)
    return std::nullopt;
  for (std::size_t i = 0; i < file.sizes.size(); ++i) {
    if (file.sizes[i] > 1 && file.strides[i] != live.strides[i]) return std::nullopt;
  }
  return ReadRequest{file.storage, from.begin, out};
}

void read_storages(std::span<const ReadRequest> requests, unsigned threads) {
  RecordAccess::read(requests, threads);
}

}  // namespace torchkeep
