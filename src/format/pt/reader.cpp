// SPDX-License-Identifier: BSD-3-Clause
// Opens a torch.save zip: finds its records, runs its pickle, and gives the tensors their records as storages.
#include <algorithm>
#include <cstdlib>
#include <fmt/format.h>
#include <map>
#include <unordered_map>

#include <torchkeep/format/pt.h>

#include "kind.h"
#include "open/open.h"
#include "range_storage.h"
#include "show.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

constexpr std::uint64_t kMaxNoteBytes = 64;  // of version, byteorder and their like
constexpr long kNewestVersion = 10;          // of the container, as PyTorch 2.13 accepts it

[[noreturn]] void fail(const ReadAt& file, Code code, std::string message) {
  throw Error(code, std::move(message), {.file = file.name(), .record = {}, .offset = {}, .key = {}});
}

class PtReader {
 public:
  PtReader(std::shared_ptr<const ReadAt> file, const PtReadOptions& options)
      : options_(options), zip_(std::make_shared<zip::Reader>(std::move(file), options.limits, options.map)) {}

  OpenedFile run(int depth) && {
    OpenedFile opened;
    opened.format = pt::classify(*zip_);
    note_others(pt::check_names(*zip_, opened.format), opened.notes);
    check_version();
    is_big_endian_ = read_byte_order() == "big";
    check_other_notes();
    const LargeVector<std::byte> pickle = read_pickle();
    pickle::ReadContext context = open::make_context(options_, depth);
    context.where.file = zip_->file().name();
    context.where.record = "data.pkl";
    context.load_storage = [this](const pickle::StorageReference& reference) { return load_storage(reference); };
    if (is_big_endian_) context.view_as = [this](const Storage& storage, DType dtype) { set_dtype(storage, dtype); };
    known_.resize(zip_->records().size());
    storages_.reserve(zip_->records().size());
    std::uint64_t end = 0;
    opened.value = pickle::read(pickle, context, &end);
    if (end != pickle.size())
      opened.hidden.push_back(fmt::format("data.pkl: {} bytes behind the end of the pickle", pickle.size() - end));
    opened.records = std::move(storages_);
    opened.has_other_storages = is_big_endian_;
    note_unprotected(opened.notes);
    return opened;
  }

 private:
  struct KnownStorage {
    StoragePtr storage;
    DType dtype = DType::uint8;
  };

  LargeVector<std::byte> read_pickle() const {
    const zip::Record& record = *zip_->find("data.pkl");
    zip_->check_size(record, options_.limits.max_pickle_bytes);
    LargeVector<std::byte> pickle(static_cast<std::size_t>(record.size));
    zip_->read(record, pickle, options_.verify);
    return pickle;
  }

  // A decimal number at the start of the record, as PyTorch reads it.
  void check_version() const {
    const zip::Record* record = zip_->find(".data/version");
    if (record == nullptr) record = zip_->find("version");
    if (record == nullptr) fail(zip_->file(), Code::corrupt, "no record version: not a file of torch.save, or damaged");
    const std::string text = zip_->read(*record, options_.verify, kMaxNoteBytes);
    const long version = std::strtol(text.c_str(), nullptr, 10);
    if (version < 1) zip_->fail(*record, Code::corrupt, "no version number");
    if (version > kNewestVersion) {
      zip_->fail(*record, Code::unsupported,
                 fmt::format("version {}; the newest known is {}: it takes a torchkeep that knows version {}", version,
                             kNewestVersion, version));
    }
  }

  std::string read_byte_order() const {
    const zip::Record* record = zip_->find("byteorder");
    if (record == nullptr) return "little";
    const std::string order = zip_->read(*record, options_.verify, kMaxNoteBytes);
    if (order != "little" && order != "big") {
      zip_->fail(*record, Code::corrupt, "the byte order is neither little nor big");
    }
    return order;
  }

