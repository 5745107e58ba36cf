// SPDX-License-Identifier: BSD-3-Clause
// From the pickle's objects to structs. The fields of an object are looked at, its class hardly: a subclass has them
// too.
#include "metadata.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <tuple>
#include <unordered_map>

#include <torchkeep/base/checked.h>
#include <torchkeep/base/hash.h>

#include "open/open.h"
#include "pickle/heap.h"
#include "show.h"

namespace torchkeep::dcp {
namespace {

using detail::show;
using pickle::Heap;
using pickle::ObjectKind;
using pickle::Slot;
using pickle::Tag;

struct NameHash {
  std::uint64_t seed = detail::hash_seed();
  std::size_t operator()(std::string_view text) const noexcept { return detail::hash_text(text, seed); }
};

// Data of a .metadata beside what any pickle may name.
bool is_of_dcp(std::string_view module, std::string_view name) noexcept {
  constexpr std::string_view kMetadata = "torch.distributed.checkpoint.metadata";
  constexpr std::string_view kBefore24 = "torch.distributed._shard.sharded_tensor.metadata";
  constexpr std::pair<std::string_view, std::string_view> kKnown[] = {
      {kMetadata, "Metadata"},
      {kMetadata, "TensorStorageMetadata"},
      {kMetadata, "ChunkStorageMetadata"},
      {kMetadata, "TensorProperties"},
      {kMetadata, "BytesStorageMetadata"},
      {kMetadata, "MetadataIndex"},
      {kMetadata, "StorageMeta"},
      {kMetadata, "_MEM_FORMAT_ENCODING"},
      {kBefore24, "TensorProperties"},
      {kBefore24, "MEM_FORMAT_ENCODING"},
      {"torch.distributed.checkpoint.filesystem", "_StorageInfo"},
      {"pathlib", "PosixPath"},
      {"pathlib", "PurePosixPath"},
      {"pathlib", "WindowsPath"},
      {"pathlib._local", "PosixPath"},
      {"pathlib._local", "PurePosixPath"},
      {"pathlib._local", "WindowsPath"},
      {"builtins", "getattr"},  // how early Python 3.11 names a member of an enumeration
      {"__builtin__", "getattr"},
  };
  return std::find(std::begin(kKnown), std::end(kKnown), std::pair(module, name)) != std::end(kKnown);
}

class Decoder {
 public:
  Decoder(const Heap& heap, const ReadAt& file, const PtReadOptions& options)
      : heap_(heap), file_(file), limits_(options.limits) {
    allowance_ = limits_.max_free_bytes + limits_.max_expansion * file.size();
  }

  Metadata run(Slot root) {
    const auto entries = find_field(root, "state_dict_metadata");
    if (!entries || !is_mapping(*entries)) {
      fail(Code::unsupported, "not the Metadata of torch.distributed.checkpoint: it has no state_dict_metadata");
    }
    note_class(heap_.opaque_global(heap_.object(root)));
    read_places(field(root, "storage_data", {}));
    each_entry(*entries, [this](Slot key, Slot value) { add_entry(text(key, "a name", {}), value); });
    if (const auto planner = find_field(root, "planner_data")) read_paths(*planner);
    note_unused();
    return std::move(result_);
  }

 private:
  // Which item of a name: a value, or the chunk at an offset.
  struct Key {
    bool is_chunk = false;
    Shape offset = {};
    auto operator<=>(const Key&) const = default;
  };
  // An item that storage_data has.
  struct Known {
    Key key;
    ItemPlace place;
    bool used = false;
  };

  [[noreturn]] void fail(Code code, std::string message, std::string key = {}) const {
    throw Error(code, std::move(message), {.file = file_.name(), .record = {}, .offset = {}, .key = std::move(key)});
  }
  // A pickle may name one object many times, each of which costs memory here.
  void charge(std::uint64_t bytes) {
    charged_ += bytes;
    if (charged_ > allowance_) fail(Code::refused, "it makes more of its bytes than an honest one does");
  }

