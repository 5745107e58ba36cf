// SPDX-License-Identifier: BSD-3-Clause
// Changes of a checkpoint that need no bytes read: they rewrite the tree and put views before the storages.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <functional>
#include <map>
#include <set>

#include <torchkeep/checkpoint/convert.h>
#include <torchkeep/checkpoint/sections.h>
#include <torchkeep/format/data_class.h>
#include <torchkeep/state/cast.h>
#include <torchkeep/state/rewrite.h>
#include <torchkeep/state/walk.h>

namespace torchkeep {
namespace {

using What = Edit::What;

// The checkpoint with each of its sections as `change` makes it.
Value change_sections(const Value& checkpoint, const std::function<Value(Section, const Value&)>& change) {
  const std::vector<SectionEntry> sections = sections_of(checkpoint);
  if (sections.size() == 1 && sections[0].key.empty()) return change(sections[0].section, checkpoint);
  std::size_t next = 0;
  return rewrite(checkpoint, [&](const Visit& visit) {
    const bool is_section = visit.place.depth == 1 && visit.place.step.kind == Step::Kind::key;
    return is_section ? Edit{What::replace, change(sections[next++].section, visit.value)} : Edit{};
  });
}

bool is_inside_attributes(const Place& place) {
  for (const Place* at = &place; at->parent != nullptr; at = at->parent) {
    if (at->step.kind == Step::Kind::field) return true;
  }
  return false;
}

class Renamer {
 public:
  explicit Renamer(const std::vector<Renaming>& renamings) : renamings_(renamings), used_(renamings.size(), false) {}

  // The new name, or nothing when no renaming fits.
  std::optional<std::string> new_name(std::string name) {
    bool changed = false;
    for (std::size_t i = 0; i < renamings_.size(); ++i) {
      if (!name.starts_with(renamings_[i].from)) continue;
      name = renamings_[i].to + name.substr(renamings_[i].from.size());
      used_[i] = changed = true;
    }
    return changed ? std::optional(std::move(name)) : std::nullopt;
  }

  void check_all_used() const {
    std::vector<std::string> unused;
    for (std::size_t i = 0; i < renamings_.size(); ++i) {
      if (!used_[i]) unused.push_back(fmt::format("'{}'", renamings_[i].from));
    }
    if (unused.empty()) return;
    throw Error(Code::not_found, fmt::format("no parameter's name begins with {}", fmt::join(unused, " or with ")));
  }

  // The keys of a model's state and of the _metadata beside it.
  Value rename_model(const Value& model) {
    return rewrite(model, [this](const Visit& visit) {
      const Place& place = visit.place;
      const bool is_named = place.step.kind == Step::Kind::key && place.step.key.is(Kind::string);
      if (!is_named) return Edit{};
      if (is_inside_attributes(place)) {
        const bool is_metadata = place.step.text() == "_metadata" && place.parent->step.kind == Step::Kind::field;
        return is_metadata && visit.value.is_mapping() ? Edit{What::replace, rename_metadata(visit.value)} : Edit{};
      }
      Edit edit;
      if (auto name = new_name(place.step.key.as_string())) edit.key = Value(*name);
      return edit;
    });
  }

  Value rename_optimizer(const Value& optimizer) {
    return rewrite(optimizer, [this](const Visit& visit) {
      const Place& place = visit.place;
      const bool is_name = visit.value.is(Kind::string) && place.step.kind == Step::Kind::index && is_in_names(place);
      if (!is_name) return Edit{};
      auto name = new_name(visit.value.as_string());
      return name ? Edit{What::replace, Value(*name)} : Edit{};
    });
  }

 private:
  // In a list of the names of one group: {"param_groups": [{"param_names": [...]}]} or {"param_names": [[...]]}.
  static bool is_in_names(const Place& place) {
    const Place* const list = place.parent;
    if (list == nullptr || list->parent == nullptr) return false;
    return list->step.text() == "param_names" ||
           (list->step.kind == Step::Kind::index && list->parent->step.text() == "param_names");
  }

  // Modules' names lack the dot at the end that a parameter's has there: "module" for the prefix "module.". A wrapper
  // ("") makes room for the module that takes its name, as in PyTorch's consume_prefix_in_state_dict_if_present.
  Value rename_metadata(const Value& metadata) {
    Value result = Value::mapping(metadata.kind());
    for (const Entry& entry : metadata.items()) {
      std::optional<std::string> name;
      if (entry.key.is(Kind::string) && !entry.key.as_string().empty()) name = new_name(entry.key.as_string() + ".");
      if (name && name->ends_with('.')) name->pop_back();
      result.set(name ? Value(*name) : entry.key, entry.value);
    }
    return result;
  }

  const std::vector<Renaming>& renamings_;
  std::vector<bool> used_;
};

// Storages converted once, however many tensors view them.
class StorageCast {
 public:
  explicit StorageCast(DType dtype) : dtype_(dtype) {}

