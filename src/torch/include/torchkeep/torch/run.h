// SPDX-License-Identifier: BSD-3-Clause
// tk::Run: training that survives anything.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/optim/optimizer.h>

#include <torchkeep/data/sampler.h>
#include <torchkeep/run/options.h>
#include <torchkeep/schedule/lr_scheduler.h>
#include <torchkeep/state/value.h>
#include <torchkeep/torch/tensor.h>

namespace torchkeep {

namespace detail {
template <class T>
inline constexpr bool kIsSharedPointer = false;
template <class T>
inline constexpr bool kIsSharedPointer<std::shared_ptr<T>> = true;

/// torch::nn::Linear and its like.
template <class T>
concept IsModuleHolder = requires(const T& holder) {
  { holder.ptr() } -> std::convertible_to<std::shared_ptr<torch::nn::Module>>;
};
}  // namespace detail

/// A training run in one directory: everything that decides the next step is saved in time, and found again.
///
///   auto run = tk::Run::open("runs/a", {.save_every = 200, .keep_last = 3});
///   run.track("model", model);  run.track("optimizer", adam);  run.track("scheduler", cosine);
///   for (int64_t step = run.resume(); step < 10'000 && !run.stopping();) {
///     ...                                                        // forward, backward
///     run.step(adam);
///     cosine.step();
///     run.finish_step(++step, {{"loss", loss.item<double>()}});  // saves when due
///   }
///   run.finish();
///   return run.exit_code();
///
/// A save that fails is an event (RunOptions::on_event), never an exception: training goes on, until saving has become
/// impossible (RunOptions::stop_after_failures). SIGTERM, SIGINT and SIGUSR1 make the next finish_step() save, and then
/// stopping() is true; handlers that were installed before still run, and a second SIGINT ends the program at once.
/// docs/run-directory.md describes the directory. All calls come from one thread. The destructor saves nothing: call
/// finish().
class Run final {
 public:
  /// Opens `directory` (a writer creates and locks it). Throws Error: busy (another process writes there),
  /// invalid_argument (senseless options), io.
  static Run open(const std::string& directory, RunOptions options = {});
  Run(Run&&) noexcept;
  Run& operator=(Run&&) = delete;
  ~Run();

  /// Adds an object to every checkpoint, under `name`. What it can be:
  ///  - a module: a holder or a shared_ptr (shared), or a reference (which must outlive the run's last call);
  ///  - an optimizer, by reference or shared_ptr. Its parameters are named "<tracked module>.<name>" in the file,
  ///    whatever the order of the track() calls;
  ///  - a scheduler of torchkeep::lr_scheduler, a ResumableSampler, an at::Generator: handles, shared;
  ///  - a tensor (restored in place), a number, text, list or map, by reference;
  ///  - any object with state_dict() and load_state_dict(value), by reference or shared_ptr.
  /// Throws Error (invalid_argument) for a name that is taken, empty, or an entry of every checkpoint ("step", "rng",
  /// "gradients", "metrics", "provenance"), and after resume().
  template <class T>
  void track(const std::string& name, T&& object);

  /// Continues from the newest checkpoint that verifies: returns its step, or 0 at the beginning. Damaged newer ones
  /// are set aside, kept and reported. Warns, by name, of what would be lost: see RunOptions::on_event. Throws Error:
  /// mismatch (everything that does not fit, in one list, before anything was changed), corrupt (all checkpoints are
  /// damaged), not_found (Resume::required), invalid_argument (nothing tracked; Resume::never), io. After an error it
  /// can be called again.
  std::int64_t resume();

  /// optimizer.step(closure). Every step of a tracked optimizer goes through here: what a save in the background still
  /// has to write is copied aside first.
  at::Tensor step(torch::optim::Optimizer& optimizer, torch::optim::Optimizer::LossClosure closure = nullptr);

  /// Notes that `step` (larger than the last one) is done; logs its metrics (numbers and texts by name); when a save is
  /// due, starts it and returns (see RunOptions::background); when a stop was asked for, returns after the save. Says
  /// what became of an earlier save.
  void finish_step(std::int64_t step, const Value& metrics = {});
  /// Saves the state after the last finished step now and waits for it; true when it is saved, now or before: the
  /// checkpoint of a step is never written anew. False when that failed (an event says why), after a step() whose
  /// finish_step() has not come yet (that one saves), and for a reader.
  bool save_now();
  /// Returns when no save is under way. To be called between steps, as save_now().
  void wait();
  /// What the last save that succeeded cost.
  const std::optional<SaveMetrics>& last_save() const noexcept;
  /// Saves the last state, unless that is done, and notes that training is over (unless a stop was asked for). After a
  /// step() without finish_step() nothing is saved, and a warning says so.
  void finish();

