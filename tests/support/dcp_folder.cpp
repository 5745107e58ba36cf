// SPDX-License-Identifier: BSD-3-Clause
// Hand-made DCP folders.
#include "support/dcp_folder.h"

#include <sstream>

#include "support/file_parts.h"
#include "support/pt_files.h"

namespace torchkeep::testing {
namespace {

using namespace parts;

constexpr const char* kModule = "torch.distributed.checkpoint.metadata";

std::string fields(const std::string& type, const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string state = "}(";
  for (const auto& [name, value] : entries) state += text(name) + value;
  return type + ")\x81" + state + "ub";
}
std::string object(const char* name, const std::vector<std::pair<std::string, std::string>>& entries) {
  return fields(global(kModule, name), entries);
}

std::string size(const Shape& shape) {
  std::string items = "(";
  for (const std::int64_t number : shape) items += parts::number(number);
  return call(global("torch", "Size"), {items + "t"});
}

std::string properties(const std::string& dtype) {
  const std::string layout = call(global("torch.serialization", "_get_layout"), {text("torch.strided")});
  const std::string format = call(global(kModule, "_MEM_FORMAT_ENCODING"), {number(0)});
  return global(kModule, "TensorProperties") + ")\x81" +
         tuple({global("torch", dtype), layout, "\x89", format, "\x89"}) + "b";
}

std::string tensor_metadata(const DcpTensor& tensor) {
  std::string chunks = "](";
  for (const Box& box : tensor.chunks) {
    chunks += object("ChunkStorageMetadata", {{"offsets", size(box.offset)}, {"sizes", size(box.size)}});
  }
  return object("TensorStorageMetadata",
                {{"properties", tensor.properties.empty() ? properties(tensor.dtype) : tensor.properties},
                 {"size", size(tensor.shape)},
                 {"chunks", chunks + "e"}});
}

std::string index(const DcpItem& item) {
  std::vector<std::pair<std::string, std::string>> entries = {{"fqn", text(item.fqn)},
                                                              {"index", item.index ? number(*item.index) : "N"}};
  if (item.offset) entries.emplace_back("offset", size(*item.offset));
  return object("MetadataIndex", entries);
}

std::string info(const DcpItem& item) {
  std::vector<std::pair<std::string, std::string>> entries = {
      {"relative_path", text(item.file)}, {"offset", number(item.begin)}, {"length", number(item.length)}};
  if (!item.transform.empty()) entries.emplace_back("transform_descriptors", "](" + text(item.transform) + "e");
  return fields(global("torch.distributed.checkpoint.filesystem", "_StorageInfo"), entries);
}

std::string path(const std::string& steps) {
  std::string items = "(";
  std::istringstream stream(steps);
  for (std::string step; std::getline(stream, step, '/');) {
    items += step.starts_with('#') ? number(std::stoll(step.substr(1))) : text(step);
  }
  return items + "t";
}

}  // namespace

std::string DcpFolder::metadata_bytes() const {
  if (metadata) return *metadata;
  std::string entries = "}(", storage = "}(", planner = "}(";
  for (const DcpTensor& tensor : tensors) entries += text(tensor.fqn) + tensor_metadata(tensor);
  for (const std::string& name : values) entries += text(name) + global(kModule, "BytesStorageMetadata") + ")\x81";
  for (const DcpItem& item : items) storage += index(item) + info(item);
  if (paths) {
    for (const auto& [fqn, steps] : *paths) planner += text(fqn) + path(steps);
  }
  return parts::pickle("c" + metadata_class + "\n)\x81}(" + text("state_dict_metadata") + entries + "u" +
                       text("planner_data") + (paths ? planner + "u" : "N") + text("storage_data") + storage + "u" +
                       text("version") + text("1.0.0") + extra + "ub");
}

void DcpFolder::add_item(const Value& value, DcpItem item) {
  const std::string bytes = pt_bytes(value);
  std::string& file = files[item.file];
  item.begin = static_cast<std::int64_t>(file.size());
  item.length = static_cast<std::int64_t>(bytes.size());
  file += bytes;
  items.push_back(std::move(item));
}

Folder DcpFolder::folder(bool has_metadata) const {
  auto all = std::make_shared<std::map<std::string, std::string>>(files);
  if (has_metadata) all->emplace(".metadata", metadata_bytes());
  Folder folder;
  folder.name = "ckpt";
  for (const auto& [name, bytes] : *all) folder.files.push_back(name);
  folder.open = [all](const std::string& name) -> std::shared_ptr<const ReadAt> {
    const auto found = all->find(name);
    if (found == all->end())
      throw Error(Code::not_found, "no such file", {.file = "ckpt/" + name, .record = {}, .offset = {}, .key = {}});
    return std::make_shared<MemoryReadAt>(found->second, "ckpt/" + name);
  };
  return folder;
}

Tensor box_of_numbers(BoxView box, ShapeView shape) {
  std::vector<float> numbers;
  const std::int64_t count = element_count(box.size).value();
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t rest = i, element = 0, stride = 1;
    for (std::size_t d = shape.size(); d-- > 0;) {
      element += (box.offset[d] + rest % box.size[d]) * stride;
      rest /= box.size[d];
      stride *= shape[d];
    }
    numbers.push_back(static_cast<float>(element));
  }
  return Tensor::of<float>({box.size.begin(), box.size.end()}, std::span<const float>(numbers));
}

DcpFolder sample_dcp_folder() {
  DcpFolder folder;
  const Shape shape = {6, 4};
  const Box first({0, 0}, {4, 4}), second({4, 0}, {2, 4});
  folder.tensors.push_back({"w", shape, {first, second}});
  folder.values.emplace_back("n");
  folder.add_item(Value(box_of_numbers(first, shape)), {.fqn = "w", .offset = first.offset, .index = 0});
  folder.add_item(Value(7), {.fqn = "n"});
  folder.add_item(Value(box_of_numbers(second, shape)),
                  {.fqn = "w", .offset = second.offset, .file = "__1_0.distcp", .index = 1});
  return folder;
}

}  // namespace torchkeep::testing
