// SPDX-License-Identifier: BSD-3-Clause
// Modules <-> Python's Module.state_dict().
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <set>

#include <ATen/MemoryOverlap.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/instancenorm.h>
#include <torch/torch.h>

#include <torchkeep/torch/module.h>
#include <torchkeep/torch/tensor.h>

#include "errors.h"
#include "module_walk.h"
#include "prepare.h"
#include "tensor_io.h"

namespace torchkeep {

namespace {

using torch::nn::Module;

template <class... Modules>
bool is_one_of(const Module& module) {
  return (... || (dynamic_cast<const Modules*>(&module) != nullptr));
}

/// Python's Module._version: the batch and instance normalisations count num_batches_tracked since version 2.
std::int64_t version_of(const Module& module) {
  using namespace torch::nn;
  return is_one_of<BatchNorm1dImpl, BatchNorm2dImpl, BatchNorm3dImpl, InstanceNorm1dImpl, InstanceNorm2dImpl,
                   InstanceNorm3dImpl>(module)
             ? 2
             : 1;
}

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

void walk_into(const std::string& prefix, const Module& module, std::vector<ModuleNode>& nodes) {
  ModuleNode node{prefix, &module, {}, {}};
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    if (item.value().defined()) node.parameters.push_back({join(prefix, item.key()), item.value()});
  }
  for (const auto& item : module.named_buffers(/*recurse=*/false)) {
    if (item.value().defined()) node.buffers.push_back({join(prefix, item.key()), item.value()});
  }
  nodes.push_back(std::move(node));
  for (const auto& item : module.named_children()) {
    if (item.value() != nullptr) walk_into(join(prefix, item.key()), *item.value(), nodes);
  }
}

void add_tensor(Value& dict, const NamedTensor& named, bool is_parameter) {
  if (dict.contains(named.name)) {
    throw Error(Code::invalid_argument, "the module has two parameters or buffers of this name",
                {.file = {}, .record = {}, .offset = {}, .key = named.name});
  }
  try {
    // Buffers change in forward, which no gate guards.
    dict.set(named.name,
             is_parameter ? counted_leaf(named.tensor, named.tensor.requires_grad()) : detached_leaf(named.tensor));
  } catch (const Error& error) {
    throw error.at({.file = {}, .record = {}, .offset = {}, .key = named.name});
  }
}

// ---- loading ----

/// A tensor of the module and what will be copied into it.
struct Target {
  std::string name;
  at::Tensor tensor;
  bool is_counter = false;     ///< num_batches_tracked of a normalisation
  std::string module_prefix;   ///< of the module that owns it
  std::optional<Value> found;  ///< the file's entry
  at::Tensor source;           ///< ready to be copied: right shape and dtype
  bool is_in_place = false;    ///< instead of `source`: read straight into the tensor

  bool is_ready() const { return source.defined() || is_in_place; }
};

std::vector<Target> targets_of(const Module& module) {
  std::vector<Target> targets;
  for (const ModuleNode& node : walk(module)) {
    const bool counts = version_of(*node.module) == 2;
    for (const NamedTensor& named : node.parameters)
      targets.push_back({named.name, named.tensor, false, node.prefix, {}, {}, {}});
    for (const NamedTensor& named : node.buffers) {
      const bool is_counter = counts && named.name.ends_with("num_batches_tracked");
      targets.push_back({named.name, named.tensor, is_counter, node.prefix, {}, {}, {}});
    }
  }
  return targets;
}

/// The file's entries under the names the module would give them.
class Entries {
 public:
  Entries(const Value& value, const std::string& prefix) {
    if (!value.is_mapping()) value.fail_kind("a module's state dict");
    for (const Entry& entry : value.items()) {
      const Value placed = value.at(entry.key);
      if (!entry.key.is(Kind::string)) placed.fail(Code::mismatch, "the keys of a module's state dict must be strings");
      std::string name = without_prefix(entry.key.as_string(), prefix);
      order_.push_back(name);
      if (!entries_.emplace(std::move(name), placed).second) {
        placed.fail(Code::mismatch, fmt::format("without the prefix '{}' two entries have this name", prefix));
      }
    }
    read_versions(value, prefix);
  }

  std::optional<Value> find(const std::string& name) const {
    const auto entry = entries_.find(name);
    return entry == entries_.end() ? std::nullopt : std::optional(entry->second);
  }
  /// Python's rule: the counter is expected from version 2 on; a file without `_metadata` may lack it.
  bool counter_expected(const std::string& module_prefix) const {
    const auto version = versions_.find(module_prefix);
    return version != versions_.end() && version->second >= 2;
  }
  const std::vector<std::string>& names() const { return order_; }