  Value convert(const Value& value) {
    const Tensor& tensor = value.as_tensor();
    StoragePtr& storage = converted_[{tensor.storage->identity(), tensor.dtype}];
    if (storage == nullptr) {
      Tensor all;
      all.dtype = tensor.dtype;
      all.sizes = {static_cast<std::int64_t>(tensor.storage->nbytes() / itemsize(tensor.dtype))};
      all.strides = {1};
      all.storage = tensor.storage;
      storage = cast(all, dtype_).storage;
    }
    Tensor result = tensor;
    result.dtype = dtype_;
    result.storage = storage;
    Value changed = result;
    changed.set_attributes(value.attributes());
    return changed;
  }

 private:
  DType dtype_;
  std::map<std::pair<const void*, DType>, StoragePtr> converted_;
};

std::string describe(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.as_boolean() ? "True" : "False";
    case Kind::integer:
      return "int " + value.as_integer().to_decimal();
    case Kind::real:
      return fmt::format("float {}", value.as_real());
    case Kind::opaque:
      return fmt::format("object of {}.{}", value.as_opaque().module, value.as_opaque().name);
    default:
      return std::string(to_string(value.kind()));
  }
}

std::string class_name(const Opaque& object) {
  return object.module.empty() ? object.name : fmt::format("{}.{}", object.module, object.name);
}

// What a part cannot be kept for: an object that it is, or that its key holds; None where there is none.
Value object_in(const Visit& visit) {
  if (visit.value.is(Kind::opaque)) return visit.value;
  Value found;
  const Step& step = visit.place.step;
  if (step.kind != Step::Kind::key || step.key.is(Kind::string) || step.key.is(Kind::integer)) return found;
  walk(step.key, [&found](const Visit& inside) {
    if (inside.value.is(Kind::opaque)) found = inside.value;
    return found.is_none() ? Next::inside : Next::stop;
  });
  return found;
}

// A storage or a layout, which PyTorch's safe loader knows.
bool can_be_saved(const Opaque& object) {
  return (object.form == Opaque::Form::persistent && object.args.is(Kind::tensor)) ||
         (object.module == "torch.serialization" && object.name == "_get_layout");
}

bool is_of_builtin_class(const Value& object) {
  const DataClass* row = data_class_of(object.as_opaque());
  return row != nullptr && row->is_builtin && plain_data(object.as_opaque());
}

// Which places are kept: those that are chosen, what lies below them, and the way to them.
class Selection {
 public:
  Selection(const Value& checkpoint, const std::vector<std::string>& paths) {
    std::vector<std::string> missing;
    for (const std::string& path : paths) {
      if (auto steps = find_steps(checkpoint, path))
        chosen_.push_back(texts(*steps));
      else
        missing.push_back(fmt::format("'{}'", path));
    }
    if (missing.empty()) return;
    std::vector<std::string> known;
    for (const SectionEntry& entry : sections_of(checkpoint)) known.push_back(entry.key);
    checkpoint.fail(Code::not_found, fmt::format("no part called {}; at the top there are: {}",
                                                 fmt::join(missing, " or "), fmt::join(known, ", ")));
  }

  bool keeps(const Place& place) const {
    const std::vector<const Step*> here = place.steps();
    return std::any_of(chosen_.begin(), chosen_.end(), [&](const std::vector<std::string>& chosen) {
      const std::size_t common = std::min(here.size(), chosen.size());
      return std::equal(here.begin(), here.begin() + static_cast<std::ptrdiff_t>(common), chosen.begin(), is_called);
    });
  }

 private:
  static bool is_called(const Step* step, const std::string& name) {
    const bool is_text = step->kind == Step::Kind::key && step->key.is(Kind::string);
    return is_text ? step->key.as_string() == name : step->text() == name;
  }
  static std::vector<std::string> texts(const std::vector<Step>& steps) {
    std::vector<std::string> texts;
    for (const Step& step : steps) texts.push_back(step.text());
    return texts;
  }

  std::vector<std::vector<std::string>> chosen_;
};

/// The paths of tensors as names, whole. Keys of a megabyte above 100,000 tensors are refused.
class Names {
 public:
  std::string of(const Visit& visit) {
    constexpr std::size_t kMostBytes = 100'000'000;  // of a header of safetensors
    std::string name = visit.place.name();
    bytes_ += name.size();
    if (bytes_ > kMostBytes) visit.value.fail(Code::unsupported, "the tensors' names take more than 100 MB");
    return name;
  }

 private:
  std::size_t bytes_ = 0;
};

}  // namespace

Value keep_parts(const Value& checkpoint, const std::vector<std::string>& paths) {
  const Selection selection(checkpoint, paths);
  return rewrite(checkpoint,
                 [&](const Visit& visit) { return Edit{selection.keeps(visit.place) ? What::keep : What::drop}; });
}

Value select_parts(const Value& checkpoint, const std::vector<std::string>& paths) {
  if (paths.size() != 1) return keep_parts(checkpoint, paths);
  const Selection selection(checkpoint, paths);
  return *find_path(checkpoint, paths[0]);
}

