// SPDX-License-Identifier: BSD-3-Clause
// Lays out a safetensors file: which names are written, the header, then the tensors' bytes.
#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>

#include <torchkeep/format/safetensors.h>
#include <torchkeep/state/elements.h>

#include "dtypes.h"
#include "header.h"

namespace torchkeep {
namespace {

using safetensors::FileType;
using safetensors::kLengthSize;

constexpr std::uint64_t kAlignment = 8;  // of the first tensor

struct Named {
  std::string name;
  const Tensor* tensor;
};

// The bytes of its storage that a tensor's elements reach.
struct Reach {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

Reach reach_of(const Tensor& tensor) {
  const std::uint64_t item = itemsize(tensor.dtype);
  std::uint64_t last = static_cast<std::uint64_t>(tensor.storage_offset);
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    last += static_cast<std::uint64_t>(tensor.sizes[i] - 1) * static_cast<std::uint64_t>(tensor.strides[i]);
  }
  return {static_cast<std::uint64_t>(tensor.storage_offset) * item, (last + 1) * item};
}

// Tensors of one storage that are written: by view, and the parts of the storage that they reach.
class Group {
 public:
  /// The name under which the same elements are written already; notes this one when there is none.
  const std::string* twin_or_note(const Named& each) {
    const Tensor& tensor = *each.tensor;
    const auto [known, is_new] =
        views_.try_emplace({tensor.storage_offset, tensor.dtype, tensor.sizes, tensor.strides}, each.name);
    return is_new ? nullptr : &known->second;
  }

  /// Whether bytes [begin, end) were reached before; from now on they are.
  bool reach(Reach bytes) {
    auto next = reached_.upper_bound(bytes.begin);
    if (next != reached_.begin() && std::prev(next)->second > bytes.begin) --next;
    bool overlaps = false;
    while (next != reached_.end() && next->first < bytes.end) {
      overlaps = true;
      bytes = {std::min(bytes.begin, next->first), std::max(bytes.end, next->second)};
      next = reached_.erase(next);
    }
    reached_.emplace(bytes.begin, bytes.end);
    return overlaps;
  }

 private:
  using View = std::tuple<std::int64_t, DType, std::vector<std::int64_t>, std::vector<std::int64_t>>;
  std::map<View, std::string> views_;
  std::map<std::uint64_t, std::uint64_t> reached_;  // begin -> end, disjoint
};

std::vector<Named> collect(const Value& tensors) {
  if (!tensors.is_mapping()) tensors.fail_kind("a dict of tensors");
  std::vector<Named> named;
  std::vector<std::string> refused;
  for (const Entry& entry : tensors.items()) {
    if (!entry.key.is(Kind::string)) {
      refused.push_back(fmt::format("a key that is no str ({})", to_string(entry.key.kind())));
    } else if (!entry.value.is(Kind::tensor)) {
      refused.push_back(fmt::format("'{}' ({})", entry.key.as_string(), to_string(entry.value.kind())));
    } else if (const std::string why = safetensors_obstacle(entry.value.as_tensor()); !why.empty()) {
      refused.push_back(fmt::format("'{}' ({})", entry.key.as_string(), why));
    } else if (entry.key.as_string() == "__metadata__") {
      refused.push_back("'__metadata__' (a name the format keeps for itself)");
    } else {
      named.push_back({entry.key.as_string(), &entry.value.as_tensor()});
    }
  }
  if (!refused.empty()) {
    tensors.fail(Code::unsupported, fmt::format("safetensors cannot hold: {}", fmt::join(refused, ", ")));
  }
  return named;
}

// Leaves out names of the same elements, and notes tensors that overlap otherwise.
void resolve_sharing(std::vector<Named>& named, SafetensorsPlan& result) {
  std::sort(named.begin(), named.end(), [](const Named& a, const Named& b) { return a.name < b.name; });
  std::unordered_map<const void*, Group> groups;  // by storage
  std::vector<Named> written;
  written.reserve(named.size());
  for (Named& each : named) {
    if (each.tensor->numel() != 0) {
      Group& group = groups[each.tensor->storage->identity()];
      if (const std::string* twin = group.twin_or_note(each)) {
        result.tied.emplace_back(std::move(each.name), *twin);
        continue;
      }
      if (group.reach(reach_of(*each.tensor))) result.copied.push_back(each.name);
    }
    written.push_back(std::move(each));
  }
  named = std::move(written);
}

// As a JSON text in quotes. Throws Error (unsupported) for a text that is not UTF-8.
void append_text(std::string& out, const std::string& text) {
  try {
    out += nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(Code::unsupported, fmt::format("safetensors cannot hold a name or text that is not UTF-8"));
  }
}

std::vector<std::int64_t> file_shape(const Tensor& tensor) {
  std::vector<std::int64_t> shape = tensor.sizes;
  if (tensor.dtype == DType::float4_e2m1fn_x2) shape.back() *= 2;
  return shape;
}

std::string make_header(const std::vector<Named>& named, const SafetensorsMetadata& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [name, text] : metadata) {
      if (json.back() != '{') json += ',';
      append_text(json, name);
      json += ':';
      append_text(json, text);
    }
    json += '}';
  }
  std::uint64_t offset = 0;
  for (const Named& each : named) {
    if (json.size() > 1) json += ',';
    append_text(json, each.name);
    fmt::format_to(std::back_inserter(json), ":{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                   safetensors::find_type(each.tensor->dtype)->name, fmt::join(file_shape(*each.tensor), ","), offset,
                   offset + each.tensor->nbytes());
    offset += each.tensor->nbytes();
  }
  json += '}';
  json.append((kAlignment - json.size() % kAlignment) % kAlignment, ' ');
  return json;
}

}  // namespace