  bool is_mapping(Slot slot) const noexcept {
    return heap_.is(slot, ObjectKind::dict) || heap_.is(slot, ObjectKind::ordered_dict);
  }
  bool is_sequence(Slot slot) const noexcept {
    return heap_.is(slot, ObjectKind::size) || heap_.is(slot, ObjectKind::tuple) || heap_.is(slot, ObjectKind::list);
  }
  template <class F>
  void each_entry(Slot mapping, F f) const {
    const auto items = heap_.items(mapping);
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) f(items[i], items[i + 1]);
  }
  // The field of an object's state; the last one of a name counts, as in a dict.
  std::optional<Slot> find_field(Slot object, std::string_view name) const {
    if (!heap_.is(object, ObjectKind::opaque)) return std::nullopt;
    const Slot state = heap_.items(object)[pickle::kOpaqueState];
    if (!is_mapping(state)) return std::nullopt;
    const auto items = heap_.items(state);
    for (std::size_t i = items.size(); i >= 2; i -= 2) {
      if (items[i - 2].tag == Tag::string && heap_.text(items[i - 2]) == name) return items[i - 1];
    }
    return std::nullopt;
  }
  Slot field(Slot object, std::string_view name, const std::string& key) const {
    const auto found = find_field(object, name);
    if (!found) fail(Code::corrupt, fmt::format("an object without the field '{}'", name), key);
    return *found;
  }
  std::string text(Slot value, std::string_view what, const std::string& key) {
    if (value.tag != Tag::string) fail(Code::corrupt, fmt::format("{} that is no str", what), key);
    charge(value.length);
    return std::string(heap_.text(value));
  }
  std::int64_t integer(Slot value, std::string_view what, const std::string& key) const {
    if (value.tag != Tag::integer) fail(Code::corrupt, fmt::format("{} that is no integer of 64 bits", what), key);
    return value.integer;
  }
  std::uint64_t count(Slot value, std::string_view what, const std::string& key) const {
    const std::int64_t number = integer(value, what, key);
    if (number < 0) fail(Code::corrupt, fmt::format("{} of {}", what, number), key);
    return static_cast<std::uint64_t>(number);
  }
  Shape numbers(Slot value, std::string_view what, const std::string& key) {
    if (!is_sequence(value)) fail(Code::corrupt, fmt::format("{} that are no torch.Size", what), key);
    const auto items = heap_.items(value);
    if (items.size() > limits_.max_dimensions) {
      fail(Code::refused,
           fmt::format("{} of {} dimensions; the limit is {}", what, items.size(), limits_.max_dimensions), key);
    }
    charge(sizeof(Shape) + items.size() * sizeof(std::int64_t));
    Shape result;
    result.reserve(items.size());
    for (const Slot number : items) result.push_back(integer(number, what, key));
    return result;
  }

  void note_class(const pickle::Global& object) {
    if (object.name == "Metadata" && object.module == "torch.distributed.checkpoint.metadata") return;
    result_.notes.push_back(fmt::format("an object of {}.{}, of which the fields of DCP's Metadata are read",
                                        show(object.module), show(object.name)));
  }

  void read_places(Slot storage) {
    if (!is_mapping(storage)) fail(Code::unsupported, "storage_data is no dict: another storage than files");
    each_entry(storage, [this](Slot index, Slot info) {
      const std::string fqn = text(field(index, "fqn", {}), "the name of an item", {});
      Known known;
      if (const auto offset = find_field(index, "offset"); offset && offset->tag != Tag::none) {
        known.key = {true, numbers(*offset, "offsets", fqn)};
      }
      known.place = place(info, fqn);
      charge(sizeof(Known));
      known_[fqn].push_back(std::move(known));
    });
    for (auto& [fqn, items] : known_) {
      std::sort(items.begin(), items.end(), [](const Known& a, const Known& b) { return a.key < b.key; });
      const auto twice =
          std::adjacent_find(items.begin(), items.end(), [](const Known& a, const Known& b) { return a.key == b.key; });
      if (twice != items.end()) fail(Code::corrupt, "storage_data has two items for one chunk", fqn);
    }
  }