Value rename_parameters(const Value& checkpoint, const std::vector<Renaming>& renamings) {
  Renamer renamer(renamings);
  const Value result = change_sections(checkpoint, [&](Section section, const Value& value) {
    if (section == Section::model || section == Section::gradients) return renamer.rename_model(value);
    return section == Section::optimizer ? renamer.rename_optimizer(value) : value;
  });
  renamer.check_all_used();
  return result;
}

Value cast_model(const Value& checkpoint, DType dtype) {
  if (!can_cast(DType::float32, dtype)) {
    throw Error(Code::unsupported, fmt::format("no conversion of floating-point tensors to {}", to_string(dtype)));
  }
  StorageCast storages(dtype);
  return change_sections(checkpoint, [&](Section section, const Value& value) {
    if (section != Section::model) return value;
    if (value.is(Kind::tensor)) return storages.convert(value);
    return rewrite(value, [&](const Visit& visit) {
      const bool wanted = visit.value.is(Kind::tensor) && can_cast(visit.value.as_tensor().dtype, dtype);
      return wanted ? Edit{What::replace, storages.convert(visit.value)} : Edit{};
    });
  });
}

std::vector<std::string> drop_objects(Value& checkpoint, bool keep_builtin_classes) {
  if (checkpoint.is(Kind::opaque) && !(keep_builtin_classes && is_of_builtin_class(checkpoint))) {
    checkpoint.fail(Code::unsupported, fmt::format("the whole is an object of {}; choose a part of it",
                                                   class_name(checkpoint.as_opaque())));
  }
  std::vector<std::string> dropped;
  checkpoint = rewrite(checkpoint, [&](const Visit& visit) {
    const Value object = object_in(visit);
    if (object.is_none() || can_be_saved(object.as_opaque()) || (keep_builtin_classes && is_of_builtin_class(object)))
      return Edit{};
    dropped.push_back(fmt::format("{} (object of {})", visit.place.text(), class_name(object.as_opaque())));
    return Edit{What::drop};
  });
  return dropped;
}

Value flatten_module(const Value& archive, std::vector<std::string>& left_out) {
  if (!archive.is_mapping() || archive.contains("param_groups")) return archive;
  Value state = Value::mapping(Kind::ordered_dict);
  Names names;
  walk(archive, [&](const Visit& visit) {
    const Value& value = visit.value;
    if (visit.place.depth == 0 || (value.is_mapping() && !visit.repeated)) return Next::inside;
    const std::string name = names.of(visit);
    const std::string last = visit.place.step.text();
    if (value.is(Kind::tensor)) {
      const Value key = Value::string(name);
      if (state.contains(key)) value.fail(Code::mismatch, fmt::format("two tensors are called '{}'", name));
      state.set(key, value);
    } else if (last != "training" && last != "_is_full_backward_hook") {
      left_out.push_back(fmt::format("{} ({})", name, describe(value)));
    }
    return Next::over;
  });
  return state;
}

FlatTensors flatten_for_safetensors(const Value& checkpoint) {
  FlatTensors flat{Value::mapping(Kind::dict), {}};
  Names names;
  const auto leave_out = [&](const Visit& visit, std::string_view why) {
    flat.left_out.push_back(fmt::format("{} ({})", visit.place.text(), why));
    return Next::over;
  };
  walk(checkpoint, [&](const Visit& visit) {
    const Value& value = visit.value;
    const Step& step = visit.place.step;
    const bool is_part = visit.place.depth > 0;
    if (is_part && step.kind == Step::Kind::key && !step.key.is(Kind::string) && !step.key.is(Kind::integer)) {
      return leave_out(visit, fmt::format("a key that is a {}", to_string(step.key.kind())));
    }
    if (is_part && step.kind == Step::Kind::field && step.field == "attributes")
      return leave_out(visit, "Python attributes");
    if (visit.repeated) return leave_out(visit, "an object that stands elsewhere too");
    if (value.is(Kind::tensor)) {
      if (const std::string why = safetensors_obstacle(value.as_tensor()); !why.empty()) return leave_out(visit, why);
      const Value name = Value::string(names.of(visit));
      if (flat.tensors.contains(name))
        value.fail(Code::mismatch, fmt::format("two tensors have the path '{}'", name.as_string()));
      flat.tensors.set(name, value);
      return Next::over;
    }
    const bool is_container = value.is_mapping() || value.is_sequence();
    if (is_container && !value.empty()) return Next::inside;
    return leave_out(visit, is_container ? fmt::format("an empty {}", to_string(value.kind())) : describe(value));
  });
  return flat;
}

std::vector<std::string> restore_tied(Value& tensors, const SafetensorsMetadata& metadata) {
  std::vector<std::string> added;
  for (const auto& [name, kept] : metadata) {
    const auto original = tensors.find(Value::string(kept));
    if (!original || !original->is(Kind::tensor) || tensors.contains(Value::string(name))) continue;
    tensors.set(Value::string(name), Value(original->as_tensor()));
    added.push_back(name);
  }
  return added;
}

}  // namespace torchkeep