 private:
  void read_versions(const Value& value, const std::string& prefix) {
    const Value attributes = value.attributes();
    if (!attributes.is_mapping()) return;
    const auto metadata = attributes.find("_metadata");
    if (!metadata || !metadata->is_mapping()) return;
    for (const Entry& entry : metadata->items()) {
      if (!entry.key.is(Kind::string) || !entry.value.is_mapping()) continue;
      const auto version = entry.value.find("version");
      if (!version || !version->is(Kind::integer)) continue;
      // "module." also stands for the wrapped module itself, whose key is "module".
      const std::string name = without_prefix(entry.key.as_string() + ".", prefix);
      versions_[name.empty() ? name : name.substr(0, name.size() - 1)] = version->as_integer().to_int64().value_or(2);
    }
  }

  std::map<std::string, Value> entries_;
  std::map<std::string, std::int64_t> versions_;
  std::vector<std::string> order_;
};

/// Why LibTorch's copy_() cannot fill a tensor (or, on the meta device, does nothing), or nothing.
std::optional<std::string> why_not_writable(const at::Tensor& tensor) {
  if (tensor.layout() != at::kStrided) return fmt::format("{} in the module", c10::str(tensor.layout()));
  if (tensor.is_meta()) return "on the meta device: the module has no memory yet";
  if (at::has_internal_overlap(tensor) == at::MemOverlap::Yes) {
    return fmt::format("expanded in the module: several of its elements are one, strides {}",
                       shape_text(tensor.strides()));
  }
  if (tensor.is_inference() && !c10::InferenceMode::is_enabled()) return "an inference tensor in the module";
  return std::nullopt;
}

/// Why a leaf cannot be copied into a tensor, or nothing.
std::optional<std::string> why_not(const at::Tensor& tensor, const Tensor& leaf) {
  if (auto reason = why_not_writable(tensor)) return reason;
  const bool scalar_in_a_vector = tensor.dim() == 0 && leaf.sizes == std::vector<std::int64_t>{1};
  if (tensor.sizes() != leaf.sizes && !scalar_in_a_vector) {
    return fmt::format("shape {} in the file, {} in the module", shape_text(leaf.sizes), shape_text(tensor.sizes()));
  }
  if (leaf.quantizer != nullptr) return "quantized in the file";
  if (info(leaf.dtype).kind == DTypeClass::complex && !tensor.is_complex()) {
    return fmt::format("{} in the file, {} in the module: the imaginary part would be lost", to_string(leaf.dtype),
                       to_string(to_dtype(tensor.scalar_type())));
  }
  return std::nullopt;
}

/// Reads the file's tensor and brings it into the target's shape and dtype.
void prepare(Target& target, const Tensor& leaf, LiveReader* reader) {
  placed(*target.found, [&] {
    target.is_in_place = reader != nullptr && read_in_place(leaf, target.tensor, *reader);
    if (target.is_in_place) return;
    at::Tensor source = borrow(leaf);
    if (target.tensor.dim() == 0 && source.dim() == 1) source = source.squeeze(0);
    if (source.scalar_type() != target.tensor.scalar_type()) source = source.to(target.tensor.scalar_type());
    target.source = std::move(source);
  });
}

bool same_place(const at::Tensor& a, const at::Tensor& b) {
  return a.is_same(b) || (a.is_alias_of(b) && a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() &&
                          a.strides() == b.strides() && a.scalar_type() == b.scalar_type());
}

/// Where tensors of the module are one and the same (tied), so are their entries in the file.
class Ties {
 public:
  explicit Ties(const std::vector<Target>& targets) {
    for (const Target& target : targets) groups_[place(target.tensor)].push_back(&target);
  }
  /// The first loaded target that is the same tensor as `target`.
  const Target* loaded_twin(const Target& target) const {
    for (const Target* other : groups_.at(place(target.tensor))) {
      if (other == &target) continue;
      if (other->is_ready() && same_place(other->tensor, target.tensor)) return other;
    }
    return nullptr;
  }

 private:
  static const void* place(const at::Tensor& tensor) {
    if (!tensor.has_storage()) return tensor.unsafeGetTensorImpl();
    return tensor.storage().unsafeGetStorageImpl();
  }

