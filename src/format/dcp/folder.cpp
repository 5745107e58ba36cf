// SPDX-License-Identifier: BSD-3-Clause
// A folder as a whole: which ranks there are, what is missing, and the Value it holds.
#include "folder.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <set>

#include <torchkeep/format/open_file.h>
#include <torchkeep/shard/cover.h>

#include "chunked_storage.h"
#include "flatten.h"
#include "from_manifest.h"
#include "nest.h"
#include "show.h"

namespace torchkeep::dcp {
namespace {

using detail::show;

constexpr std::string_view kMetadata = ".metadata";
constexpr std::size_t kNamed = 5;  // things that an error names

// The rank in "__3.metadata" (suffix ".metadata") or "__3_0.distcp" (suffix ".distcp", with a number).
std::optional<std::int64_t> rank_of(std::string_view name, std::string_view suffix, bool has_number) noexcept {
  if (!name.starts_with("__") || !name.ends_with(suffix) || name.size() <= 2 + suffix.size()) return std::nullopt;
  const std::string_view middle = name.substr(2, name.size() - 2 - suffix.size());
  std::int64_t rank = -1, number = 0;
  const char* const end = middle.data() + middle.size();
  auto parsed = std::from_chars(middle.data(), end, rank);
  if (parsed.ec != std::errc() || rank < 0) return std::nullopt;
  if (has_number) {
    if (parsed.ptr == end || *parsed.ptr != '_') return std::nullopt;
    parsed = std::from_chars(parsed.ptr + 1, end, number);
    if (parsed.ec != std::errc() || number < 0) return std::nullopt;
  }
  return parsed.ptr == end ? std::optional(rank) : std::nullopt;
}
std::optional<std::int64_t> rank_of_metadata(std::string_view name) noexcept {
  return rank_of(name, ".metadata", false);
}
std::optional<std::int64_t> rank_of_data(std::string_view name) noexcept {
  return rank_of(name, ".distcp", true);
}

[[noreturn]] void fail(const Folder& folder, Code code, std::string message, std::string key = {}) {
  throw Error(code, std::move(message), {.file = folder.name, .record = {}, .offset = {}, .key = std::move(key)});
}

// "ranks 0, 1 and 3", few or many
std::string list_ranks(const std::set<std::int64_t>& ranks) {
  std::vector<std::int64_t> shown;
  for (const std::int64_t rank : ranks) {
    if (shown.size() < 16) shown.push_back(rank);
  }
  return fmt::format("{} {}{}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(shown, ", "),
                     ranks.size() > shown.size() ? fmt::format(" ... ({} in all)", ranks.size()) : "");
}

// Those below the highest that are not there.
std::set<std::int64_t> missing_ranks(const std::set<std::int64_t>& ranks) {
  constexpr std::int64_t kMostShown = 1000;
  std::set<std::int64_t> missing;
  if (ranks.empty()) return missing;
  for (std::int64_t rank = 0; rank < *ranks.rbegin() && static_cast<std::int64_t>(missing.size()) < kMostShown;
       ++rank) {
    if (!ranks.contains(rank)) missing.insert(rank);
  }
  return missing;
}

[[noreturn]] void fail_without_metadata(const Folder& folder) {
  std::set<std::int64_t> ranks;
  std::size_t files = 0;
  for (const std::string& name : folder.files) {
    const auto rank = rank_of_data(name);
    if (!rank) continue;
    ranks.insert(*rank);
    ++files;
  }
  if (files == 0) {
    fail(folder, Code::unsupported,
         "a folder that is no checkpoint of torch.distributed.checkpoint: it has no .metadata");
  }
  const std::set<std::int64_t> missing = missing_ranks(ranks);
  fail(folder, Code::corrupt,
       fmt::format("no .metadata, which is written last: the save did not finish. There are {} data files of {}{}",
                   files, list_ranks(ranks),
                   missing.empty() ? "" : fmt::format(", and none of {}", list_ranks(missing))));
}

Metadata read_ranks(const Folder& folder, const PtReadOptions& options) {
  std::map<std::int64_t, std::string> names;
  std::set<std::int64_t> ranks;
  for (const std::string& name : folder.files) {
    const auto rank = rank_of_metadata(name);
    if (!rank) continue;
    names.emplace(*rank, name);
    ranks.insert(*rank);
  }
  if (names.empty()) fail_without_metadata(folder);
  if (const auto missing = missing_ranks(ranks); !missing.empty()) {
    fail(folder, Code::corrupt,
         fmt::format("each rank wrote a .metadata of its own, and those of {} are missing", list_ranks(missing)));
  }
  std::vector<std::pair<std::int64_t, Metadata>> all;
  for (const auto& [rank, name] : names) all.emplace_back(rank, read_metadata(*folder.open(name), options));
  Metadata merged = merge_ranks(std::move(all), folder.name);
  merged.notes.push_back(fmt::format("each of {} ranks wrote a .metadata of its own", names.size()));
  return merged;
}

class Opener {
 public:
  Opener(const Folder& folder, const PtReadOptions& options) : folder_(folder), options_(options) {}

