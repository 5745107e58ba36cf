// SPDX-License-Identifier: BSD-3-Clause
// tk::Run: LibTorch's objects as the engine's tracked things; signals; lines on stderr.
#include <fmt/format.h>
#include <set>
#include <unistd.h>

#include <torch/version.h>

#include <torchkeep/run/engine.h>
#include <torchkeep/torch/module.h>
#include <torchkeep/torch/optimizer.h>
#include <torchkeep/torch/rng.h>
#include <torchkeep/torch/run.h>

#include "asked.h"
#include "completeness.h"
#include "errors.h"
#include "gradients.h"
#include "prepare.h"
#include "signals.h"
#include "tensor_io.h"

namespace torchkeep {
namespace {

constexpr const char* kRng = "rng";
constexpr const char* kGradients = "gradients";

/// What a program that sets no listener hears: one line for what it should know, none for routine.
void print_event(const Event& event) {
  if (event.kind == Event::Kind::saved || event.kind == Event::Kind::pruned) return;
  const std::string line = fmt::format("torchkeep: {}{}\n", event.is_warning() ? "warning: " : "", event.message);
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line.data(), line.size());
}

RunOptions with_listener(RunOptions options) {
  if (!options.on_event) options.on_event = print_event;
  return options;
}

/// The identities of the storages.
std::vector<const void*> memory_of(const std::vector<at::Tensor>& tensors) {
  std::vector<const void*> identities;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.defined() && tensor.has_storage()) identities.push_back(tensor.storage().unsafeGetStorageImpl());
  }
  return identities;
}
/// Of the parameters that it trains. Frozen ones may be given to it all the same, and are written to elsewhere.
std::vector<const void*> memory_of(const torch::optim::Optimizer& optimizer) {
  std::vector<at::Tensor> trained;
  for (const torch::optim::OptimizerParamGroup& group : optimizer.param_groups()) {
    for (const at::Tensor& parameter : group.params()) {
      if (parameter.requires_grad()) trained.push_back(parameter);
    }
  }
  return memory_of(trained);
}

}  // namespace

struct Run::Impl {
  Engine engine;
  TrackedObjects tracked;
  std::vector<std::pair<std::string, ResumableSampler>> samplers;
  std::set<std::string> unattended;  ///< samplers that were warned about
  std::set<const void*> strangers;   ///< optimizers that were warned about
  std::optional<StopSignals> signals;
  Value recorded;         ///< what the checkpoint's provenance says of the program that wrote it, by name
  bool complete = false;  ///< the generators and gradients are tracked too, and completeness was looked at

  Impl(const std::string& directory, RunOptions options) : engine(directory, with_listener(std::move(options))) {
    if (engine.options().signals) signals.emplace();
    engine.on_provenance([this](const Value& provenance) {
      const auto known = provenance.is_mapping() ? provenance.find("tracked") : std::nullopt;
      recorded = known ? known->clone() : Value();
    });
  }

  void warn(std::string message) {
    engine.report({.kind = Event::Kind::warning, .message = std::move(message), .step = engine.step()});
  }

  void track(const std::string& name, Tracked object) {
    if (name == kRng || name == kGradients) {
      throw Error(Code::invalid_argument,
                  fmt::format("'{}' is an entry of every checkpoint; choose another name", name));
    }
    engine.track(name, std::move(object));
  }

  /// What the first resume() does; one that failed may be repeated.
  void complete_tracking() {
    if (std::exchange(complete, true)) return;
    engine.add_provenance(Value{{"pytorch", TORCH_VERSION}, {"language", "C++"}});
    track_generators_and_gradients();
    for (std::string& warning : completeness_warnings(tracked, engine.options().rng)) warn(std::move(warning));
  }

  void track_generators_and_gradients() {
    // The generators come last: nothing that restores may draw after them.
    if (engine.options().gradients) {
      engine.track(kGradients,
                   {.capture = [this] { return gradients_of(tracked.modules); },
                    .prepare = [this](const Value& value) { return prepare_gradients(tracked.modules, value); },
                    .required = false});
    }
    if (engine.options().rng) {
      engine.track(kRng, {.capture = [] { return rng_state(); },
                          .prepare =
                              [this](const Value& value) {
                                return prepare_load_rng(value, {.any_devices = engine.options().any_devices});
                              },
                          .last = true});
    }
  }