  // PyTorch can switch checksums off; nobody would then notice a damaged record.
  void note_unprotected(std::vector<std::string>& notes) const {
    std::size_t count = 0;
    for (const zip::Record& record : zip_->records()) count += record.crc == 0 && record.size != 0;
    if (count != 0) notes.push_back(fmt::format("{} of {} records have no checksum", count, zip_->records().size()));
  }

  static void note_others(const std::vector<std::string>& names, std::vector<std::string>& notes) {
    if (names.empty()) return;
    notes.push_back(fmt::format("{} {} that torch.save does not write: {}{}", names.size(),
                                names.size() == 1 ? "record" : "records", detail::show(names[0]),
                                names.size() > 1 ? ", ..." : ""));
  }

  // They say nothing that a reader needs who takes every offset from the directory, but torch.load believes them.
  void check_other_notes() const {
    for (const char* name : {".format_version", ".storage_alignment"}) {
      if (const zip::Record* record = zip_->find(name)) zip_->read(*record, options_.verify, kMaxNoteBytes);
    }
  }

  pickle::LoadedStorage load_storage(const pickle::StorageReference& reference) {
    name_.assign("data/").append(reference.key);
    const zip::Record* record = zip_->find(name_, previous_);
    previous_ = record;
    if (record == nullptr)
      throw Error(Code::corrupt, fmt::format("a tensor's record '{}' is missing", detail::show(name_)));
    if (record->size != reference.nbytes) {
      throw Error(Code::corrupt, fmt::format("record '{}' has {} bytes, its tensor expects {}", detail::show(name_),
                                             record->size, reference.nbytes));
    }
    KnownStorage& known = known_[static_cast<std::size_t>(record - zip_->records().data())];
    if (known.storage == nullptr) {
      auto storage = std::make_shared<RecordStorage>(zip_, *record, location(reference.location), options_.verify);
      known = {storage, reference.dtype.value_or(DType::uint8)};
      if (is_big_endian_) known.storage = swapped(storage, reference.dtype);
      storages_.push_back(std::move(storage));
    } else if (record->size != 0 && reference.dtype && *reference.dtype != known.dtype) {
      // torch.save refuses this, and torch.load takes the type that it meets first.
      throw Error(Code::corrupt, fmt::format("record '{}' is {} here and {} elsewhere", detail::show(record->name),
                                             to_string(known.dtype), to_string(*reference.dtype)));
    }
    // As in PyTorch, which knows a storage again by its address: an empty one has none.
    if (record->size == 0) return {known.storage, reference.dtype.value_or(DType::uint8)};
    return {known.storage, known.dtype};
  }

  StoragePtr swapped(StoragePtr storage, std::optional<DType> dtype) {
    auto swapped = std::make_shared<detail::SwappedStorage>(std::move(storage));
    if (dtype) swapped->set_dtype(*dtype);
    swapped_.emplace(swapped.get(), swapped);
    return swapped;
  }
  void set_dtype(const Storage& storage, DType dtype) { swapped_.at(&storage)->set_dtype(dtype); }

  std::shared_ptr<const std::string> location(std::string_view name) {
    if (name == "cpu") return nullptr;
    auto& text = locations_[std::string(name)];
    if (text == nullptr) text = std::make_shared<const std::string>(name);
    return text;
  }

  PtReadOptions options_;
  std::shared_ptr<const zip::Reader> zip_;
  LargeVector<KnownStorage> known_;  // by record
  std::vector<std::shared_ptr<RecordStorage>> storages_;
  bool is_big_endian_ = false;
  std::unordered_map<const Storage*, std::shared_ptr<detail::SwappedStorage>> swapped_;  // of a big-endian file
  std::map<std::string, std::shared_ptr<const std::string>> locations_;
  std::string name_;
  const zip::Record* previous_ = nullptr;
};

}  // namespace

OpenedFile open::open_zip(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth) {
  return PtReader(std::move(file), options).run(depth);
}

OpenedFile open_pt(std::shared_ptr<const ReadAt> file, const PtReadOptions& options) {
  return open::open_zip(std::move(file), options, 0);
}

}  // namespace torchkeep