  OpenFolder run() {
    opened_.path = folder_.name;
    DataFiles::Check check_tail;
    if ((opened_.manifest = find_manifest(folder_, options_))) {
      opened_.metadata = to_metadata(*opened_.manifest);
      opened_.manifest->chunks = {};
      const auto tails = std::make_shared<Tails>(opened_.manifest->save, opened_.manifest->files);
      check_tail = [tails](std::uint32_t file, const ReadAt& bytes) { tails->check(file, bytes); };
      opened_.tails = tails;
    } else {
      read_metadata_files();
    }
    auto source = std::make_shared<ItemSource>();
    data_ = std::make_shared<DataFiles>(folder_, opened_.metadata.files, std::move(check_tail));
    source->files = data_;
    source->transforms = opened_.metadata.transforms;
    source->options = options_;
    check_files();
    opened_.source = std::move(source);
    opened_.notes = opened_.metadata.notes;
    note_others();
    return std::move(opened_);
  }

 private:
  void read_metadata_files() {
    const auto& files = folder_.files;
    const bool is_whole = std::find(files.begin(), files.end(), kMetadata) != files.end();
    opened_.metadata =
        is_whole ? read_metadata(*folder_.open(std::string(kMetadata)), options_) : read_ranks(folder_, options_);
    for (const MetaEntry& entry : opened_.metadata.entries) check(entry);
  }

  // Chunks of a tensor cover it exactly once, and each has an item.
  void check(const MetaEntry& entry) const {
    if (!entry.is_tensor) {
      if (entry.places[0].file == ItemPlace::kNowhere)
        fail(folder_, Code::corrupt, "the value has no item: the writer that should have stored it failed", entry.fqn);
      return;
    }
    const auto count = element_count(entry.shape);
    const bool is_negative = std::any_of(entry.shape.begin(), entry.shape.end(), [](std::int64_t n) { return n < 0; });
    constexpr std::int64_t kMostBytes = std::int64_t{1} << 62;
    if (!count || is_negative || *count > kMostBytes / static_cast<std::int64_t>(itemsize(entry.dtype)))
      fail(folder_, Code::corrupt, fmt::format("a shape [{}] that no tensor has", fmt::join(entry.shape, ", ")),
           entry.fqn);
    if (const Cover cover = check_cover(entry.shape, entry.chunks); !cover.is_complete())
      fail(folder_, Code::corrupt, cover.describe(entry.chunks), entry.fqn);
    for (std::size_t i = 0; i < entry.chunks.size(); ++i) {
      if (entry.places[i].file != ItemPlace::kNowhere || is_empty(entry.chunks[i])) continue;
      fail(
          folder_, Code::corrupt,
          fmt::format("chunk {} has no item: the writer that should have stored it failed", to_string(entry.chunks[i])),
          entry.fqn);
    }
  }

  using Missing = std::map<std::uint32_t, std::vector<const MetaEntry*>>;  // what files that are not there hold

  void check_files() const {
    Missing missing;
    for (const MetaEntry& entry : opened_.metadata.entries) {
      for (std::size_t i = 0; i < entry.places.size(); ++i) {
        const ItemPlace& place = entry.places[i];
        if (place.file == ItemPlace::kNowhere) continue;
        check_place(entry, place, missing);
      }
    }
    for (const Metadata::Replica& replica : opened_.metadata.replicas) {
      check_place(opened_.metadata.entries[replica.entry], replica.place, missing);
    }
    if (!missing.empty()) fail_missing(missing);
  }