  Value optimizer_state(const torch::optim::Optimizer& optimizer) const {
    return tracked.covers(optimizer) ? state_dict(optimizer, tracked.named_modules()) : state_dict(optimizer);
  }
  std::function<void()> prepare_optimizer(const std::string& name, torch::optim::Optimizer& optimizer,
                                          const Value& value) {
    const NamedModules modules = tracked.named_modules();
    const bool named = tracked.covers(optimizer);
    LoadReport report;
    const auto reader = std::make_shared<LiveReader>(LiveReader::Strides::same);
    auto change = prepare_load(optimizer, value, named ? &modules : nullptr, {}, report, reader.get());
    std::vector<std::string> said = overridden(optimizer, recorded_of(name), value);
    if (report.by_order && named) {
      said.emplace_back("its state is matched by the order of the parameters: the checkpoint has no names for them");
    }
    return [this, name, reader, change = std::move(change), said = std::move(said)] {
      reader->read();
      change();
      for (const std::string& line : said) warn(fmt::format("'{}': {}", name, line));
    };
  }

  Value recorded_of(const std::string& name) const {
    const auto found = recorded.is_mapping() ? recorded.find(Value(name)) : std::nullopt;
    return found ? *found : Value();
  }

  /// What this program asks for, by name.
  Value asked() const {
    Value notes = Value::mapping(Kind::dict);
    for (const TrackedOptimizer& one : tracked.optimizers) {
      const Value note = asked_for(*one.optimizer);
      if (note.is_mapping()) notes.set(Value(one.name), note);
    }
    for (const TrackedScheduler& one : tracked.schedulers)
      notes.set(Value(one.name), asked_for_scheduler(one.class_name));
    return notes;
  }

  /// Every checkpoint keeps it: what the one that this run continues overrides stays what was asked for.
  void record(const Value& asked) {
    Value notes = Value::mapping(Kind::dict);
    for (const Entry& entry : asked.items()) {
      Value note = entry.value;
      const Value before = recorded_of(entry.key.as_string());
      if (const auto kept = before.is_mapping() ? before.find("hyperparameters") : std::nullopt)
        note.set("hyperparameters", *kept);
      notes.set(entry.key, note);
    }
    engine.add_provenance(Value{{"tracked", notes}});
  }

  void take_signals() {
    const int signal = signals ? signals->received() : 0;
    if (signal != 0 && !engine.stop_requested()) engine.request_stop(signal);
  }

  void check_samplers() {
    for (const auto& [name, sampler] : samplers) {
      if (!sampler.is_unattended() || !unattended.insert(name).second) continue;
      warn(fmt::format(
          "'{}' drew samples, but nothing says which were used, so its saved position stands still: loop over "
          "tk::batches(loader, sampler), or call sampler.advance(n)",
          name));
    }
  }

  /// The name it is tracked as.
  std::string_view name_of(const torch::optim::Optimizer& optimizer) {
    for (const TrackedOptimizer& one : tracked.optimizers) {
      if (one.optimizer.get() == &optimizer) return one.name;
    }
    if (strangers.insert(&optimizer).second) {
      warn("step() was called with an optimizer that is not tracked: its state will not be saved");
    }
    return {};
  }
};

