// SPDX-License-Identifier: BSD-3-Clause
// What survives of a damaged file: records that are whole, and the tensors over them.
//
//   1 records   by the directory, or by a scan where there is none
//   2 pickle    run as always; a storage whose record is not whole becomes a LostStorage
//   3 rewrite   the Value without the tensors over those
#define JSON_ASSERT(condition) static_cast<void>(0)  // the library never ends the program

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <set>

#include <torchkeep/format/check.h>
#include <torchkeep/format/safetensors.h>
#include <torchkeep/format/salvage.h>
#include <torchkeep/state/rewrite.h>

#include "open/open.h"
#include "pickle/pickle.h"
#include "range_storage.h"
#include "salvage/scan.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

using salvage_detail::FoundRecord;
using salvage_detail::Scanner;

// Bytes that are not there, or are not what was written.
class LostStorage final : public Storage {
 public:
  LostStorage(std::uint64_t nbytes, std::string location, std::string reason)
      : nbytes_(nbytes), location_(std::move(location)), reason_(std::move(reason)) {}
  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  void read(std::uint64_t, MutableBytes) const override { throw Error(Code::corrupt, reason_); }
  const std::string& location() const noexcept override { return location_; }
  const std::string& reason() const noexcept { return reason_; }

 private:
  std::uint64_t nbytes_;
  std::string location_;
  std::string reason_;
};

/// Why the tensor is lost; empty when it is not.
std::string lost_reason(const Value& value) {
  const auto* const lost =
      value.is(Kind::tensor) ? dynamic_cast<const LostStorage*>(value.as_tensor().storage.get()) : nullptr;
  return lost != nullptr ? lost->reason() : std::string();
}

std::string reason_inside(const Value& value) {
  std::string reason;
  walk(value, [&](const Visit& visit) {
    if (reason.empty()) reason = lost_reason(visit.value);
    return reason.empty() ? Next::inside : Next::stop;
  });
  return reason;
}

std::string describe(const Value& value) {
  if (value.is(Kind::sparse_tensor)) return fmt::format("{} tensor", value.as_sparse_tensor().layout);
  if (!value.is(Kind::tensor)) return std::string(to_string(value.kind()));
  return fmt::format("{} [{}]", to_string(value.as_tensor().dtype), fmt::join(value.as_tensor().sizes, ", "));
}

/// Takes the lost tensors out of the value. A sparse or nested tensor is lost with any of its parts.
void take_out_lost(Salvaged& result) {
  if (const std::string reason = lost_reason(result.value); !reason.empty()) {
    throw Error(Code::corrupt, "the whole is one tensor, and it is lost: " + reason);
  }
  result.value = rewrite(result.value, [&](const Visit& visit) {
    const Value& value = visit.value;
    const bool is_compound = value.is(Kind::sparse_tensor) || value.is(Kind::nested_tensor);
    std::string reason = is_compound ? reason_inside(value) : lost_reason(value);
    if (reason.empty()) {
      result.tensors += value.is(Kind::tensor) || is_compound;
      return is_compound ? Edit{Edit::What::replace, value} : Edit{};
    }
    result.lost.push_back({visit.place.text(), describe(value), std::move(reason)});
    return Edit{Edit::What::drop};
  });
}

/// Runs the pickle; `load` gives the storages.
Value read_pickle(const ReadAt& file, const std::string& pickle, const SalvageOptions& options,
                  std::function<pickle::LoadedStorage(const pickle::StorageReference&)> load) {
  PtReadOptions read{.verify = true, .unknown_classes = UnknownClasses::opaque, .limits = options.limits};
  pickle::ReadContext context = open::make_context(read, 0);
  context.where.file = file.name();
  context.where.record = "data.pkl";
  context.load_storage = std::move(load);
  return pickle::read(as_bytes(pickle), context);
}

/// The storages of a pickle, each made once.
class Storages {
 public:
  using Make = std::function<StoragePtr(const pickle::StorageReference&)>;
  explicit Storages(Make make) : make_(std::move(make)) {}

  pickle::LoadedStorage operator()(const pickle::StorageReference& reference) {
    auto& known = known_[std::string(reference.key)];
    if (known.storage == nullptr) known = {make_(reference), reference.dtype.value_or(DType::uint8)};
    return known;
  }

 private:
  Make make_;
  std::map<std::string, pickle::LoadedStorage> known_;
};

std::string record_name(const pickle::StorageReference& reference) {
  return "data/" + std::string(reference.key);
}