  void check_place(const MetaEntry& entry, const ItemPlace& place, Missing& missing) const {
    if (data_->is_missing(place.file)) {
      auto& entries = missing[place.file];
      if (entries.empty() || entries.back() != &entry) entries.push_back(&entry);
      return;
    }
    const std::uint64_t size = data_->size(place.file);
    if (opened_.manifest && size != opened_.manifest->files[place.file].tail.size) data_->open(place.file);  // says why
    if (place.offset <= size && place.length <= size - place.offset) return;
    throw Error(
        Code::corrupt,
        fmt::format("its item is {} bytes at {}, and the file ends at {}: it was cut off, or is of another save",
                    place.length, place.offset, size),
        {.file = data_->path(place.file), .record = {}, .offset = {}, .key = entry.fqn});
  }

  [[noreturn]] void fail_missing(const Missing& missing) const {
    std::vector<std::string> texts;
    for (const auto& [file, entries] : missing) {
      if (texts.size() == kNamed) break;
      std::vector<std::string> names;
      for (const MetaEntry* entry : entries) {
        if (names.size() < kNamed) names.push_back(fmt::format("'{}'", show(entry->fqn)));
      }
      const std::string more =
          entries.size() > names.size() ? fmt::format(" and {} more", entries.size() - names.size()) : "";
      const auto rank = rank_of_data(opened_.metadata.files[file]);
      texts.push_back(fmt::format("{}{} with {}{}", show(opened_.metadata.files[file]),
                                  rank ? fmt::format(" of rank {}", *rank) : "", fmt::join(names, ", "), more));
    }
    const std::string more = missing.size() > texts.size() ? fmt::format("; {} files in all", missing.size()) : "";
    fail(folder_, Code::corrupt, fmt::format("missing: {}{}", fmt::join(texts, "; "), more));
  }

  // Files that .metadata does not name: of an older save, or another program's.
  void note_others() {
    const std::set<std::string> named(opened_.metadata.files.begin(), opened_.metadata.files.end());
    std::vector<std::string> stale, beside;
    for (std::uint32_t i = 0; i < opened_.metadata.files.size(); ++i) opened_.nbytes += data_->size(i);
    for (const std::string& name : folder_.files) {
      const bool is_metadata =
          name == kMetadata || rank_of_metadata(name) || (opened_.manifest && name == kManifestName);
      if (is_metadata) opened_.nbytes += folder_.open(name)->size();
      if (named.contains(name) || is_metadata) continue;
      (rank_of_data(name) ? stale : beside).push_back(show(name));
    }
    const auto add = [this](std::vector<std::string>& names, std::string_view what) {
      if (names.empty()) return;
      const std::size_t count = names.size();
      names.resize(std::min(count, kNamed));
      opened_.notes.push_back(fmt::format("{}: {}{}", what, fmt::join(names, ", "), count > kNamed ? ", ..." : ""));
    };
    add(stale, fmt::format("data files that {} does not name (empty, or of an older save)",
                           opened_.manifest ? kManifestName : kMetadata));
    add(beside, "files beside the checkpoint that are not read");
  }