  ItemPlace place(Slot info, const std::string& fqn) {
    ItemPlace place;
    place.file = file_index(text(field(info, "relative_path", fqn), "a relative_path", fqn), fqn);
    place.offset = count(field(info, "offset", fqn), "an offset", fqn);
    place.length = count(field(info, "length", fqn), "a length", fqn);
    if (!checked_add(static_cast<std::int64_t>(place.offset), static_cast<std::int64_t>(place.length))) {
      fail(Code::corrupt, fmt::format("{} bytes at {}: no file is that long", place.length, place.offset), fqn);
    }
    const auto transforms = find_field(info, "transform_descriptors");
    if (transforms && transforms->tag != Tag::none) {
      if (!is_sequence(*transforms)) fail(Code::corrupt, "transform_descriptors that are no list", fqn);
      std::string all;
      for (const Slot one : heap_.items(*transforms)) {
        all += fmt::format("{}{}", all.empty() ? "" : ", ", show(text(one, "a transform", fqn)));
      }
      if (!all.empty()) place.transforms = transform_index(std::move(all));
    }
    return place;
  }

  // A name leads to a file in this folder and nowhere else.
  std::uint32_t file_index(const std::string& name, const std::string& fqn) {
    if (name.empty() || name == "." || name == ".." || name.find_first_of("/\\\0", 0, 3) != std::string::npos) {
      fail(Code::refused, fmt::format("a relative_path '{}': it must name a file in this folder", show(name)), fqn);
    }
    const auto [known, is_new] = files_.emplace(name, static_cast<std::uint32_t>(result_.files.size()));
    if (is_new) result_.files.push_back(name);
    return known->second;
  }

  std::uint32_t transform_index(std::string transforms) {
    auto& all = result_.transforms;
    auto found = std::find(all.begin(), all.end(), transforms);
    if (found == all.end()) found = all.insert(all.end(), std::move(transforms));
    return static_cast<std::uint32_t>(found - all.begin() + 1);
  }

  void add_entry(std::string fqn, Slot saved) {
    charge(sizeof(MetaEntry));
    MetaEntry entry;
    entry.fqn = std::move(fqn);
    entry.is_tensor = find_field(saved, "chunks").has_value();
    if (entry.is_tensor)
      read_tensor(entry, saved);
    else if (heap_.is(saved, ObjectKind::opaque) &&
             heap_.opaque_global(heap_.object(saved)).name == "BytesStorageMetadata")
      entry.places.push_back(find_place(entry.fqn, {}));
    else
      fail(Code::unsupported, "neither a TensorStorageMetadata nor a BytesStorageMetadata", entry.fqn);
    indices_.emplace(entry.fqn, result_.entries.size());
    result_.entries.push_back(std::move(entry));
  }

  void read_tensor(MetaEntry& entry, Slot saved) {
    entry.dtype = dtype(field(saved, "properties", entry.fqn), entry.fqn);
    entry.shape = numbers(field(saved, "size", entry.fqn), "sizes", entry.fqn);
    const Slot list = field(saved, "chunks", entry.fqn);
    if (!is_sequence(list)) fail(Code::corrupt, "chunks that are no list", entry.fqn);
    const auto chunks = heap_.items(list);
    entry.chunks = BoxList(entry.shape.size());
    charge(chunks.size() * (sizeof(ItemPlace) + 2 * sizeof(std::int64_t) * entry.shape.size()));
    entry.chunks.reserve(chunks.size());
    entry.places.reserve(chunks.size());
    for (const Slot chunk : chunks) {
      const Box box(numbers(field(chunk, "offsets", entry.fqn), "offsets", entry.fqn),
                    numbers(field(chunk, "sizes", entry.fqn), "sizes", entry.fqn));
      if (box.offset.size() != entry.shape.size() || box.size.size() != entry.shape.size()) {
        fail(Code::corrupt,
             fmt::format("a chunk of {} dimensions in a tensor of {}", box.offset.size(), entry.shape.size()),
             entry.fqn);
      }
      entry.chunks.add(box);
      entry.places.push_back(find_place(entry.fqn, {true, box.offset}));
    }
  }

