// SPDX-License-Identifier: BSD-3-Clause
// Shows a Value as text that a Python test can compare with PyTorch's objects (canonical.py makes the same from those).
//
//   value_tool states DIR     writes every conformance state to DIR/NAME.pt and its description to DIR/NAME.json
//   value_tool names          prints the names of the states
//   value_tool read FILE      prints the description of a file; an error goes to stderr, with exit status 1
//   value_tool copy IN OUT    loads and saves
//   value_tool huge FILE      saves a tensor of 4.1 GiB zeros and a small one behind it; the zeros take no room on the
//   disk
#include <algorithm>
#include <bit>
#include <cstdio>
#include <deque>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fstream>
#include <map>
#include <unordered_map>

#include <torchkeep/base/crc32.h>
#include <torchkeep/torchkeep.h>

#include "support/conformance.h"
#include "support/pt_files.h"
#include "write_plan.h"

namespace torchkeep {
namespace {

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

std::string hex(double value) {
  return fmt::format("{:016x}", std::bit_cast<std::uint64_t>(value));
}

std::string ints(const std::vector<std::int64_t>& values) {
  return fmt::format("[{}]", fmt::join(values, ","));
}

/// One line per node, in the order in which a breadth-first walk meets them; children are the numbers of their lines.
class Description {
 public:
  std::string run(const Value& root) {
    collect_labels(root);
    number(root);
    std::string text;
    for (std::size_t i = 0; i < nodes_.size(); ++i) text += (i == 0 ? "[" : ",\n") + describe(nodes_[i]);
    return text + "]\n";
  }

 private:
  void collect_labels(const Value& root) {
    std::deque<Value> open{root};
    std::unordered_map<const void*, bool> seen;
    while (!open.empty()) {
      const Value value = open.front();
      open.pop_front();
      if (value.id() == nullptr || !seen.emplace(value.id(), true).second) continue;
      if (value.label() != 0 && !value.is(Kind::back_reference)) labels_.emplace(value.label(), value);
      if (value.is_mapping()) {
        for (const Entry& entry : value.items()) open.push_back(entry.key), open.push_back(entry.value);
      } else if (value.is_sequence()) {
        for (const Value& element : value.elements()) open.push_back(element);
      }
      open.push_back(value.attributes());
    }
  }

  // Mutable objects and tuples with content have an identity in Python; numbers and texts have none that counts.
  static bool has_identity(const Value& value) {
    switch (value.kind()) {
      case Kind::tuple:
        return !value.empty();
      case Kind::list:
      case Kind::dict:
      case Kind::ordered_dict:
      case Kind::counter:
      case Kind::set:
      case Kind::bytearray:
      case Kind::tensor:
      case Kind::sparse_tensor:
      case Kind::nested_tensor:
        return true;
      default:
        return false;
    }
  }

  std::size_t number(const Value& value) {
    if (value.is(Kind::back_reference)) return number(labels_.at(value.label()));
    if (has_identity(value)) {
      const auto [place, is_new] = numbers_.emplace(value.id(), nodes_.size());
      if (!is_new) return place->second;
    }
    nodes_.push_back(value);
    return nodes_.size() - 1;
  }

  std::string numbers(std::span<const Value> values) {
    std::vector<std::size_t> list;
    for (const Value& value : values) list.push_back(number(value));
    return fmt::format("[{}]", fmt::join(list, ","));
  }
  std::string numbers(std::span<const Entry> entries) {
    std::vector<std::size_t> list;
    for (const Entry& entry : entries) list.push_back(number(entry.key)), list.push_back(number(entry.value));
    return fmt::format("[{}]", fmt::join(list, ","));
  }
  std::string attributes(const Value& value) {
    const Value attributes = value.attributes();
    return attributes.is_none() ? "null" : fmt::format("{}", number(attributes));
  }

  std::string describe(const Value& value) {
    const std::string_view name = to_string(value.kind());
    switch (value.kind()) {
      case Kind::none:
        return R"(["None"])";
      case Kind::boolean:
        return fmt::format(R"(["bool",{}])", value.as_boolean());
      case Kind::integer:
        return fmt::format(R"(["int","{}"])", hex(value.as_integer().to_twos_complement()));
      case Kind::real:
        return fmt::format(R"(["float","{}"])", hex(value.as_real()));
      case Kind::complex:
        return fmt::format(R"(["complex","{}","{}"])", hex(value.as_complex().real()), hex(value.as_complex().imag()));
      case Kind::string:
        return fmt::format(R"(["str","{}"])", hex(value.as_string()));
      case Kind::bytes:
      case Kind::bytearray:
        return fmt::format(R"(["{}","{}"])", name, hex(value.as_bytes()));
      case Kind::list:
      case Kind::tuple:
      case Kind::size:
        return fmt::format(R"(["{}",{}])", name, numbers(value.elements()));
      case Kind::set:
        return describe_set(value);
      case Kind::dict:
      case Kind::counter:
        return fmt::format(R"(["{}",{}])", name, numbers(value.items()));
      case Kind::ordered_dict: {
        const std::string items = numbers(value.items());
        return fmt::format(R"(["OrderedDict",{},{}])", items, attributes(value));
      }
      case Kind::dtype:
        return fmt::format(R"(["dtype","{}"])", to_string(value.as_dtype()));
      case Kind::device:
        return fmt::format(R"(["device","{}"])", value.as_device().name);
      case Kind::tensor: {
        const std::string tensor = describe(value.as_tensor());
        return fmt::format(R"(["tensor",{},{}])", tensor, attributes(value));
      }
      case Kind::sparse_tensor:
        return describe(value.as_sparse_tensor());
      case Kind::nested_tensor: {
        const NestedTensor& nested = value.as_nested_tensor();
        const Value parts[] = {nested.buffer, nested.sizes, nested.strides, nested.offsets};
        return fmt::format(R"(["nested",{}])", numbers(parts));
      }
      default:
        throw Error(Code::unsupported, fmt::format("value_tool cannot describe a {}", name));
    }
  }

