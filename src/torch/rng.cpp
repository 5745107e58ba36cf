// SPDX-License-Identifier: BSD-3-Clause
// Generator states <-> the uint8 tensors Python's torch.get_rng_state() returns.
#include <fmt/format.h>
#include <mutex>

#include <ATen/ATen.h>

#include <torchkeep/torch/rng.h>
#include <torchkeep/torch/tensor.h>

#include "errors.h"
#include "prepare.h"
#include "tensor_io.h"

namespace torchkeep {

namespace {

at::Generator default_generator(c10::Device device) {
  return at_the_edge([&] { return at::globalContext().defaultGenerator(device); });
}

std::vector<at::Generator> cuda_generators() {
  std::vector<at::Generator> generators;
  if (!at::hasCUDA()) return generators;
  const auto count = static_cast<c10::DeviceIndex>(at::getNumGPUs());
  for (c10::DeviceIndex i = 0; i < count; ++i) generators.push_back(default_generator({c10::DeviceType::CUDA, i}));
  return generators;
}

at::Tensor state_of(const at::Generator& generator) {
  return at_the_edge([&] {
    at::Generator handle = generator;
    const std::lock_guard<std::mutex> lock(handle.mutex());
    return handle.get_state();
  });
}

/// Sets a generator; a refused state leaves it as it was.
void set_state(at::Generator& generator, const at::Tensor& state, const Value& value) {
  try {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(state);
  } catch (const c10::Error& error) {
    throw Error(Code::corrupt, translate(error).message(), value.where());
  }
}

at::Tensor state_in(const Value& value) {
  const Tensor& leaf = value.as_tensor();
  if (leaf.dtype != DType::uint8 || leaf.dim() != 1) {
    value.fail(Code::mismatch, fmt::format("expected the state of a generator, a uint8 vector; found {} {}",
                                           to_string(leaf.dtype), shape_text(leaf.sizes)));
  }
  return placed(value, [&] { return to_torch(leaf).contiguous(); });
}

/// A generator and the state it will get.
struct Setting {
  at::Generator generator;
  Value value;
  at::Tensor state;
};

std::vector<Setting> settings_of(const Value& value, const RngLoadOptions& options) {
  if (!value.is_mapping()) value.fail_kind("the generators' states, as rng_state() makes them");
  std::vector<Setting> settings;
  const Value cpu = value["torch"];
  settings.push_back({default_generator(c10::DeviceType::CPU), cpu, state_in(cpu)});
  std::vector<at::Generator> generators = cuda_generators();
  const std::optional<Value> list = value.find("cuda");
  const std::size_t count = list ? list->size() : 0;
  if (count != generators.size() && !options.any_devices) {
    value.fail(Code::mismatch,
               fmt::format("states of {} CUDA generators in the file, {} devices here; .any_devices = true "
                           "sets those on both sides",
                           count, generators.size()));
  }
  for (std::size_t i = 0; i < std::min(count, generators.size()); ++i) {
    const Value element = (*list)[static_cast<std::int64_t>(i)];
    settings.push_back({generators[i], element, state_in(element)});
  }
  return settings;
}

/// Whether a generator takes a state is known only by giving it.
void try_on_a_twin(const Setting& setting) {
  at::Generator twin = at_the_edge([&] { return setting.generator.clone(); });
  set_state(twin, setting.state, setting.value);
}

}  // namespace

Value rng_state() {
  Value state{{"torch", rng_state(default_generator(c10::DeviceType::CPU))}};
  const std::vector<at::Generator> generators = cuda_generators();
  if (generators.empty()) return state;
  Value list = List{};
  for (const at::Generator& generator : generators) list.append(rng_state(generator));
  state.set("cuda", list);
  return state;
}

void load_rng_state(const Value& value, const RngLoadOptions& options) {
  prepare_load_rng(value, options)();
}

std::function<void()> prepare_load_rng(const Value& value, const RngLoadOptions& options) {
  std::vector<Setting> settings = settings_of(value, options);
  for (const Setting& setting : settings) try_on_a_twin(setting);
  return [settings = std::move(settings)] {
    for (Setting setting : settings) set_state(setting.generator, setting.state, setting.value);
  };
}

std::function<void()> prepare_load_rng(const at::Generator& generator, const Value& value) {
  Setting setting{generator, value, state_in(value)};
  try_on_a_twin(setting);
  return [setting]() mutable { set_state(setting.generator, setting.state, setting.value); };
}

Value rng_state(const at::Generator& generator) {
  return state_of(generator);
}

void load_rng_state(at::Generator& generator, const Value& value) {
  set_state(generator, state_in(value), value);
}

}  // namespace torchkeep