Run::Run(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Run::Run(Run&&) noexcept = default;
Run::~Run() = default;

Run Run::open(const std::string& directory, RunOptions options) {
  return Run(std::make_unique<Impl>(directory, std::move(options)));
}

// ---- tracking

void Run::track_module(const std::string& name, std::shared_ptr<torch::nn::Module> module) {
  if (module == nullptr) throw Error(Code::invalid_argument, fmt::format("the module to track as '{}' is empty", name));
  impl_->track(name, {.capture = [module] { return state_dict(*module); },
                      .prepare =
                          [module](const Value& value) {
                            LoadReport report;
                            const auto reader = std::make_shared<LiveReader>(LiveReader::Strides::same);
                            auto change = prepare_load(*module, value, {}, report, reader.get());
                            return [reader, change = std::move(change)] {
                              reader->read();
                              change();
                            };
                          },
                      .ungated = [module] { return memory_of(module->buffers()); }});
  impl_->tracked.modules.push_back({name, std::move(module)});
}

void Run::track_optimizer(const std::string& name, std::shared_ptr<torch::optim::Optimizer> optimizer) {
  if (optimizer == nullptr) {
    throw Error(Code::invalid_argument, fmt::format("the optimizer to track as '{}' is empty", name));
  }
  Impl* const impl = impl_.get();
  impl->track(name, {.capture = [impl, optimizer] { return impl->optimizer_state(*optimizer); },
                     .prepare = [impl, name, optimizer](
                                    const Value& value) { return impl->prepare_optimizer(name, *optimizer, value); },
                     .gated = [optimizer] { return memory_of(*optimizer); }});
  impl->tracked.optimizers.push_back({name, std::move(optimizer)});
}

void Run::track_scheduler(const std::string& name, const std::string& class_name, std::function<Value()> capture,
                          std::function<std::vector<lr_scheduler::ArgumentDifference>(const Value&)> load) {
  Impl* const impl = impl_.get();
  const auto change = [impl, name, class_name, load](const Value& state) {
    const auto differences = load(state);
    if (const auto other = other_scheduler(class_name, impl->recorded_of(name))) {
      impl->warn(fmt::format("'{}': {}", name, *other));
    }
    for (const auto& difference : differences) {
      impl->warn(fmt::format("'{}': {} is {} here and {} in the checkpoint, which is used", name, difference.key,
                             difference.given, difference.stored));
    }
  };
  impl->track(name, {.capture = std::move(capture),
                     .prepare = [change](const Value& state) { return [change, state] { change(state); }; },
                     .checks = false});
  impl->tracked.schedulers.push_back({name, class_name});
}

void Run::track_sampler(const std::string& name, ResumableSampler sampler) {
  Impl* const impl = impl_.get();
  const auto load = [impl, name, sampler](const Value& state) mutable {
    const Value asked = sampler.state_dict()["seed"];
    sampler.load_state_dict(state);
    const Value used = sampler.state_dict()["seed"];
    if (asked == used) return;
    impl->warn(fmt::format("'{}': seed is {} here and {} in the checkpoint, which is used", name,
                           asked.as_integer().to_decimal(), used.as_integer().to_decimal()));
  };
  impl_->track(name, {.capture = [sampler] { return sampler.state_dict(); },
                      .prepare = [load](const Value& state) { return [load = load, state]() mutable { load(state); }; },
                      .checks = false});
  impl_->samplers.emplace_back(name, std::move(sampler));
}

void Run::track_generator(const std::string& name, at::Generator generator) {
  impl_->track(name, {.capture = [generator] { return rng_state(generator); },
                      .prepare = [generator](const Value& state) { return prepare_load_rng(generator, state); }});
}

void Run::track_tensor(const std::string& name, at::Tensor& tensor) {
  impl_->track(
      name, {.capture = [&tensor] { return Value(to_leaf(tensor.detach())); },
             .prepare = [&tensor](const Value& state) -> std::function<void()> {
               const Tensor& leaf = state.as_tensor();
               if (tensor.sizes() != leaf.sizes || to_dtype(tensor.scalar_type()) != leaf.dtype) {
                 state.fail(Code::mismatch,
                            fmt::format("{} {} in the file, {} {} here", to_string(leaf.dtype), shape_text(leaf.sizes),
                                        to_string(to_dtype(tensor.scalar_type())), shape_text(tensor.sizes())));
               }
               at::Tensor saved = placed(state, [&] { return to_torch(leaf); });
               return [&tensor, saved] {
                 const at::NoGradGuard no_grad;
                 at_the_edge([&] { tensor.copy_(saved); });
               };
             }});
  impl_->tracked.tensors.push_back(&tensor);
}

void Run::track_object(const std::string& name, Access access) {
  impl_->track(
      name, {.capture = std::move(access.capture),
             .prepare = [load = std::move(access.load)](const Value& state) { return [load, state] { load(state); }; },
             .checks = false});
}

// ---- the run

std::int64_t Run::resume() {
  if (impl_->engine.is_tracking()) impl_->complete_tracking();
  const Value before = impl_->asked();
  const std::int64_t step = impl_->engine.resume();
  impl_->record(before);
  return step;
}

at::Tensor Run::step(torch::optim::Optimizer& optimizer, torch::optim::Optimizer::LossClosure closure) {
  impl_->engine.gate(impl_->name_of(optimizer));
  return optimizer.step(std::move(closure));
}

void Run::finish_step(std::int64_t step, const Value& metrics) {
  impl_->check_samplers();
  impl_->take_signals();
  impl_->engine.finish_step(step, metrics);
}

bool Run::save_now() {
  return impl_->engine.save_now();
}
void Run::wait() {
  impl_->engine.wait();
}
const std::optional<SaveMetrics>& Run::last_save() const noexcept {
  return impl_->engine.last_save();
}
void Run::finish() {
  impl_->take_signals();
  impl_->engine.finish();
}
bool Run::stopping() const noexcept {
  return impl_->engine.stopping();
}
bool Run::finished() const noexcept {
  return impl_->engine.finished();
}
int Run::exit_code() const noexcept {
  return impl_->engine.exit_code();
}
std::int64_t Run::last_step() const noexcept {
  return impl_->engine.step();
}

}  // namespace torchkeep
