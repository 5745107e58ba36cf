// SPDX-License-Identifier: BSD-3-Clause
// Matching by name where both sides have names, else by order.
#include "optimizer_match.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

#include "optimizer_names.h"
#include "tensor_io.h"

namespace torchkeep {

namespace {

std::vector<Value> elements_of(const Value& value, std::string_view key) {
  const Value list = value[key];
  if (!list.is_sequence()) list.fail_kind("list");
  std::vector<Value> elements;
  for (std::size_t i = 0; i < list.size(); ++i) elements.push_back(list[static_cast<std::int64_t>(i)]);
  return elements;
}

bool all_strings(const std::vector<Value>& values) {
  return std::all_of(values.begin(), values.end(), [](const Value& value) { return value.is(Kind::string); });
}

/// The names of a group's parameters: `listed` beside the groups or in this one (PyTorch's own, or an older file's), or
/// the ids themselves where they are names (a state dict by fully qualified names, as torch.distributed.checkpoint
/// makes it).
std::vector<std::string> names_of(const Value& group, const std::optional<Value>& listed, const std::vector<Value>& ids,
                                  const std::string& prefix) {
  if (!listed && !all_strings(ids)) return {};
  std::vector<Value> texts = ids;
  if (listed) {
    if (!listed->is_sequence()) listed->fail_kind("list");
    texts.clear();
    for (std::size_t i = 0; i < listed->size(); ++i) texts.push_back((*listed)[static_cast<std::int64_t>(i)]);
  }
  std::vector<std::string> names;
  for (const Value& name : texts) names.push_back(without_prefix(name.as_string(), prefix));
  if (names.size() != ids.size()) {
    group.fail(Code::mismatch, fmt::format("{} param_names for {} params", names.size(), ids.size()));
  }
  return names;
}

std::vector<FileGroup> read_groups(const Value& value, const std::string& prefix) {
  if (!value.is_mapping()) value.fail_kind("an optimizer's state dict");
  const std::optional<Value> names = value.find(Value(kParamNames));
  std::vector<FileGroup> groups;
  for (const Value& group : elements_of(value, "param_groups")) {
    if (!group.is_mapping()) group.fail_kind("dict");
    std::vector<Value> ids = elements_of(group, "params");
    std::optional<Value> listed = group.find(Value(kParamNames));
    const std::size_t place = groups.size();
    if (names && names->is_sequence() && place < names->size()) listed = (*names)[static_cast<std::int64_t>(place)];
    std::vector<std::string> own = names_of(group, listed, ids, prefix);
    groups.push_back({group, std::move(ids), std::move(own)});
  }
  return groups;
}

bool has_names(const std::vector<FileGroup>& groups) {
  return std::all_of(groups.begin(), groups.end(),
                     [](const FileGroup& group) { return group.names.size() == group.ids.size(); }) &&
         std::any_of(groups.begin(), groups.end(), [](const FileGroup& group) { return !group.names.empty(); });
}

void match_by_order(const torch::optim::Optimizer& optimizer, Matching& matching) {
  const auto& groups = optimizer.param_groups();
  if (groups.size() != matching.file.size()) {
    matching.fatal.push_back({"param_groups", fmt::format("{} groups in the file, {} in the optimizer",
                                                          matching.file.size(), groups.size())});
    return;
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const std::size_t in_file = matching.file[g].ids.size();
    if (in_file != groups[g].params().size()) {
      matching.fatal.push_back(
          {fmt::format("group {}", g),
           fmt::format("{} parameters in the file, {} in the optimizer", in_file, groups[g].params().size())});
    }
    matching.groups[g] = g;
  }
  if (!matching.fatal.empty()) return;
  std::size_t slot = 0;
  for (const FileGroup& group : matching.file) {
    for (const Value& id : group.ids) matching.slots[slot++].id = id;
  }
}

/// Where a name stands in the file.
struct Place {
  std::size_t group;
  std::size_t index;
};

std::map<std::string, Place> places_of(const std::vector<FileGroup>& file) {
  std::map<std::string, Place> places;
  for (std::size_t g = 0; g < file.size(); ++g) {
    for (std::size_t i = 0; i < file[g].names.size(); ++i) {
      const auto [place, is_new] = places.emplace(file[g].names[i], Place{g, i});
      const Place& first = place->second;
      if (!is_new && !(file[first.group].ids[first.index] == file[g].ids[i])) {
        file[g].value.fail(Code::mismatch, fmt::format("two parameters are named '{}'", file[g].names[i]));
      }
    }
  }
  return places;
}

/// The file's group that holds this group's parameters.
void match_group(std::size_t group, const std::map<std::string, Place>& places, Matching& matching) {
  std::optional<std::size_t> found;
  for (const Slot& slot : matching.slots) {
    const auto place = places.find(slot.label);
    if (slot.group != group || place == places.end()) continue;
    if (found && *found != place->second.group) {
      matching.report.mismatched.push_back(
          {fmt::format("group {}", group),
           fmt::format("its parameters are in groups {} and {} of the file, for example {}", *found,
                       place->second.group, slot.label)});
      return;
    }
    found = place->second.group;
  }
  matching.groups[group] = found;
}

/// Strictly, the groups of both sides are the same sets of parameters.
void check_groups(std::size_t count, Matching& matching) {
  if (count != matching.file.size()) {
    matching.report.mismatched.push_back(
        {"param_groups", fmt::format("{} groups in the file, {} in the optimizer", matching.file.size(), count)});
    return;
  }
  // A group without parameters has no name to go by: it takes the place that is left, in order.
  std::set<std::size_t> taken;
  for (const auto& group : matching.groups) {
    if (group && !taken.insert(*group).second) {
      matching.report.mismatched.push_back(
          {fmt::format("group {} of the file", *group), "split into several groups here"});
    }
  }
  for (auto& group : matching.groups) {
    for (std::size_t g = 0; g < matching.file.size() && !group; ++g) {
      if (matching.file[g].ids.empty() && taken.insert(g).second) group = g;
    }
  }
}

void match_by_name(std::size_t group_count, Matching& matching) {
  const std::map<std::string, Place> places = places_of(matching.file);
  std::set<std::string> known;
  std::vector<std::string> labels;
  for (Slot& slot : matching.slots) {
    known.insert(slot.label);
    labels.push_back(slot.label);
    const auto place = places.find(slot.label);
    if (place == places.end()) {
      matching.report.missing.push_back(slot.label);
    } else {
      slot.id = matching.file[place->second.group].ids[place->second.index];
    }
  }
  for (const FileGroup& group : matching.file) {
    for (const std::string& name : group.names) {
      if (!known.contains(name)) matching.report.unexpected.push_back(name);
    }
  }
  for (std::size_t g = 0; g < group_count; ++g) match_group(g, places, matching);
  check_groups(group_count, matching);
  matching.hint = prefix_hint(labels, [&](const std::string& name) { return places.contains(name); });
}

/// A name without the module's.
std::string without_module(const std::string& name, const NamedModules& modules) {
  for (const NamedModule& module : modules.modules()) {
    if (!module.name.empty() && name.starts_with(module.name + ".")) return name.substr(module.name.size() + 1);
  }
  return name;
}

/// Gives shared parameters, which the file may have under another of their names, the names that they have here. Where
/// two names of the file are one parameter here they stay two.
void use_first_names(std::vector<FileGroup>& file, const std::map<std::string, std::string>& aliases) {
  std::vector<FileGroup> renamed = file;
  std::set<std::string> distinct;
  std::size_t count = 0;
  for (FileGroup& group : renamed) {
    for (std::string& name : group.names) {
      if (const auto known = aliases.find(name); known != aliases.end()) name = known->second;
      distinct.insert(name);
      ++count;
    }
  }
  if (distinct.size() == count) file = std::move(renamed);
}

/// Where the file has no names for the optimizer's parameters but holds the modules: the order of its keys is that of
/// the parameters. False when nothing can be told from it.
bool match_by_keys(const torch::optim::Optimizer& optimizer, const std::vector<std::string>& keys,
                   const KnownNames& known, Matching& matching) {
  std::map<std::string, std::size_t> slots;
  std::vector<std::string> order;
  for (const Slot& slot : matching.slots) {
    slots.emplace(slot.label, slots.size());
    order.push_back(slot.label);
  }
  std::vector<std::string> there;
  std::set<std::string> seen;
  for (const std::string& key : keys) {
    const auto name = known.aliases.find(key);
    if (name == known.aliases.end() || !slots.contains(name->second)) continue;
    if (seen.insert(name->second).second) there.push_back(name->second);
  }
  std::vector<std::string> here = known.in_order;
  std::erase_if(here, [&](const std::string& name) { return !slots.contains(name); });
  if (there.size() != order.size()) return false;
  if (there != here && (optimizer.param_groups().size() != 1 || order != here)) return false;
  match_by_order(optimizer, matching);
  if (there == here || !matching.fatal.empty()) return true;
  for (std::size_t i = 0; i < there.size(); ++i) matching.slots[slots.at(there[i])].id = matching.file[0].ids[i];
  return true;
}

/// The parameters' names; without the modules' where the file has them so, as PyTorch itself names them
/// (`Adam(model.named_parameters())`).
std::vector<std::vector<std::string>> as_in_the_file(std::vector<std::vector<std::string>> names,
                                                     const NamedModules& modules, const std::vector<FileGroup>& file) {
  std::set<std::string> there;
  for (const FileGroup& group : file) there.insert(group.names.begin(), group.names.end());
  std::vector<std::vector<std::string>> bare = names;
  std::set<std::string> distinct;
  std::size_t count = 0;
  for (std::vector<std::string>& group : bare) {
    for (std::string& name : group) {
      if (there.contains(name)) return names;
      name = without_module(name, modules);
      distinct.insert(name);
      ++count;
    }
  }
  return distinct == there && distinct.size() == count ? bare : names;
}

bool in_file_order(const Matching& matching) {
  std::size_t slot = 0;
  for (const auto& group : matching.groups) {
    if (!group) return false;
    for (const Value& id : matching.file[*group].ids) {
      if (slot == matching.slots.size() || !matching.slots[slot].id || !(*matching.slots[slot].id == id)) return false;
      ++slot;
    }
  }
  return slot == matching.slots.size();
}

}  // namespace

Matching match_parameters(const torch::optim::Optimizer& optimizer, const Value& value, const NamedModules* modules,
                          const OptimizerLoadOptions& options) {
  Matching matching;
  matching.file = read_groups(value, options.strip_prefix);
  const auto& groups = optimizer.param_groups();
  std::vector<std::vector<std::string>> names;
  KnownNames known;
  if (modules != nullptr) {
    known = known_names(*modules);
    std::map<std::string, std::string> aliases = known.aliases;
    for (const auto& [name, first] : known.aliases)
      aliases.emplace(without_module(name, *modules), without_module(first, *modules));
    use_first_names(matching.file, aliases);
    names = as_in_the_file(parameter_names(optimizer, *modules), *modules, matching.file);
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (std::size_t i = 0; i < groups[g].params().size(); ++i) {
      matching.slots.push_back(
          {g, groups[g].params()[i], modules == nullptr ? parameter_place(g, i) : names[g][i], std::nullopt});
    }
  }
  matching.groups.resize(groups.size());
  if (modules != nullptr && !options.by_order && has_names(matching.file)) {
    match_by_name(groups.size(), matching);
  } else if (modules == nullptr || options.by_order || !match_by_keys(optimizer, options.model_keys, known, matching)) {
    match_by_order(optimizer, matching);
    matching.report.by_order = !options.by_order;
  }
  matching.in_file_order = in_file_order(matching);
  return matching;
}

}  // namespace torchkeep
