// SPDX-License-Identifier: BSD-3-Clause
// Values as JSON nodes.
#include <algorithm>
#include <bit>
#include <cmath>
#include <deque>
#include <fmt/format.h>
#include <span>
#include <unordered_map>

#include <torchkeep/state/walk.h>

#include "json.h"
#include "text.h"

namespace torchkeep::cli {
namespace {

std::string_view type_of(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
      return "none";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::complex:
      return "complex";
    case Kind::string:
      return "str";
    case Kind::bytes:
      return "bytes";
    case Kind::bytearray:
      return "bytearray";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::size:
      return "size";
    case Kind::dict:
      return "dict";
    case Kind::ordered_dict:
      return "odict";
    case Kind::counter:
      return "counter";
    case Kind::set:
      return "set";
    case Kind::frozenset:
      return "frozenset";
    case Kind::dtype:
      return "dtype";
    case Kind::device:
      return "device";
    case Kind::tensor:
      return "tensor";
    case Kind::sparse_tensor:
      return "sparse_tensor";
    case Kind::nested_tensor:
      return "nested_tensor";
    case Kind::opaque:
      return "object";
    case Kind::back_reference:
      break;
  }
  return "ref";
}

// Exact, as Python's float.hex() writes it: "0x1.8000000000000p+0".
std::string hex_number(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  const auto bits = std::bit_cast<std::uint64_t>(number);
  const std::uint64_t mantissa = bits & 0xf'ffff'ffff'ffff;
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
  const char* sign = bits >> 63 != 0 ? "-" : "";
  if (exponent == 0 && mantissa == 0) return fmt::format("{}0x0.0p+0", sign);
  return fmt::format("{}0x{}.{:013x}p{:+d}", sign, exponent == 0 ? 0 : 1, mantissa,
                     exponent == 0 ? -1022 : exponent - 1023);
}

std::string to_hex_text(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

// Of its own in Python, whatever it holds.
bool has_identity(const Value& value) {
  return value.kind() >= Kind::list && value.kind() != Kind::tuple && value.kind() != Kind::size &&
         value.kind() != Kind::dtype && value.kind() != Kind::device;
}

class NodeWriter {
 public:
  NodeWriter(JsonWriter& json, const NodeOptions& options)
      : json_(json), options_(options), ids_(options.ids != nullptr ? *options.ids : own_ids_) {}

  void run(const Value& root) {
    begin(root);
    while (!stack_.empty()) {
      Frame& top = stack_.back();
      if (top.next == top.steps.size())
        stack_.pop_back();
      else
        step(top.steps[top.next++]);
    }
  }

 private:
  // What is written next in a node, after what is nested in the step before.
  struct Step {
    enum class What : std::uint8_t { value, key, begin_array, end_array, end_object };
    What what;
    const Value* value = nullptr;
    const char* key = nullptr;
  };
  struct Frame {
    std::vector<Step> steps;
    std::size_t next = 0;
    void value(const Value& value) { steps.push_back({Step::What::value, &value}); }
    void key(const char* name) { steps.push_back({Step::What::key, nullptr, name}); }
    void begin_array() { steps.push_back({Step::What::begin_array}); }
    void end_array() { steps.push_back({Step::What::end_array}); }
    void member(const char* name, const Value& part) { key(name), value(part); }
    template <class Values>
    void array(const char* name, const Values& values) {
      key(name), begin_array();
      for (const Value& each : values) value(each);
      end_array();
    }
    void pairs(const char* name, std::span<const Entry> entries) {
      key(name), begin_array();
      for (const Entry& entry : entries) begin_array(), value(entry.key), value(entry.value), end_array();
      end_array();
    }
  };

  void begin(const Value& value) {
    json_.begin_object();
    if (value.is(Kind::back_reference)) {
      json_.member("t", "ref");
      const auto known = ids_.labels.find(value.label());
      if (known != ids_.labels.end()) json_.member("id", known->second);
      return json_.end_object();
    }
    if (has_identity(value) || is_long(value)) {
      const auto [known, is_new] = ids_.objects.emplace(value.id(), ids_.objects.size());
      json_.member("t", is_new ? type_of(value) : "ref");
      json_.member("id", known->second);
      if (!is_new) return json_.end_object();
      if (value.label() != 0) ids_.labels.emplace(value.label(), known->second);
    } else {
      json_.member("t", type_of(value));
    }
    stack_.emplace_back();
    describe(value, stack_.back());
    if (!value.is_none() && !value.attributes().is_none()) stack_.back().member("attrs", keep(value.attributes()));
    stack_.back().steps.push_back({Step::What::end_object});
  }

  // Writes what lies in the node itself, and plans what lies below it.
  void describe(const Value& value, Frame& frame) {
    switch (value.kind()) {
      case Kind::boolean:
        return json_.member("v", value.as_boolean());
      case Kind::integer:
        return json_.member("v", value.as_integer().to_decimal());
      case Kind::real:
        json_.member("v", python_number(value.as_real()));
        return json_.member("hex", hex_number(value.as_real()));
      case Kind::complex:
        json_.member("real", python_number(value.as_complex().real()));
        json_.member("imag", python_number(value.as_complex().imag()));
        return json_.member("hex", std::vector<std::string>{hex_number(value.as_complex().real()),
                                                            hex_number(value.as_complex().imag())});
      case Kind::string:
        return json_.member("v", value.as_string());
      case Kind::bytes:
      case Kind::bytearray:
        return json_.member("hex", to_hex_text(value.as_bytes()));
      case Kind::dtype:
        return json_.member("v", to_string(value.as_dtype()));
      case Kind::device:
        return json_.member("v", value.as_device().name);
      case Kind::size: {
        std::vector<std::int64_t> sizes;
        for (const Value& size : value.elements()) sizes.push_back(size.to<std::int64_t>());
        return json_.member("v", sizes);
      }
      case Kind::dict:
      case Kind::ordered_dict:
      case Kind::counter:
        return frame.pairs("v", value.items());
      case Kind::list:
      case Kind::tuple:
      case Kind::set:
      case Kind::frozenset:
        return frame.array("v", value.elements());
      case Kind::tensor:
        return describe_tensor(value);
      case Kind::sparse_tensor: {
        const SparseTensor& tensor = value.as_sparse_tensor();
        json_.member("layout", tensor.layout);
        json_.member("shape", tensor.sizes);
        if (tensor.is_coalesced) json_.member("coalesced", *tensor.is_coalesced);
        frame.member("indices", tensor.indices), frame.member("plain", tensor.plain);
        return frame.member("values", tensor.values);
      }
      case Kind::nested_tensor: {
        const NestedTensor& tensor = value.as_nested_tensor();
        frame.member("buffer", tensor.buffer), frame.member("sizes", tensor.sizes);
        frame.member("strides", tensor.strides);
        return frame.member("offsets", tensor.offsets);
      }
      case Kind::opaque:
        return describe_object(value.as_opaque(), frame);
      case Kind::none:
      case Kind::back_reference:
        break;
    }
  }

  void describe_object(const Opaque& object, Frame& frame) {
    constexpr const char* kForms[] = {"global", "reduce", "newobj", "persistent"};
    json_.member("cls", object.module.empty() ? object.name : object.module + "." + object.name);
    json_.member("form", kForms[static_cast<std::size_t>(object.form)]);
    if (!object.args.is_none()) frame.member("args", object.args);
    if (!object.kwargs.is_none()) frame.member("kwargs", object.kwargs);
    if (!object.state.is_none()) frame.member("state", object.state);
    if (!object.list_items.empty()) frame.array("items", object.list_items);
    if (!object.dict_items.empty()) frame.pairs("entries", object.dict_items);
  }

  void describe_tensor(const Value& value) {
    const Tensor& tensor = value.as_tensor();
    const auto storage = ids_.storages.emplace(tensor.storage->identity(), ids_.storages.size()).first->second;
    json_.member("dtype", to_string(tensor.dtype));
    json_.member("shape", tensor.sizes);
    json_.member("stride", tensor.strides);
    json_.member("offset", tensor.storage_offset);
    json_.member("storage", fmt::format("s{}", storage));
    json_.member("storage_nbytes", tensor.storage->nbytes());
    json_.member("location", tensor.storage->location());
    json_.member("nbytes", tensor.nbytes());
    json_.member("requires_grad", tensor.requires_grad);
    json_.member("parameter", tensor.is_parameter);
    if (tensor.is_conj) json_.member("conj", true);
    if (tensor.is_neg) json_.member("neg", true);
    if (tensor.quantizer) describe_quantizer(*tensor.quantizer);
    if (options_.sha256 != nullptr) {
      const auto known = options_.sha256->find(value.id());
      if (known != options_.sha256->end()) json_.member("sha256", to_hex(known->second));
    }
    if (options_.statistics) {
      json_.key("statistics");
      write_statistics(json_, statistics(tensor, {.bins = options_.bins}));
    }
  }

  void describe_quantizer(const Quantizer& quantizer) {
    json_.key("quantizer");
    json_.begin_object();
    json_.member("scheme", quantizer.scheme);
    if (quantizer.scales == nullptr) {
      json_.member("scale", quantizer.scale);
      json_.member("zero_point", quantizer.zero_point);
    } else {
      json_.member("axis", quantizer.axis);
      json_.member("scales_sha256", to_hex(sha256(*quantizer.scales)));
      if (quantizer.zero_points) json_.member("zero_points_sha256", to_hex(sha256(*quantizer.zero_points)));
    }
    json_.end_object();
  }

  // Attributes come as a handle of their own, which must live until it is written.
  const Value& keep(Value value) {
    kept_.push_back(std::move(value));
    return kept_.back();
  }

  void step(const Step& step) {
    switch (step.what) {
      case Step::What::value:
        return begin(*step.value);
      case Step::What::key:
        return json_.key(step.key);
      case Step::What::begin_array:
        return json_.begin_array();
      case Step::What::end_array:
        return json_.end_array();
      case Step::What::end_object:
        return json_.end_object();
    }
  }

  JsonWriter& json_;
  const NodeOptions& options_;
  std::deque<Frame> stack_;
  std::deque<Value> kept_;
  NodeIds own_ids_;
  NodeIds& ids_;
};

}  // namespace

void write_node(JsonWriter& json, const Value& value, const NodeOptions& options) {
  NodeWriter(json, options).run(value);
}

bool is_long(const Value& value) {
  constexpr std::size_t kMostBytes = 64, kMostElements = 16;
  switch (value.kind()) {
    case Kind::string:
    case Kind::bytes:
      return value.size() > kMostBytes;
    case Kind::integer:
      return !value.as_integer().to_int64() && !value.as_integer().to_uint64();
    case Kind::tuple:
    case Kind::size:
      return value.size() > kMostElements ||
             std::any_of(value.elements().begin(), value.elements().end(), [](const Value& element) {
               return has_identity(element) || element.is(Kind::tuple) || element.is(Kind::size) || is_long(element);
             });
    default:
      return false;
  }
}

void write_plain(JsonWriter& json, const Value& value, NodeIds* ids) {
  switch (value.kind()) {
    case Kind::none:
      return json.null();
    case Kind::boolean:
      return json.boolean(value.as_boolean());
    case Kind::integer:
      if (const auto small = value.as_integer().to_int64()) return json.number(*small);
      if (const auto large = value.as_integer().to_uint64()) return json.number(*large);
      return json.text(value.as_integer().to_decimal());
    case Kind::real:
      return json.number(value.as_real());
    case Kind::string:
      return json.text(value.as_string());
    default:
      break;
  }
  const auto is_plain = [](const Value& element) {
    return element.kind() <= Kind::string && !element.is(Kind::complex) && !is_long(element);
  };
  const bool is_list = value.is_sequence() && std::all_of(value.elements().begin(), value.elements().end(), is_plain);
  if (!is_list) return write_node(json, value, {.ids = ids});
  json.begin_array();
  for (const Value& element : value.elements()) write_plain(json, element);
  json.end_array();
}

void write_statistics(JsonWriter& json, const Statistics& statistics) {
  json.begin_object();
  json.member("count", statistics.count);
  json.member("nan", statistics.nan);
  json.member("positive_infinity", statistics.positive_infinity);
  json.member("negative_infinity", statistics.negative_infinity);
  json.member("zero", statistics.zero);
  json.key("min"), write_plain(json, statistics.minimum);
  json.key("max"), write_plain(json, statistics.maximum);
  json.key("mean"), write_plain(json, statistics.mean);
  json.member("std", statistics.standard_deviation);
  json.member("norm", statistics.norm);
  if (statistics.histogram) {
    json.key("histogram");
    json.begin_object();
    json.member("low", statistics.histogram->low);
    json.member("high", statistics.histogram->high);
    json.key("counts");
    json.begin_array();
    for (const std::uint64_t count : statistics.histogram->counts) json.number(count);
    json.end_array();
    json.end_object();
  }
  json.end_object();
}

}  // namespace torchkeep::cli
