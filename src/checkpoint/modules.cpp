// SPDX-License-Identifier: BSD-3-Clause
// Whole pickled modules as state dicts: the names and the order that Module.state_dict() would give.
#include <fmt/format.h>
#include <optional>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <torchkeep/checkpoint/convert.h>
#include <torchkeep/state/rewrite.h>

namespace torchkeep {
namespace {

// A file may name one submodule as often as it likes, and modules of modules double with every level.
constexpr std::size_t kMaxVisits = std::size_t{1} << 20;
constexpr std::size_t kMaxNameBytes = 4096;

/// A module that is being walked through: its children from `next` on are still to come.
struct Frame {
  Value modules;
  std::string prefix;
  std::size_t next = 0;
};

std::optional<Value> part(const Opaque& module, const char* name) {
  const auto found = module.state.is_mapping() ? module.state.find(name) : std::nullopt;
  return found && found->is_mapping() ? found : std::nullopt;
}

class Flattener {
 public:
  Value run(const Value& root) {
    enter(root, "");
    while (!frames_.empty()) {
      Frame& frame = frames_.back();
      if (frame.next == frame.modules.items().size()) {
        frames_.pop_back();
        continue;
      }
      const Entry& child = frame.modules.items()[frame.next++];
      if (child.value.is_none()) continue;
      const std::string name = name_of(child.key, frame.prefix);
      if (!is_module(child.value))
        root.fail(Code::unsupported,
                  fmt::format("submodule '{}' is a {}, not a module", name, to_string(child.value.kind())));
      enter(Value(child.value), name + ".");
    }
    return std::move(state_);
  }

 private:
  void enter(const Value& module, const std::string& prefix) {
    if (++visits_ > kMaxVisits) module.fail(Code::refused, fmt::format("more than {} submodules", kMaxVisits));
    const Opaque& object = module.as_opaque();
    add(*part(object, "_parameters"), prefix, {});
    add(*part(object, "_buffers"), prefix, object.state.get("_non_persistent_buffers_set", {}));
    frames_.push_back({*part(object, "_modules"), prefix});
  }

  void add(const Value& tensors, const std::string& prefix, const Value& left_out) {
    const std::unordered_set<std::string_view> unsaved = texts_of(left_out);
    visits_ += unsaved.size();
    for (const Entry& entry : tensors.items()) {
      const bool is_left_out = entry.key.is(Kind::string) && unsaved.contains(entry.key.as_string());
      if (entry.value.is_none() || is_left_out) continue;
      const std::string name = name_of(entry.key, prefix);
      if (++visits_ > kMaxVisits) tensors.fail(Code::refused, fmt::format("more than {} tensors", kMaxVisits));
      if (!entry.value.is(Kind::tensor)) {
        state_.set(Value::string(name), entry.value);
        continue;
      }
      Tensor tensor = entry.value.as_tensor();
      tensor.is_parameter = tensor.requires_grad = false;
      state_.set(Value::string(name), std::move(tensor));
    }
  }

  static std::unordered_set<std::string_view> texts_of(const Value& names) {
    std::unordered_set<std::string_view> texts;
    if (!names.is(Kind::set)) return texts;
    for (const Value& name : names.elements()) {
      if (name.is(Kind::string)) texts.insert(name.as_string());
    }
    return texts;
  }

  static std::string name_of(const Value& key, const std::string& prefix) {
    if (!key.is(Kind::string)) key.fail(Code::unsupported, "a module with a name that is no str");
    if (prefix.size() + key.size() > kMaxNameBytes)
      key.fail(Code::refused, fmt::format("a tensor's name of more than {} bytes", kMaxNameBytes));
    return prefix + key.as_string();
  }

  Value state_ = Value::mapping(Kind::ordered_dict);
  std::vector<Frame> frames_;
  std::size_t visits_ = 0;
};

}  // namespace

bool is_module(const Value& value) {
  if (!value.is(Kind::opaque)) return false;
  const Opaque& object = value.as_opaque();
  return part(object, "_parameters") && part(object, "_buffers") && part(object, "_modules");
}

Value state_dict_of(const Value& module) {
  if (!is_module(module)) module.fail_kind("a pickled torch.nn.Module");
  return Flattener().run(module);
}

Value flatten_modules(const Value& checkpoint) {
  if (is_module(checkpoint)) return state_dict_of(checkpoint);
  return rewrite(checkpoint, [](const Visit& visit) {
    return is_module(visit.value) ? Edit{Edit::What::replace, state_dict_of(visit.value)} : Edit{};
  });
}

}  // namespace torchkeep