  /// True once a stop was asked for and the state is saved (or, as an event said, could not be): leave the loop.
  bool stopping() const noexcept;
  /// True when finish() was reached at the last step, now or in an earlier process.
  bool finished() const noexcept;
  /// 0 finished, 75 run me again, 74 the last state is not saved (see ExitCode).
  int exit_code() const noexcept;
  /// The last finished step.
  std::int64_t last_step() const noexcept;

 private:
  struct Impl;
  explicit Run(std::unique_ptr<Impl> impl);

  /// What track() needs of an object of the user's own.
  struct Access {
    std::function<Value()> capture;
    std::function<void(const Value&)> load;
  };

  void track_module(const std::string& name, std::shared_ptr<torch::nn::Module> module);
  void track_optimizer(const std::string& name, std::shared_ptr<torch::optim::Optimizer> optimizer);
  void track_scheduler(const std::string& name, const std::string& class_name, std::function<Value()> capture,
                       std::function<std::vector<lr_scheduler::ArgumentDifference>(const Value&)> load);
  void track_sampler(const std::string& name, ResumableSampler sampler);
  void track_generator(const std::string& name, at::Generator generator);
  void track_tensor(const std::string& name, at::Tensor& tensor);
  void track_object(const std::string& name, Access access);

  /// A shared_ptr that does not own.
  template <class T>
  static std::shared_ptr<T> borrow(T& object) {
    return {std::shared_ptr<void>(), &object};
  }
  template <class T>
  void track_shared(const std::string& name, const std::shared_ptr<T>& object);
  template <class T>
  void track_handle(const std::string& name, const T& handle);

  std::unique_ptr<Impl> impl_;
};

template <class T>
void Run::track(const std::string& name, T&& object) {
  using Object = std::remove_cvref_t<T>;
  constexpr bool kIsReference = std::is_lvalue_reference_v<T> && !std::is_const_v<std::remove_reference_t<T>>;
  if constexpr (detail::kIsSharedPointer<Object>) {
    track_shared(name, object);
  } else if constexpr (detail::IsModuleHolder<Object>) {
    track_module(name, object.ptr());
  } else if constexpr (std::derived_from<Object, lr_scheduler::Scheduler> || std::same_as<Object, ResumableSampler> ||
                       std::same_as<Object, at::Generator>) {
    track_handle(name, object);
  } else {
    static_assert(kIsReference, "track() keeps a reference to this object: pass a variable that is not const");
    if constexpr (std::same_as<Object, at::Tensor>) {
      track_tensor(name, object);
    } else if constexpr (std::derived_from<Object, torch::nn::Module> ||
                         std::derived_from<Object, torch::optim::Optimizer> || Stateful<Object>) {
      track_shared(name, borrow(object));
    } else {
      static_assert(ToValue<Object> && FromValue<Object>,
                    "track() takes modules, optimizers, schedulers, samplers, generators, tensors, values, and objects "
                    "with state_dict() and load_state_dict(value)");
      track_object(
          name, {[&object] { return Value(object); }, [&object](const Value& state) { object = state.to<Object>(); }});
    }
  }
}

template <class T>
void Run::track_shared(const std::string& name, const std::shared_ptr<T>& object) {
  if constexpr (std::derived_from<T, torch::nn::Module>) {
    track_module(name, object);
  } else if constexpr (std::derived_from<T, torch::optim::Optimizer>) {
    track_optimizer(name, object);
  } else if constexpr (std::derived_from<T, lr_scheduler::Scheduler>) {
    track_handle(name, *object);
  } else {
    static_assert(Stateful<T>,
                  "track() takes a shared_ptr to a module, an optimizer, or an object with state_dict() and "
                  "load_state_dict(value)");
    track_object(name, {[object] { return Value(object->state_dict()); },
                        [object](const Value& state) { object->load_state_dict(state); }});
  }
}

template <class T>
void Run::track_handle(const std::string& name, const T& handle) {
  if constexpr (std::same_as<T, ResumableSampler>) {
    track_sampler(name, handle);
  } else if constexpr (std::same_as<T, at::Generator>) {
    track_generator(name, handle);
  } else {
    track_scheduler(
        name, handle.class_name(), [handle] { return handle.state_dict(); },
        [handle = T(handle)](const Value& state) mutable { return handle.load_state_dict(state); });
  }
}

}  // namespace torchkeep