  // The first of the properties, which are a tuple; only it says anything (docs/dcp.md).
  DType dtype(Slot properties, const std::string& fqn) const {
    auto found = find_field(properties, "dtype");
    if (!found && heap_.is(properties, ObjectKind::opaque)) {
      const Slot state = heap_.items(properties)[pickle::kOpaqueState];
      if (heap_.is(state, ObjectKind::tuple) && !heap_.items(state).empty()) found = heap_.items(state)[0];
    }
    if (!found) fail(Code::corrupt, "TensorProperties without a dtype", fqn);
    if (!heap_.is(*found, pickle::Role::dtype)) {
      fail(Code::unsupported, fmt::format("a tensor whose dtype torchkeep does not know: {}", heap_.describe(*found)),
           fqn);
    }
    return *heap_.global(*found).dtype;
  }

  ItemPlace find_place(const std::string& fqn, const Key& key) {
    const auto items = known_.find(fqn);
    if (items == known_.end()) return {};
    const auto found = std::lower_bound(items->second.begin(), items->second.end(), key,
                                        [](const Known& known, const Key& wanted) { return known.key < wanted; });
    if (found == items->second.end() || found->key != key) return {};
    found->used = true;
    return found->place;
  }

  void read_paths(Slot planner) {
    if (planner.tag == Tag::none) return;
    if (!is_mapping(planner)) {
      result_.notes.emplace_back("planner_data of a planner that is not DCP's own: names are not nested");
      return;
    }
    each_entry(planner, [this](Slot key, Slot steps) {
      const auto index = key.tag == Tag::string ? indices_.find(std::string(heap_.text(key))) : indices_.end();
      if (index == indices_.end()) return;  // some keep paths of what they did not save
      result_.entries[index->second].path = path(steps, index->first);
    });
  }

  std::optional<Path> path(Slot steps, const std::string& fqn) {
    if (!is_sequence(steps)) return std::nullopt;
    const auto items = heap_.items(steps);
    if (items.empty()) fail(Code::corrupt, "an empty path in planner_data", fqn);
    charge(items.size() * sizeof(PathStep));
    Path path;
    for (const Slot step : items) {
      if (step.tag == Tag::string)
        path.emplace_back(text(step, "a key", fqn));
      else
        path.emplace_back(static_cast<std::int64_t>(count(step, "an index", fqn)));
    }
    return path;
  }

  void note_unused() {
    std::size_t unused = 0;
    for (const auto& [fqn, items] : known_) {
      for (const Known& item : items) unused += !item.used;
    }
    if (unused > 0) result_.notes.push_back(fmt::format("{} items belong to no tensor or value", unused));
  }

  const Heap& heap_;
  const ReadAt& file_;
  const Limits& limits_;
  std::uint64_t allowance_ = 0;
  std::uint64_t charged_ = 0;
  Metadata result_;
  std::unordered_map<std::string, std::vector<Known>, NameHash> known_;  // items by name, each by offset
  std::unordered_map<std::string, std::uint32_t, NameHash> files_;       // index into result_.files
  std::unordered_map<std::string, std::size_t, NameHash> indices_;       // into result_.entries
};

class Merger {
 public:
  explicit Merger(const std::string& folder) : folder_(folder) {}

  void add(std::int64_t rank, Metadata one) {
    rank_ = rank;
    file_map_.clear();
    for (std::string& name : one.files) file_map_.push_back(index_in(result_.files, files_, std::move(name)));
    transform_map_.assign(1, 0);
    for (std::string& name : one.transforms) {
      transform_map_.push_back(index_in(result_.transforms, transforms_, std::move(name)) + 1);
    }
    for (MetaEntry& entry : one.entries) {
      for (ItemPlace& place : entry.places) translate(place);
      const auto [known, is_new] = entries_.emplace(entry.fqn, result_.entries.size());
      if (is_new)
        add_new(std::move(entry));
      else
        merge(known->second, entry);
    }
    result_.notes.insert(result_.notes.end(), one.notes.begin(), one.notes.end());
  }

  Metadata take() { return std::move(result_); }

 private:
  using Index = std::unordered_map<std::string, std::uint32_t, NameHash>;