void refuse_big_endian(const std::string& byte_order, const ReadAt& file) {
  if (byte_order != "big") return;
  throw Error(Code::unsupported, "big-endian files cannot be repaired",
              {.file = file.name(), .record = "byteorder", .offset = {}, .key = {}});
}

/// A zip whose directory is there: some records may be damaged or missing.
Salvaged salvage_records(const std::shared_ptr<const ReadAt>& file, const SalvageOptions& options) {
  CheckOptions check;
  check.limits = options.limits;
  check.on_progress = options.on_progress;
  std::map<std::string, std::string> damaged;
  for (const CheckedRecord& record : check_file(file, check).records) {
    if (record.state == CheckedRecord::State::damaged) damaged.emplace(record.name, record.problem);
  }
  const auto zip = std::make_shared<const zip::Reader>(file, options.limits);
  const zip::Record* const pickle = zip->find("data.pkl");
  if (pickle == nullptr || damaged.contains("data.pkl")) {
    throw Error(Code::corrupt, "data.pkl is missing or damaged: nothing says which bytes are which tensor",
                {.file = file->name(), .record = "data.pkl", .offset = {}, .key = {}});
  }
  const zip::Record* const order = zip->find("byteorder");
  if (order != nullptr && !damaged.contains("byteorder")) refuse_big_endian(zip->read(*order, true, 64), *file);
  Storages storages([&](const pickle::StorageReference& reference) -> StoragePtr {
    const std::string name = record_name(reference);
    const zip::Record* const record = zip->find(name);
    std::string location(reference.location);
    if (record == nullptr || record->size != reference.nbytes) {
      return std::make_shared<LostStorage>(reference.nbytes, location,
                                           record == nullptr ? fmt::format("record {} is missing", name)
                                                             : fmt::format("record {} has another size", name));
    }
    const auto bad = damaged.find(name);
    if (bad == damaged.end()) {
      return std::make_shared<RecordStorage>(zip, *record, std::make_shared<const std::string>(location), true);
    }
    return std::make_shared<LostStorage>(reference.nbytes, location, fmt::format("record {}: {}", name, bad->second));
  });
  Salvaged result;
  result.value = read_pickle(*file, zip->read(*pickle, true, options.limits.max_pickle_bytes), options, storages);
  return result;
}

std::string read_record(const ReadAt& file, const FoundRecord& record) {
  std::string text(static_cast<std::size_t>(record.size), '\0');
  file.read_at(record.begin, std::as_writable_bytes(std::span(text)));
  return text;
}

/// A zip without its directory, because it was cut off or the directory is damaged.
Salvaged salvage_scanned(const std::shared_ptr<const ReadAt>& file, const SalvageOptions& options) {
  Scanner scanner(*file, options.on_progress);
  const std::string pickle = read_record(*file, scanner.find_pickle(options.limits.max_pickle_bytes));
  std::map<std::string, std::uint64_t> sizes;
  Storages sizing([&](const pickle::StorageReference& reference) -> StoragePtr {
    sizes[record_name(reference)] = reference.nbytes;
    return std::make_shared<LostStorage>(reference.nbytes, std::string(reference.location), "");
  });
  read_pickle(*file, pickle, options, sizing);
  scanner.find_rest(sizes);
  const auto& records = scanner.records();
  std::uint64_t unprotected = 0;
  if (const auto order = records.find("byteorder"); order != records.end() && order->second.size == 3) {
    refuse_big_endian(read_record(*file, order->second), *file);
  }
  Storages storages([&](const pickle::StorageReference& reference) -> StoragePtr {
    const std::string name = record_name(reference);
    const auto found = records.find(name);
    std::string location(reference.location);
    if (found == records.end() || found->second.state == FoundRecord::State::damaged) {
      return std::make_shared<LostStorage>(reference.nbytes, location,
                                           found == records.end()
                                               ? fmt::format("record {} is missing", name)
                                               : fmt::format("record {}: {}", name, found->second.problem));
    }
    unprotected += found->second.state == FoundRecord::State::unprotected;
    auto storage = std::make_shared<detail::RangeStorage>(file, reference.nbytes, std::move(location));
    storage->set_begin(found->second.begin);
    return storage;
  });
  Salvaged result;
  result.value = read_pickle(*file, pickle, options, storages);
  if (unprotected > 0)
    result.notes.push_back(fmt::format("{} records have no checksum to tell whether they are whole", unprotected));
  return result;
}

