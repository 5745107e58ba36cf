// SPDX-License-Identifier: BSD-3-Clause
// The index of sharded weights (model.safetensors.index.json): which file beside it holds which tensor.
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "hash.h"
#include "open.h"
#include "show.h"

namespace torchkeep::open {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxIndexBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMaxShards = 4096;  // each stays open until it was read
constexpr unsigned kMaxDepth = 64;

// The author of a file must not know which names collide.
struct TextHash {
  std::uint64_t seed = detail::hash_seed();
  std::size_t operator()(const std::string& text) const noexcept { return detail::hash_text(text, seed); }
};

/// A tensor's name, and its file.
using WeightMap = std::vector<std::pair<std::string, std::string>>;

[[noreturn]] void fail(const ReadAt& file, Code code, std::string message, std::string key = {}) {
  throw Error(code, std::move(message), {.file = file.name(), .record = {}, .offset = {}, .key = std::move(key)});
}

// Takes the texts of the object "weight_map" and passes over everything else.
class Events final : public nlohmann::json_sax<Json> {
 public:
  Events(const ReadAt& file, std::string_view json) : file_(file), json_(json) {}

  WeightMap run() {
    Json::sax_parse(json_.begin(), json_.end(), this);
    if (!found_) fail(file_, Code::corrupt, "an index without the object weight_map");
    return std::move(map_);
  }

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(Json::number_integer_t) override { return other(); }
  bool number_unsigned(Json::number_unsigned_t) override { return other(); }
  bool number_float(Json::number_float_t, const std::string&) override { return other(); }
  bool binary(Json::binary_t&) override { return other(); }
  bool start_array(std::size_t) override { return other() && deeper(); }
  bool end_array() override { return --depth_, true; }

  bool string(std::string& text) override {
    if (!in_map()) return other();
    if (!names_.insert(key_).second) fail(file_, Code::corrupt, "the name stands in weight_map twice", key_);
    map_.emplace_back(key_, std::move(text));
    return true;
  }
  bool key(std::string& name) override {
    if (depth_ <= 2) key_ = std::move(name);
    return true;
  }
  bool start_object(std::size_t) override {
    if (in_map()) fail(file_, Code::corrupt, "expected the name of a file in weight_map, found an object", key_);
    if (depth_ == 1 && key_ == "weight_map") {
      if (found_) fail(file_, Code::corrupt, "an index with two weight_maps");
      found_ = inside_ = true;
    }
    return deeper();
  }
  bool end_object() override {
    if (--depth_ == 1) inside_ = false;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw Error(Code::corrupt, "the index is not JSON",
                {.file = file_.name(), .record = {}, .offset = position, .key = {}});
  }

 private:
  bool in_map() const noexcept { return inside_ && depth_ == 2; }
  bool other() const {
    if (in_map()) fail(file_, Code::corrupt, "expected the name of a file in weight_map", key_);
    return true;
  }
  bool deeper() {
    if (++depth_ > kMaxDepth) fail(file_, Code::refused, fmt::format("an index nested deeper than {}", kMaxDepth));
    return true;
  }

  const ReadAt& file_;
  std::string_view json_;
  WeightMap map_;
  std::unordered_set<std::string, TextHash> names_;
  std::string key_;
  unsigned depth_ = 0;
  bool found_ = false;   // weight_map
  bool inside_ = false;  // it, or something in it
};

WeightMap read_map(const ReadAt& file) {
  if (file.size() > kMaxIndexBytes) {
    fail(file, Code::refused, fmt::format("an index of {} bytes; the limit is {}", file.size(), kMaxIndexBytes));
  }
  std::string json(static_cast<std::size_t>(file.size()), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(json)));
  if (json.find('\0') != std::string::npos) fail(file, Code::corrupt, "a NUL byte in the index");
  return Events(file, json).run();
}

// An index may lead to files in its own folder and nowhere else.
void check_name(const ReadAt& file, const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find_first_of("/\\\0", 0, 3) != std::string::npos) {
    fail(file, Code::refused,
         fmt::format("a shard named '{}': it must be a file beside the index", detail::show(name)));
  }
}

class IndexReader {
 public:
  IndexReader(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth)
      : file_(std::move(file)), options_(options), depth_(depth) {}

  OpenedFile run() {
    const WeightMap map = read_map(*file_);
    if (!options_.open_sibling) fail(*file_, Code::unsupported, "an index whose shards cannot be opened from here");
    opened_.format = FileFormat::safetensors_index;
    std::vector<Entry> entries;
    entries.reserve(map.size());
    for (const auto& [name, shard] : map) entries.push_back({Value::string(name), tensor(name, shard)});
    note_others(map.size());
    opened_.value = Value::mapping(Kind::dict, std::move(entries));
    return std::move(opened_);
  }

 private:
  struct Shard {
    std::unordered_map<std::string, Value, TextHash> tensors;
  };

  Value tensor(const std::string& name, const std::string& shard_name) {
    auto place = shards_.find(shard_name);
    if (place == shards_.end()) place = shards_.emplace(shard_name, open(shard_name)).first;
    const auto found = place->second.tensors.find(name);
    if (found == place->second.tensors.end()) {
      fail(*file_, Code::corrupt, fmt::format("it should be in '{}', which does not have it", detail::show(shard_name)),
           name);
    }
    return found->second;
  }

  Shard open(const std::string& name) {
    check_name(*file_, name);
    if (shards_.size() >= kMaxShards) fail(*file_, Code::refused, fmt::format("more than {} shards", kMaxShards));
    PtReadOptions options = options_;
    options.open_sibling = nullptr;  // a shard is no index
    OpenedFile opened = open_at_depth(options_.open_sibling(name), options, depth_);
    if (!opened.value.is_mapping()) {
      fail(*file_, Code::unsupported, fmt::format("the shard '{}' is not a dict of tensors", detail::show(name)));
    }
    Shard shard;
    for (const Entry& entry : opened.value.items()) {
      if (entry.key.is(Kind::string)) shard.tensors.emplace(entry.key.as_string(), entry.value);
    }
    count_ += shard.tensors.size();
    opened_.has_other_storages = opened_.has_other_storages || opened.has_other_storages;
    opened_.records.insert(opened_.records.end(), opened.records.begin(), opened.records.end());
    opened_.notes.insert(opened_.notes.end(), opened.notes.begin(), opened.notes.end());
    opened_.hidden.insert(opened_.hidden.end(), opened.hidden.begin(), opened.hidden.end());
    if (shards_.empty()) opened_.metadata = std::move(opened.metadata);
    return shard;
  }

  void note_others(std::size_t used) {
    if (count_ > used) {
      opened_.notes.push_back(fmt::format("the shards hold {} tensors that the index does not name", count_ - used));
    }
  }

  std::shared_ptr<const ReadAt> file_;
  const PtReadOptions& options_;
  int depth_;
  OpenedFile opened_;
  std::map<std::string, Shard> shards_;
  std::size_t count_ = 0;  // of tensors in all shards
};

}  // namespace

OpenedFile read_index(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth) {
  return IndexReader(std::move(file), options, depth).run();
}

}  // namespace torchkeep::open