  // Python's sets have no order; these hold ints.
  static std::string describe_set(const Value& value) {
    std::vector<std::int64_t> elements;
    for (const Value& element : value.elements()) elements.push_back(element.to<std::int64_t>());
    std::sort(elements.begin(), elements.end());
    return fmt::format(R"(["set",{}])", ints(elements));
  }

  std::string describe(const SparseTensor& tensor) {
    std::vector<Value> parts{tensor.indices, tensor.plain, tensor.values};
    if (tensor.plain.is_none()) parts.erase(parts.begin() + 1);
    const std::string numbers = this->numbers(parts);
    const std::string coalesced = tensor.is_coalesced ? fmt::format("{}", *tensor.is_coalesced) : "null";
    return fmt::format(R"(["sparse","{}",{},{},{}])", tensor.layout, numbers, ints(tensor.sizes), coalesced);
  }

  std::string describe(const Tensor& tensor) {
    std::string text = fmt::format(R"({{"dtype":"{}","sizes":{},"strides":{},"offset":{},"grad":{},"parameter":{},)",
                                   to_string(tensor.dtype), ints(tensor.sizes), ints(tensor.strides),
                                   tensor.storage_offset, tensor.requires_grad, tensor.is_parameter);
    text +=
        fmt::format(R"("conj":{},"neg":{},"device":"{}",)", tensor.is_conj, tensor.is_neg, tensor.storage->location());
    if (tensor.quantizer != nullptr) text += describe(*tensor.quantizer);
    if (tensor.storage->location() == "meta") return text + R"("storage":null})";
    const auto [place, is_new] = storages_.emplace(tensor.storage->identity(), storages_.size());
    std::string bytes(tensor.storage->nbytes(), '\0');
    tensor.storage->read(0, std::as_writable_bytes(std::span(bytes)));
    return text +
           fmt::format(R"("storage":{},"nbytes":{},"crc":{}}})", place->second, bytes.size(), crc32(as_bytes(bytes)));
  }

  static std::string describe(const Quantizer& quantizer) {
    std::string text = fmt::format(R"("scheme":"{}",)", quantizer.scheme);
    if (quantizer.scales == nullptr) {
      return text + fmt::format(R"("scale":"{}","zero_point":{},)", hex(quantizer.scale), quantizer.zero_point);
    }
    return text + fmt::format(R"("scale":"{}","zero_point":"{}","axis":{},)", hex(quantizer.scales->contiguous_bytes()),
                              hex(quantizer.zero_points->contiguous_bytes()), quantizer.axis);
  }

  std::deque<Value> nodes_;
  std::unordered_map<const void*, std::size_t> numbers_;
  std::map<const void*, std::size_t> storages_;
  std::unordered_map<std::uint64_t, Value> labels_;
};

void write_states(const std::string& folder, const std::vector<testing::NamedState>& states) {
  for (const auto& [name, value] : states) {
    save(value, folder + "/" + name + ".pt", {.durable = false});
    std::ofstream(folder + "/" + name + ".json") << Description().run(value);
  }
}

/// Leaves holes where zeros are written.
class SparseFile final : public File {
 public:
  explicit SparseFile(const std::string& path) : inner_(posix_fs().create(path, {})) {}
  void write_at(std::uint64_t offset, Bytes bytes) override {
    const bool is_hole = std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
    if (!is_hole) inner_->write_at(offset, bytes);
  }
  bool reserve(std::uint64_t) override { return false; }
  void sync() override {}
  void close() override { inner_->close(); }
  const std::string& path() const noexcept override { return inner_->path(); }

 private:
  std::unique_ptr<File> inner_;
};

void write_huge(const std::string& path) {
  Tensor zeros;
  zeros.dtype = DType::int64;
  zeros.sizes = {std::int64_t{4200} << 17};
  zeros.strides = {1};
  zeros.storage = std::make_shared<testing::ZeroStorage>(std::uint64_t{4200} << 20);
  Plan plan = plan_pt(Value{{"zeros", zeros}, {"behind", Tensor::of<std::int32_t>({3}, {1, 2, 3})}});
  SparseFile file(path);
  write_plan(plan, file);
  file.close();
}

int run(const std::vector<std::string>& arguments) {
  const std::string verb = arguments.empty() ? "" : arguments[0];
  if (verb == "states" && arguments.size() == 2) {
    write_states(arguments[1], testing::conformance_states());
    write_states(arguments[1], testing::large_states());
  } else if (verb == "names" && arguments.size() == 1) {
    for (const auto& state : testing::conformance_states()) fmt::print("{}\n", state.name);
    for (const auto& state : testing::large_states()) fmt::print("{}\n", state.name);
  } else if (verb == "read" && arguments.size() == 2) {
    std::fputs(Description().run(load(arguments[1], {.unknown_classes = UnknownClasses::refuse})).c_str(), stdout);
  } else if (verb == "copy" && arguments.size() == 3) {
    save(load(arguments[1]), arguments[2], {.durable = false});
  } else if (verb == "huge" && arguments.size() == 2) {
    write_huge(arguments[1]);
  } else {
    std::fputs("usage: value_tool states DIR | names | read FILE | copy IN OUT | huge FILE\n", stderr);
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace torchkeep

int main(int argc, char** argv) {
  try {
    return torchkeep::run({argv + 1, argv + argc});
  } catch (const torchkeep::Error& error) {
    std::fprintf(stderr, "%s: %s\n", std::string(to_string(error.code())).c_str(), error.what());
    return 1;
  }
}
