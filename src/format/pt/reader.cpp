// SPDX-License-Identifier: BSD-3-Clause
// Opens a torch.save zip: finds its records, runs its pickle, and gives the tensors their records as storages.
#include <algorithm>
#include <cstdlib>
#include <fmt/format.h>
#include <map>

#include <torchkeep/format/pt.h>

#include "pickle/pickle.h"
#include "show.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

constexpr std::string_view kZipMagic = "PK\x03\x04";
// The pickle of 0x1950a86a20f9469cfc6c that begins a file of torch.save before PyTorch 1.6.
constexpr std::string_view kLegacyMagic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e";
constexpr std::uint64_t kMaxNoteBytes = 64;  // of version, byteorder and their like
constexpr long kNewestVersion = 10;          // of the container, as PyTorch 2.13 accepts it

[[noreturn]] void fail(const ReadAt& file, Code code, std::string message) {
  throw Error(code, std::move(message), {.file = file.name(), .record = {}, .offset = {}, .key = {}});
}

void check_magic(const ReadAt& file) {
  std::string start(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kLegacyMagic.size())), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(start)));
  if (start.starts_with(kZipMagic)) return;
  if (start == kLegacyMagic) {
    fail(file, Code::unsupported, "the format of torch.save before PyTorch 1.6; load and save it with a newer PyTorch");
  }
  fail(file, Code::corrupt, "not a file of torch.save: it does not begin with a zip record");
}

class PtReader {
 public:
  PtReader(std::shared_ptr<const ReadAt> file, const PtReadOptions& options)
      : options_(options), zip_(std::make_shared<zip::Reader>(std::move(file), options.limits, options.map)) {}

  PtFile run() && {
    check_kind();
    check_version();
    check_byte_order();
    check_other_notes();
    const std::string pickle = zip_->read(*zip_->find("data.pkl"), options_.verify, options_.limits.max_pickle_bytes);
    pickle::ReadContext context;
    context.where.file = zip_->file().name();
    context.where.record = "data.pkl";
    context.limits = options_.limits;
    context.unknown_classes = options_.unknown_classes;
    context.load_storage = [this](const pickle::StorageReference& reference) { return load_storage(reference); };
    known_.resize(zip_->records().size());
    Value value = pickle::read(as_bytes(pickle), context);
    return {std::move(value), std::move(storages_)};
  }

 private:
  struct KnownStorage {
    StoragePtr storage;
    DType dtype = DType::uint8;
  };

  void check_kind() const {
    if (zip_->find("constants.pkl") != nullptr)
      fail(zip_->file(), Code::unsupported, "a TorchScript or LibTorch archive");
    if (zip_->find("data.pkl") == nullptr)
      fail(zip_->file(), Code::corrupt, "no record data.pkl: not a file of torch.save");
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
                 fmt::format("version {}; the newest known is {}", version, kNewestVersion));
    }
  }

  void check_byte_order() const {
    const zip::Record* record = zip_->find("byteorder");
    if (record == nullptr) return;
    const std::string order = zip_->read(*record, options_.verify, kMaxNoteBytes);
    if (order == "little") return;
    if (order == "big") zip_->fail(*record, Code::unsupported, "a big-endian file");
    zip_->fail(*record, Code::corrupt, "the byte order is neither little nor big");
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
      storages_.push_back(std::move(storage));
    }
    return {known.storage, known.dtype};
  }

  std::shared_ptr<const std::string> location(std::string_view name) {
    if (name == "cpu") return nullptr;
    auto& text = locations_[std::string(name)];
    if (text == nullptr) text = std::make_shared<const std::string>(name);
    return text;
  }

  PtReadOptions options_;
  std::shared_ptr<const zip::Reader> zip_;
  std::vector<KnownStorage> known_;  // by record
  std::vector<std::shared_ptr<RecordStorage>> storages_;
  std::map<std::string, std::shared_ptr<const std::string>> locations_;
  std::string name_;
  const zip::Record* previous_ = nullptr;
};

}  // namespace

PtFile open_pt(std::shared_ptr<const ReadAt> file, const PtReadOptions& options) {
  check_magic(*file);
  return PtReader(std::move(file), options).run();
}

}  // namespace torchkeep