std::string safetensors_obstacle(const Tensor& tensor) {
  if (safetensors::find_type(tensor.dtype) == nullptr) {
    return fmt::format("{} is not a dtype of the format", to_string(tensor.dtype));
  }
  if (tensor.is_conj || tensor.is_neg) return "it is conjugated or negated lazily";
  if (tensor.shard != nullptr) return "it is a part of a tensor that is spread over ranks";
  if (tensor.is_meta()) return "it is on the meta device and has no bytes";
  if (tensor.dtype == DType::float4_e2m1fn_x2 && tensor.sizes.empty()) return "a scalar of two 4-bit numbers";
  return {};
}

SafetensorsPlan plan_safetensors(const Value& tensors, const SafetensorsMetadata& metadata) {
  SafetensorsPlan result;
  std::vector<Named> named = collect(tensors);
  resolve_sharing(named, result);
  const auto rank = [](const Named& each) { return safetensors::find_type(each.tensor->dtype)->rank; };
  std::stable_sort(named.begin(), named.end(), [&](const Named& a, const Named& b) { return rank(a) > rank(b); });

  SafetensorsMetadata all = metadata;
  for (const auto& [name, kept] : result.tied) {
    // What the caller says stands, as in save_model.
    if (std::none_of(metadata.begin(), metadata.end(),
                     [&name = name](const auto& entry) { return entry.first == name; })) {
      all.emplace_back(name, kept);
    }
  }
  const std::string json = make_header(named, all);
  Plan& plan = result.plan;
  const std::uint64_t length = json.size();
  plan.literals.assign(reinterpret_cast<const char*>(&length), sizeof(length));
  plan.literals += json;
  plan.file_size = plan.literals.size();
  plan.extents.push_back({0, plan.file_size, 0, false});
  for (const Named& each : named) {
    const std::uint64_t nbytes = each.tensor->nbytes();
    if (nbytes == 0) continue;
    plan.extents.push_back({plan.file_size, nbytes, plan.payloads.size(), true});
    plan.payloads.push_back(contiguous_storage(*each.tensor));
    plan.file_size += nbytes;
  }
  return result;
}

std::vector<Value> split_tensors(const Value& tensors, std::uint64_t most_bytes) {
  std::vector<Value> parts = {Value::mapping(Kind::dict)};
  std::uint64_t last_bytes = 0;
  std::unordered_map<const void*, std::size_t> part_of;  // by storage
  for (const Entry& entry : tensors.items()) {
    const Tensor& tensor = entry.value.as_tensor();
    const auto known = part_of.find(tensor.storage->identity());
    std::size_t part = known != part_of.end() ? known->second : parts.size() - 1;
    const bool is_full = last_bytes > 0 && tensor.nbytes() > most_bytes - std::min(most_bytes, last_bytes);
    if (known == part_of.end() && is_full) {
      part = parts.size();
      parts.push_back(Value::mapping(Kind::dict));
      last_bytes = 0;
    }
    if (part + 1 == parts.size()) last_bytes += tensor.nbytes();
    if (tensor.nbytes() > 0) part_of.emplace(tensor.storage->identity(), part);
    parts[part].set(entry.key, entry.value);
  }
  return parts;
}

std::string safetensors_shard_name(std::size_t number, std::size_t count) {
  return count == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", number, count);
}

std::string safetensors_index(std::uint64_t total_size, const std::vector<std::pair<std::string, std::string>>& files) {
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (const auto& [name, file] : files) map[name] = file;
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total_size}}}, {"weight_map", std::move(map)}};
  return index.dump(2) + "\n";
}

}  // namespace torchkeep