  const Folder& folder_;
  const PtReadOptions& options_;
  std::shared_ptr<const DataFiles> data_;
  OpenFolder opened_;
};

Value make_tensor(const OpenFolder& opened, MetaEntry entry, std::vector<StoragePtr>& storages) {
  Tensor tensor;
  tensor.dtype = entry.dtype;
  tensor.sizes = entry.shape;
  tensor.strides = contiguous_strides(entry.shape);
  tensor.storage = std::make_shared<ChunkedStorage>(opened.source, std::move(entry));
  storages.push_back(tensor.storage);
  return Value(tensor);
}

// The state of a manifest: what stood where, with the types and flags of the objects that were saved.
Value from_structure(OpenFolder& opened, const std::function<Value(MetaEntry&)>& tensor_of) {
  std::size_t next = 0;
  const auto change = [&](const Leaf& leaf) {
    if (!leaf.is_tensor) return leaf.value;
    const Tensor& meta = leaf.value.as_tensor();
    Tensor tensor = tensor_of(opened.metadata.entries[next++]).as_tensor();
    tensor.requires_grad = meta.requires_grad;
    tensor.is_parameter = meta.is_parameter;
    return Value(tensor);
  };
  const Manifest& manifest = *opened.manifest;
  Value state = flatten(manifest.structure, {}, Tensors::meta, change);
  Value own = Value::mapping(Kind::dict);
  for (const auto& [rank, structure] : manifest.own) {
    own.set(Value(std::int64_t{rank}), flatten(structure, {"rank", std::to_string(rank)}, Tensors::meta, change));
  }
  if (!own.empty()) state.set("rank", own);
  return state;
}

bool is_same(const OpenFolder& opened, const Metadata::Replica& replica, const std::vector<Value>& values) {
  const MetaEntry& entry = opened.metadata.entries[replica.entry];
  if (!entry.is_tensor) return read_value(*opened.source, replica.place, entry.fqn) == values[replica.entry];
  if (entry.places[replica.item].file == ItemPlace::kNowhere) return true;  // an empty chunk
  const ChunkBytes read = find_chunk(*opened.source, entry, replica.item, entry.places[replica.item]);
  const ChunkBytes copy = find_chunk(*opened.source, entry, replica.item, replica.place);
  if (read.memory != nullptr && copy.memory != nullptr) return *read.memory == *copy.memory;
  return read.crc == copy.crc || read.crc == 0 || copy.crc == 0;
}

// What several ranks saved for themselves and is not the same. Of tensors the checksums are compared.
void note_replicas(OpenFolder& opened, const std::vector<Value>& values) {
  for (const Metadata::Replica& replica : opened.metadata.replicas) {
    if (is_same(opened, replica, values)) continue;
    opened.notes.push_back(fmt::format("'{}' of rank {} is another one; the lowest rank's is given",
                                       show(opened.metadata.entries[replica.entry].fqn), replica.rank));
  }
}

// The state of a .metadata, nested as its planner_data says.
Value from_names(const Folder& folder, const PtReadOptions& options, OpenFolder& opened,
                 const std::function<Value(MetaEntry&)>& tensor) {
  std::vector<Value> values(opened.metadata.entries.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const MetaEntry& entry = opened.metadata.entries[i];
    if (!entry.is_tensor) values[i] = read_value(*opened.source, entry.places[0], entry.fqn);
  }
  note_replicas(opened, values);
  Nest nest(options.limits.max_free_bytes / sizeof(Value) + values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    MetaEntry& entry = opened.metadata.entries[i];
    const std::string fqn = entry.fqn;
    const Path path = entry.path ? *entry.path : Path{fqn};
    if (entry.is_tensor) values[i] = tensor(entry);
    try {
      nest.set(path, std::move(values[i]));
    } catch (const Error& error) {
      throw error.at({.file = folder.name, .record = {}, .offset = {}, .key = fqn});
    }
  }
  return values.empty() ? Value::mapping(Kind::dict) : nest.take();
}

}  // namespace

OpenFolder open_folder(const Folder& folder, const PtReadOptions& options) {
  return Opener(folder, options).run();
}

Value structure_of(const Folder& folder, const PtReadOptions& options, OpenFolder& opened) {
  if (opened.manifest) return opened.manifest->structure;
  return from_names(folder, options, opened, [](const MetaEntry& entry) {
    Tensor meta;
    meta.dtype = entry.dtype;
    meta.sizes = entry.shape;
    meta.strides = contiguous_strides(entry.shape);
    meta.storage = std::make_shared<MetaStorage>();
    return Value(meta);
  });
}

}  // namespace torchkeep::dcp

namespace torchkeep {

using namespace dcp;

bool is_dcp_folder(std::span<const std::string> names) noexcept {
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name == kMetadata || rank_of_metadata(name) || rank_of_data(name);
  });
}

OpenedFile open_dcp(const Folder& folder, const PtReadOptions& options) {
  OpenFolder opened = open_folder(folder, options);
  OpenedFile result;
  result.format = FileFormat::dcp;
  result.has_other_storages = true;
  const auto tensor = [&](MetaEntry& entry) { return make_tensor(opened, std::move(entry), result.checked_storages); };
  result.value = opened.manifest ? from_structure(opened, tensor) : from_names(folder, options, opened, tensor);
  result.file_size = opened.nbytes;
  result.notes = std::move(opened.notes);
  return result;
}

}  // namespace torchkeep