  std::map<const void*, std::vector<const Target*>> groups_;
};

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype == b.dtype && a.is_conj == b.is_conj && a.is_neg == b.is_neg &&
         ((a.storage->identity() == b.storage->identity() && a.storage_offset == b.storage_offset &&
           a.strides == b.strides) ||
          a.contiguous_bytes() == b.contiguous_bytes());
}

void match(Target& target, const Ties& ties, LoadReport& report, LiveReader* reader) {
  if (!target.found->is(Kind::tensor)) {
    report.mismatched.push_back(
        {target.name, fmt::format("a {} in the file, a tensor in the module", to_string(target.found->kind()))});
    return;
  }
  const Tensor& leaf = target.found->as_tensor();
  if (const auto reason = why_not(target.tensor, leaf)) {
    report.mismatched.push_back({target.name, *reason});
    return;
  }
  const Target* twin = ties.loaded_twin(target);
  if (twin != nullptr && !same_bytes(leaf, twin->found->as_tensor())) {
    report.mismatched.push_back(
        {target.name, fmt::format("one tensor with {} in the module, but other values in the file", twin->name)});
    return;
  }
  if (twin == nullptr) prepare(target, leaf, reader);  // what is one tensor is read once
}

std::string hint_for(const std::vector<Target>& targets, const Entries& entries) {
  std::vector<std::string> names;
  for (const Target& target : targets) names.push_back(target.name);
  return prefix_hint(names, [&](const std::string& name) { return entries.find(name).has_value(); });
}

LoadReport match_all(std::vector<Target>& targets, const Entries& entries, LiveReader* reader) {
  LoadReport report;
  const Ties ties(targets);
  std::set<std::string> known;
  for (Target& target : targets) {
    known.insert(target.name);
    target.found = entries.find(target.name);
    if (target.found) match(target, ties, report, reader);
  }
  for (const Target& target : targets) {
    if (target.found || ties.loaded_twin(target) != nullptr) continue;
    if (target.is_counter && !entries.counter_expected(target.module_prefix)) continue;
    report.missing.push_back(target.name);
  }
  for (const std::string& name : entries.names()) {
    if (!known.contains(name)) report.unexpected.push_back(name);
  }
  return report;
}

}  // namespace

void detail::throw_no_module() {
  throw Error(Code::invalid_argument, "a null pointer or an empty holder: there is no module in it");
}

std::vector<ModuleNode> walk(const Module& root) {
  std::vector<ModuleNode> nodes;
  at_the_edge([&] { walk_into("", root, nodes); });
  return nodes;
}

Value state_dict(const Module& module) {
  Value dict = Value::mapping(Kind::ordered_dict);
  Value metadata = Value::mapping(Kind::ordered_dict);
  for (const ModuleNode& node : walk(module)) {
    for (const NamedTensor& named : node.parameters) add_tensor(dict, named, true);
    for (const NamedTensor& named : node.buffers) add_tensor(dict, named, false);
    metadata.set(node.prefix, Value{{"version", version_of(*node.module)}});
  }
  dict.set_attributes(Value{{"_metadata", metadata}});
  return dict;
}

LoadReport load_state_dict(Module& module, const Value& value, const ModuleLoadOptions& options) {
  LoadReport report;
  prepare_load(module, value, options, report)();
  return report;
}

std::function<void()> prepare_load(Module& module, const Value& value, const ModuleLoadOptions& options,
                                   LoadReport& report, LiveReader* reader) {
  std::vector<Target> targets = targets_of(module);
  const Entries entries(value, options.strip_prefix);
  report = match_all(targets, entries, reader);
  if (options.strict && !report.complete()) {
    value.fail(Code::mismatch, fmt::format("the state does not fit the module: {}{}; .strict = false loads what fits",
                                           report.to_string(), hint_for(targets, entries)));
  }
  return [targets = std::move(targets), value] {
    placed(value, [&] {
      const torch::NoGradGuard no_grad;
      for (const Target& target : targets) {
        if (target.source.defined()) target.tensor.copy_(target.source);
        if (target.is_in_place) target.tensor.unsafeGetTensorImpl()->bump_version();
      }
    });
  };
}

Value state_dict(const torch::nn::AnyModule& module) {
  return state_dict(*at_the_edge([&] { return module.ptr(); }));
}

LoadReport load_state_dict(torch::nn::AnyModule& module, const Value& value, const ModuleLoadOptions& options) {
  return load_state_dict(*at_the_edge([&] { return module.ptr(); }), value, options);
}

}  // namespace torchkeep
