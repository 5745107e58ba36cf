// SPDX-License-Identifier: BSD-3-Clause
// A Value as a tree of JSON nodes.
#include "support/node_json.h"

#include <bit>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unordered_map>

#include <torchkeep/state/hash.h>

namespace torchkeep::testing {
namespace {

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return out;
}

class Writer {
 public:
  std::string run(const Value& root) {
    node(root);
    return std::move(out_);
  }

 private:
  // True when the node was met before; otherwise it begins with its name and number.
  bool begin(const Value& value, std::string_view type) {
    const auto [place, is_new] = ids_.emplace(value.id(), ids_.size());
    if (is_new && value.label() != 0) labels_.emplace(value.label(), place->second);
    out_ += fmt::format(R"({{"t":"{}","id":{})", is_new ? type : "ref", place->second);
    return !is_new;
  }

  void list(std::span<const Value> values) {
    out_ += '[';
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i != 0) out_ += ',';
      node(values[i]);
    }
    out_ += ']';
  }
  void entries(std::span<const Entry> entries) {
    out_ += '[';
    for (std::size_t i = 0; i < entries.size(); ++i) {
      out_ += i == 0 ? "[" : ",[";
      node(entries[i].key);
      out_ += ',';
      node(entries[i].value);
      out_ += ']';
    }
    out_ += ']';
  }
  void field(std::string_view name, const Value& value) {
    if (value.is_none()) return;
    out_ += fmt::format(",\"{}\":", name);
    node(value);
  }

  void tensor(const Tensor& tensor) {
    const auto storage = storages_.emplace(tensor.storage->identity(), storages_.size()).first->second;
    out_ += fmt::format(R"(,"dtype":"{}","shape":[{}],"stride":[{}],"offset":{},"storage":"s{}","storage_nbytes":{})",
                        to_string(tensor.dtype), fmt::join(tensor.sizes, ","), fmt::join(tensor.strides, ","),
                        tensor.storage_offset, storage, tensor.storage->nbytes());
    out_ += fmt::format(R"(,"location":{},"requires_grad":{},"parameter":{},"conj":{},"neg":{})",
                        json_text(tensor.storage->location()), tensor.requires_grad, tensor.is_parameter,
                        tensor.is_conj, tensor.is_neg);
    if (tensor.storage->location() != "meta") out_ += fmt::format(R"(,"sha256":"{}")", to_hex(sha256(tensor)));
    if (tensor.quantizer != nullptr) out_ += fmt::format(R"(,"scheme":{})", json_text(tensor.quantizer->scheme));
  }

  void opaque(const Opaque& object) {
    static constexpr std::string_view kForms[] = {"global", "reduce", "newobj", "persistent"};
    out_ += fmt::format(R"(,"cls":{},"form":"{}")", json_text(object.module + "." + object.name),
                        kForms[static_cast<std::size_t>(object.form)]);
    field("args", object.args);
    field("kwargs", object.kwargs);
    field("state", object.state);
    if (!object.list_items.empty()) out_ += ",\"items\":", list(object.list_items);
    if (!object.dict_items.empty()) out_ += ",\"entries\":", entries(object.dict_items);
  }

  void leaf(std::string_view type, std::string_view json) { out_ += fmt::format(R"({{"t":"{}","v":{}}})", type, json); }

  void node(const Value& value) {
    switch (value.kind()) {
      case Kind::none:
        out_ += R"({"t":"none"})";
        return;
      case Kind::boolean:
        return leaf("bool", value.as_boolean() ? "true" : "false");
      case Kind::integer:
        return leaf("int", json_text(value.as_integer().to_decimal()));
      case Kind::real:
        return leaf("float", fmt::format("\"{:016x}\"", std::bit_cast<std::uint64_t>(value.as_real())));
      case Kind::complex:
        return leaf("complex",
                    fmt::format("[\"{:016x}\",\"{:016x}\"]", std::bit_cast<std::uint64_t>(value.as_complex().real()),
                                std::bit_cast<std::uint64_t>(value.as_complex().imag())));
      case Kind::string:
        return leaf("str", json_text(value.as_string()));
      case Kind::bytes:
      case Kind::bytearray:
        return leaf(to_string(value.kind()), json_text(hex(value.as_bytes())));
      case Kind::dtype:
        return leaf("global", json_text(fmt::format("torch.{}", to_string(value.as_dtype()))));
      case Kind::device:
        return leaf("device", json_text(value.as_device().name));
      case Kind::back_reference:
        out_ += fmt::format(R"({{"t":"ref","id":{}}})", labels_.at(value.label()));
        return;
      case Kind::tuple:
      case Kind::size:
        out_ += value.is(Kind::size) ? R"({"t":"size","v":)" : R"({"t":"tuple","v":)";
        list(value.elements());
        out_ += '}';
        return;
      default:
        return container(value);
    }
  }

  void container(const Value& value) {
    static const std::unordered_map<Kind, std::string_view> kNames = {
        {Kind::list, "list"},           {Kind::dict, "dict"},     {Kind::ordered_dict, "odict"},
        {Kind::counter, "counter"},     {Kind::set, "set"},       {Kind::frozenset, "frozenset"},
        {Kind::tensor, "tensor"},       {Kind::opaque, "object"}, {Kind::sparse_tensor, "sparse"},
        {Kind::nested_tensor, "nested"}};
    if (!begin(value, kNames.at(value.kind()))) contents(value);
    out_ += '}';
  }

  void contents(const Value& value) {
    if (value.is_mapping()) {
      out_ += ",\"v\":";
      entries(value.items());
    } else if (value.is(Kind::tensor)) {
      tensor(value.as_tensor());
    } else if (value.is(Kind::opaque)) {
      opaque(value.as_opaque());
    } else if (value.is(Kind::sparse_tensor)) {
      const SparseTensor& sparse = value.as_sparse_tensor();
      out_ += fmt::format(R"(,"layout":{},"shape":[{}])", json_text(sparse.layout), fmt::join(sparse.sizes, ","));
      field("indices", sparse.indices);
      field("plain", sparse.plain);
      field("values", sparse.values);
    } else if (value.is(Kind::nested_tensor)) {
      const NestedTensor& nested = value.as_nested_tensor();
      field("buffer", nested.buffer);
      field("sizes", nested.sizes);
      field("strides", nested.strides);
      field("offsets", nested.offsets);
    } else {
      out_ += ",\"v\":";
      list(value.elements());
    }
    field("attrs", value.attributes());
  }

  std::string out_;
  std::unordered_map<const void*, std::size_t> ids_;
  std::unordered_map<std::uint64_t, std::size_t> labels_;
  std::unordered_map<const void*, std::size_t> storages_;
};

}  // namespace

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    std::uint32_t c = length == 1 ? lead : lead & (0x7fu >> length);
    for (std::size_t k = 1; k < length; ++k) c = c << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3f);
    i += length;
    if (c >= 0x10000) {
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + (c & 0x3ff));
    } else if (c < 0x20 || c == '"' || c == '\\' || c >= 0x7f) {
      out += fmt::format("\\u{:04x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  return out + "\"";
}

std::string node_json(const Value& value) {
  return Writer().run(value);
}

}  // namespace torchkeep::testing
