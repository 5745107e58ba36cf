// SPDX-License-Identifier: BSD-3-Clause
// Recognises the state dicts of PyTorch by their keys.
#include <algorithm>
#include <array>

#include <torchkeep/checkpoint/sections.h>
#include <torchkeep/state/walk.h>

namespace torchkeep {
namespace {

constexpr std::size_t kMersenneBytes = 5056;  // torch.get_rng_state()
constexpr std::size_t kPhiloxBytes = 16;      // torch.cuda.get_rng_state()
constexpr std::size_t kLooked = 4096;         // values looked at to tell a model from something else

bool has_keys(const Value& value, std::initializer_list<const char*> keys) {
  return value.is_mapping() &&
         std::all_of(keys.begin(), keys.end(), [&](const char* key) { return value.contains(key); });
}

bool is_optimizer(const Value& value) {
  return has_keys(value, {"state", "param_groups"});
}

bool is_scheduler(const Value& value) {
  return has_keys(value, {"last_epoch"}) || has_keys(value, {"_step_count"}) || has_keys(value, {"_schedulers"}) ||
         has_keys(value, {"num_bad_epochs"});
}

// The state of one sampler or loader: torchkeep's own, torchdata's StatefulDataLoader.
bool is_data(const Value& value) {
  return has_keys(value, {"order", "seed", "position"}) || has_keys(value, {"_sampler_iter_state"}) ||
         has_keys(value, {"_snapshot"}) || has_keys(value, {"_iterator_finished"});
}

bool is_generator(const Value& value) {
  if (!value.is(Kind::tensor)) return false;
  const Tensor& tensor = value.as_tensor();
  const bool is_bytes = tensor.dtype == DType::uint8 && tensor.dim() == 1;
  return is_bytes && (tensor.nbytes() == kMersenneBytes || tensor.nbytes() == kPhiloxBytes);
}

// Whether it passes the test itself, or holds at least one value and all of them pass.
bool is_or_holds(const Value& value, bool (*test)(const Value&)) {
  if (test(value)) return true;
  if (value.is_mapping() && !value.empty()) {
    const auto items = value.items();
    return std::all_of(items.begin(), items.end(), [&](const Entry& entry) { return test(entry.value); });
  }
  if (value.is_sequence() && !value.empty()) {
    const auto elements = value.elements();
    return std::all_of(elements.begin(), elements.end(), [&](const Value& element) { return test(element); });
  }
  return false;
}

// Dicts with names for keys that lead to tensors, and to at least as many tensors as other things.
bool is_model(const Value& value) {
  if (!value.is_mapping()) return false;
  std::size_t looked = 0, tensors = 0, others = 0;
  walk(value, [&](const Visit& visit) {
    const bool by_name =
        visit.place.depth == 0 || (visit.place.step.kind == Step::Kind::key && visit.place.step.key.is(Kind::string));
    if (++looked > kLooked) return Next::stop;
    if (visit.place.step.kind == Step::Kind::field && visit.place.depth > 0) return Next::over;  // _metadata
    if (visit.value.is(Kind::tensor)) {
      by_name ? ++tensors : ++others;
      return Next::over;
    }
    if (visit.value.is_mapping() && by_name) return Next::inside;
    ++others;
    return Next::over;
  });
  return tensors > 0 && tensors >= others;
}

bool is_plain(const Value& value) {
  return value.kind() <= Kind::bytearray;
}

bool mentions(std::string_view key, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return key.find(word) != std::string_view::npos; });
}

bool is_scalar_tensor(const Value& value) {
  return value.is(Kind::tensor) && value.as_tensor().numel() == 1;
}

// A model's state itself, rather than a dict that holds one: most of what lies in it directly are arrays.
bool is_state_dict(const Value& value) {
  if (!is_model(value)) return false;
  std::size_t arrays = 0, dicts = 0;
  for (const Entry& entry : value.items()) {
    arrays += entry.value.is(Kind::tensor) && !is_scalar_tensor(entry.value);
    dicts += entry.value.is_mapping();
  }
  return arrays > dicts;
}

}  // namespace

std::string_view to_string(Section section) noexcept {
  constexpr std::array<std::string_view, 11> kNames = {
      "model",     "optimizer", "scheduler", "random generators", "data position", "gradient scaler",
      "gradients", "progress",  "metrics",   "provenance",        "other"};
  return kNames[static_cast<std::size_t>(section)];
}

Section section_of(std::string_view key, const Value& value) {
  if (key == "provenance") return Section::provenance;
  if (key == "metrics") return Section::metrics;
  if (is_or_holds(value, is_optimizer)) return Section::optimizer;
  if (is_or_holds(value, is_scheduler)) return Section::scheduler;
  if (is_or_holds(value, is_data)) return Section::data;
  if (has_keys(value, {"scale", "growth_factor"})) return Section::scaler;
  if (mentions(key, {"rng", "random_state", "generator_state"}) || is_or_holds(value, is_generator))
    return Section::rng;
  if (key == "gradients") return Section::gradients;
  if (mentions(key, {"sampler", "dataloader", "data_loader", "data_position"}) && !is_model(value))
    return Section::data;
  if (is_plain(value) || (is_scalar_tensor(value) && !key.empty())) return Section::progress;
  if (is_model(value)) return Section::model;
  return Section::other;
}

std::vector<SectionEntry> sections_of(const Value& checkpoint) {
  if (!checkpoint.is_mapping() || is_state_dict(checkpoint) || is_optimizer(checkpoint) || is_scheduler(checkpoint) ||
      is_data(checkpoint)) {
    return {{"", section_of("", checkpoint), checkpoint}};
  }
  std::vector<SectionEntry> entries;
  for (const Entry& entry : checkpoint.items()) {
    std::string key = Step{Step::Kind::key, entry.key, 0, {}}.text();
    const Section section = section_of(key, entry.value);
    entries.push_back({std::move(key), section, entry.value});
  }
  return entries;
}

}  // namespace torchkeep