/// A file that says it is longer (or shorter) than it is.
class ResizedReadAt final : public ReadAt {
 public:
  ResizedReadAt(std::shared_ptr<const ReadAt> file, std::uint64_t size) : file_(std::move(file)), size_(size) {}
  std::uint64_t size() const override { return size_; }
  void read_at(std::uint64_t offset, MutableBytes out) const override { file_->read_at(offset, out); }
  const std::string& name() const override { return file_->name(); }
  Bytes look_at(std::uint64_t offset, std::size_t size) const override { return file_->look_at(offset, size); }
  bool is_cold(std::uint64_t offset, std::uint64_t size) const override { return file_->is_cold(offset, size); }

 private:
  std::shared_ptr<const ReadAt> file_;
  std::uint64_t size_;
};

/// The size that a safetensors file should have, by the largest offset in its header.
std::uint64_t wanted_size(const ReadAt& file) {
  std::uint64_t length = 0;
  file.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > SafetensorsReadOptions().max_header_bytes || length > file.size() - sizeof(length)) {
    throw Error(Code::corrupt, "the header is not whole: nothing says which bytes are which tensor",
                {.file = file.name(), .record = {}, .offset = {}, .key = {}});
  }
  std::string header(static_cast<std::size_t>(length), '\0');
  file.read_at(sizeof(length), std::as_writable_bytes(std::span(header)));
  const auto json = nlohmann::json::parse(header, nullptr, false);
  std::uint64_t end = 0;
  for (const auto& entry : json.is_object() ? json : nlohmann::json::object()) {
    const auto offsets = entry.is_object() ? entry.find("data_offsets") : entry.end();
    const bool is_pair = entry.is_object() && offsets != entry.end() && offsets->is_array() && offsets->size() == 2;
    if (is_pair && (*offsets)[1].is_number_unsigned()) end = std::max(end, (*offsets)[1].get<std::uint64_t>());
  }
  return end > UINT64_MAX - sizeof(length) - length ? file.size() : sizeof(length) + length + end;
}

Salvaged salvage_safetensors(const std::shared_ptr<const ReadAt>& file) {
  SafetensorsFile opened = open_safetensors(std::make_shared<ResizedReadAt>(file, wanted_size(*file)));
  Salvaged result;
  result.metadata = std::move(opened.metadata);
  result.value = Value::mapping(Kind::dict);
  for (const Entry& entry : opened.tensors.items()) {
    const Storage& storage = *entry.value.as_tensor().storage;
    try {
      std::byte last{};
      if (storage.nbytes() > 0) storage.read(storage.nbytes() - 1, std::span(&last, 1));
      result.value.set(entry.key, entry.value);
      ++result.tensors;
    } catch (const Error& error) {
      if (error.code() != Code::corrupt) throw;
      result.lost.push_back({entry.key.as_string(), describe(entry.value), "the file ends before its last byte"});
    }
  }
  // A name that the metadata says is tied to a tensor goes with it.
  std::erase_if(result.metadata, [&](const auto& entry) {
    const auto is_it = [&](const Lost& lost) { return lost.path == entry.second; };
    const bool is_tied = std::any_of(result.lost.begin(), result.lost.end(), is_it);
    if (is_tied) result.lost.push_back({entry.first, "tied to " + entry.second, "that tensor is lost"});
    return is_tied;
  });
  return result;
}

bool has_directory(const std::shared_ptr<const ReadAt>& file, const Limits& limits) {
  try {
    const zip::Reader zip(file, limits);
    return true;
  } catch (const Error& error) {
    if (error.code() != Code::corrupt) throw;
    return false;
  }
}

}  // namespace

Salvaged salvage(std::shared_ptr<const ReadAt> file, const SalvageOptions& options) {
  const FileFormat format = open::recognize_start(*file);
  if (format == FileFormat::safetensors) {
    Salvaged result = salvage_safetensors(file);
    result.format = format;
    return result;
  }
  if (format != FileFormat::torch_zip) {
    throw Error(Code::unsupported,
                fmt::format("a {}: only files of torch.save since PyTorch 1.6 and safetensors can be repaired",
                            to_string(format)),
                {.file = file->name(), .record = {}, .offset = {}, .key = {}});
  }
  Salvaged result =
      has_directory(file, options.limits) ? salvage_records(file, options) : salvage_scanned(file, options);
  result.format = format;
  take_out_lost(result);
  return result;
}

}  // namespace torchkeep