  [[noreturn]] void fail(const std::string& fqn, std::string message) const {
    throw Error(Code::corrupt, std::move(message), {.file = folder_, .record = {}, .offset = {}, .key = fqn});
  }

  static std::uint32_t index_in(std::vector<std::string>& names, Index& index, std::string name) {
    const auto [known, is_new] = index.emplace(name, static_cast<std::uint32_t>(names.size()));
    if (is_new) names.push_back(std::move(name));
    return known->second;
  }

  void translate(ItemPlace& place) const {
    if (place.file != ItemPlace::kNowhere) place.file = file_map_[place.file];
    place.transforms = transform_map_[place.transforms];
  }

  // A chunk of the merged entry, and which one.
  struct Chunk {
    Box box;
    std::size_t index;
    bool operator<(const Chunk& other) const {
      return std::tie(box.offset, box.size) < std::tie(other.box.offset, other.box.size);
    }
  };

  void add_new(MetaEntry entry) {
    auto& chunks = chunks_.emplace_back();
    for (std::size_t i = 0; i < entry.chunks.size(); ++i) chunks.push_back({Box(entry.chunks[i]), i});
    std::sort(chunks.begin(), chunks.end());
    result_.entries.push_back(std::move(entry));
  }

  void add_replica(std::size_t entry, std::size_t item, const ItemPlace& place) {
    if (place.file != ItemPlace::kNowhere) result_.replicas.push_back({entry, item, rank_, place});
  }

  void merge(std::size_t index, const MetaEntry& entry) {
    MetaEntry& merged = result_.entries[index];
    if (merged.is_tensor != entry.is_tensor || merged.dtype != entry.dtype || merged.shape != entry.shape) {
      fail(entry.fqn, fmt::format("rank {} has another dtype or shape of it than the ranks before", rank_));
    }
    if (!entry.is_tensor) return add_replica(index, 0, entry.places[0]);
    auto& chunks = chunks_[index];
    const auto sorted = static_cast<std::ptrdiff_t>(chunks.size());
    for (std::size_t i = 0; i < entry.chunks.size(); ++i) {
      Chunk chunk{Box(entry.chunks[i]), merged.chunks.size()};
      const auto known = std::lower_bound(chunks.begin(), chunks.begin() + sorted, chunk);
      if (known != chunks.begin() + sorted && known->box == chunk.box) {  // taken from the lowest rank
        add_replica(index, known->index, entry.places[i]);
        continue;
      }
      merged.chunks.add(chunk.box);
      merged.places.push_back(entry.places[i]);
      chunks.push_back(std::move(chunk));
    }
    std::sort(chunks.begin(), chunks.end());
  }

  const std::string& folder_;
  Metadata result_;
  std::int64_t rank_ = 0;
  std::vector<std::uint32_t> file_map_;       // of the rank's files
  std::vector<std::uint32_t> transform_map_;  // of the rank's transforms, both counted from 1
  Index files_;
  Index transforms_;
  std::unordered_map<std::string, std::size_t, NameHash> entries_;
  std::vector<std::vector<Chunk>> chunks_;  // of each entry, sorted
};

}  // namespace

Metadata read_metadata(const ReadAt& file, const PtReadOptions& options) {
  if (file.size() == 0) {
    throw Error(Code::corrupt, "the file is empty: the save was cut off, by a power cut or a full disk",
                {.file = file.name(), .record = {}, .offset = {}, .key = {}});
  }
  pickle::ReadContext context = open::make_context(options, 0);
  context.where.file = file.name();
  context.also_known = is_of_dcp;
  const std::uint64_t size = pickle::find_end(file, 0, file.size(), options.limits.max_pickle_bytes);
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(bytes)));
  Metadata metadata;
  pickle::look(as_bytes(bytes), context,
               [&](const Heap& heap, Slot root) { metadata = Decoder(heap, file, options).run(root); });
  return metadata;
}

Metadata merge_ranks(std::vector<std::pair<std::int64_t, Metadata>> ranks, const std::string& folder) {
  Merger merger(folder);
  for (auto& [rank, metadata] : ranks) merger.add(rank, std::move(metadata));
  return merger.take();
}

}  // namespace torchkeep::dcp
