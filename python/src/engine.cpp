// SPDX-License-Identifier: BSD-3-Clause
// The engine of a run, with Python functions as its tracked things.
#include <functional>
#include <mutex>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <thread>
#include <unistd.h>

#include <torchkeep/files/stores.h>
#include <torchkeep/run/engine.h>

#include "errors.h"
#include "files.h"
#include "from_value.h"
#include "in_place.h"
#include "to_value.h"
#include "torch_bridge.h"
#include "watched_fs.h"

namespace torchkeep::python {
namespace {

/// Calls Python from inside the engine. Exceptions become Errors, so that the engine can collect or report them; but
/// KeyboardInterrupt, SystemExit and what a signal handler raises end what it does.
template <class Work>
auto in_python(Code fallback, Work work) {
  const nb::gil_scoped_acquire gil;
  try {
    return work();
  } catch (const nb::python_error& caught) {
    if (set_interruption(caught)) throw Interrupted();
    throw error_from_python(caught, fallback);
  }
}

std::string_view kind_name(Event::Kind kind) {
  switch (kind) {
    case Event::Kind::cleaned:
      return "cleaned";
    case Event::Kind::started:
      return "started";
    case Event::Kind::resumed:
      return "resumed";
    case Event::Kind::set_aside:
      return "set_aside";
    case Event::Kind::saved:
      return "saved";
    case Event::Kind::save_failed:
      return "save_failed";
    case Event::Kind::pruned:
      return "pruned";
    case Event::Kind::stop_requested:
      return "stop_requested";
    case Event::Kind::finished:
      return "finished";
    case Event::Kind::warning:
      return "warning";
  }
  return "warning";
}

std::function<void(const Event&)> listener(nb::object callback) {
  return [callback = share(std::move(callback))](const Event& event) {
    // What a listener raises is not the engine's to handle: it comes out of the call that led to the event.
    const nb::gil_scoped_acquire gil;
    nb::handle(callback.get())(from_text(kind_name(event.kind)), from_text(event.message), event.step,
                               from_path(event.path), event.bytes, event.seconds, event.count, event.is_warning(),
                               event.blocked_seconds, event.staged_bytes,
                               event.error ? exception_of(*event.error) : nb::object(nb::none()));
  };
}

/// Reads each option it knows out of a dict; what is left over then is a mistake of the caller.
class OptionReader {
 public:
  explicit OptionReader(nb::dict given) : given_(std::move(given)) {}
  template <class T>
  void take(const char* name, T& place) {
    if (!given_.contains(name)) return;
    try {
      place = nb::cast<T>(given_[name]);
    } catch (const nb::cast_error&) {
      throw Error(Code::invalid_argument,
                  std::string("the option ") + name + " cannot be " + to_text(nb::repr(given_[name]).ptr()));
    }
  }

 private:
  nb::dict given_;
};

RunOptions options_from(const nb::dict& given) {
  RunOptions options;
  OptionReader reader(given);
  reader.take("save_every", options.save_every);
  reader.take("save_seconds", options.save_seconds);
  reader.take("save_on_best", options.save_on_best);
  reader.take("keep_last", options.keep_last);
  reader.take("keep_every", options.keep_every);
  reader.take("keep_best", options.keep_best);
  reader.take("best_metric", options.best_metric);
  reader.take("may_be_missing", options.may_be_missing);
  reader.take("any_devices", options.any_devices);
  reader.take("rng", options.rng);
  reader.take("gradients", options.gradients);
  reader.take("durable", options.durable);
  reader.take("read_back", options.read_back);
  reader.take("stop_after_failures", options.stop_after_failures);
  reader.take("verify_first", options.verify_first);
  reader.take("background", options.background);
  if (std::uint64_t limit = 0; given.contains("staging_limit")) {
    reader.take("staging_limit", limit);
    options.staging_limit = limit;
  }
  std::string choice;
  reader.take("best", choice);
  options.best = choice == "max" ? Best::max : Best::min;
  reader.take("resume", choice = "if_any");
  options.resume = choice == "required" ? Resume::required : choice == "never" ? Resume::never : Resume::if_any;
  reader.take("proof", choice = "hash");
  options.proof = choice == "counters" ? Proof::counters : Proof::hash;
  reader.take("role", choice = "writer");
  options.role = choice == "reader" ? Role::reader : Role::writer;
  reader.take("lock", choice = "required");
  options.lock = choice == "if_available" ? Locking::if_available : Locking::required;
  options.spelling = Spelling::python;
  return options;
}

/// The identities of these tensors' storages.
std::vector<const void*> memory_of(const nb::object& tensors) {
  std::vector<const void*> identities;
  for (nb::handle tensor : tensors) {
    if (const void* const identity = storage_address(tensor.ptr())) identities.push_back(identity);
  }
  return identities;
}

/// What _state.py has for an object of the user's: its methods, called from inside the engine.
class Adapter {
 public:
  Adapter(nb::object adapter, bool watches, Shared copies)
      : adapter_(share(std::move(adapter))), copies_(std::move(copies)), watches_(watches) {}

  bool is(const char* attribute) const { return nb::cast<bool>(handle().attr(attribute)); }

  Value capture() const {
    return in_python(Code::invalid_argument, [&] {
      const CollectionPause pause;
      const nb::object copies = nb::borrow(copies_.get());
      if (!watches_) return to_value(handle().attr("capture")(), {.device_copies = copies});
      Watches watches;
      const auto tensors = nb::cast<nb::tuple>(handle().attr("watched")());
      watches.add(tensors[0], is("gated"));
      watches.remove(tensors[1]);
      return to_value(handle().attr("capture")(), {.watches = &watches, .device_copies = copies});
    });
  }
  /// The identities of memory that changes outside of steps.
  std::vector<const void*> written_anywhere() const {
    return in_python(Code::invalid_argument,
                     [&] { return memory_of(nb::cast<nb::tuple>(handle().attr("watched")())[1]); });
  }
  /// Of an adapter that needs the values to check them.
  Change prepare(const Value& state) const {
    const Value loaded = state.clone();  // reads the file, while other threads have the GIL
    return in_python(Code::mismatch, [&] {
      // On the CPU, wherever it was saved: the live objects decide about devices, never the file.
      const nb::object plan = handle().attr("prepare")(from_value(loaded, nb::str("cpu")));
      Change change = with_undo(plan);
      const Shared make = share(plan.attr("change"));
      change.make = [make] { in_python(Code::mismatch, [&] { nb::handle(make.get())(); }); };
      return change;
    });
  }
  /// Of one that checks names, shapes and dtypes: then the bytes go straight into its tensors.
  Change prepare_in_place(const Value& state) const {
    return in_python(Code::mismatch, [&] {
      const nb::object plan = handle().attr("prepare")(structure_of(state));
      const auto reading = std::make_shared<InPlace>(state, plan.attr("targets"));
      Change change = with_undo(plan);
      const Shared make = share(plan.attr("change"));
      change.make = [reading, make] {
        reading->read();
        in_python(Code::mismatch, [&] { nb::handle(make.get())(reading->object()); });
      };
      return change;
    });
  }

 private:
  nb::handle handle() const { return adapter_.get(); }
  /// What a Plan of _adapter.py says besides what is to be done.
  static Change with_undo(const nb::object& plan) {
    Change change;
    change.checked = nb::cast<bool>(plan.attr("checked"));
    nb::object undo = plan.attr("undo");
    if (undo.is_none()) return change;
    change.undo = [undo = share(std::move(undo))] { in_python(Code::mismatch, [&] { nb::handle(undo.get())(); }); };
    return change;
  }
  Shared adapter_;
  Shared copies_;  ///< the run's device_copies()
  bool watches_;
};

/// Who has the turn: one call of an engine at a time, also of the Python code that runs in the middle of one.
struct TurnTaken {
  std::mutex mutex;            ///< of who has it
  std::thread::id thread{};    ///< whose it is; read and written with the GIL
  bool is_gate = false;        ///< a step of an optimizer has it, for a moment
  pid_t process = ::getpid();  ///< in a forked child, who had it is not there any more
};

/// A turn, for as long as it lives. With the GIL. The step of an optimizer in another thread waits for a call to end,
/// and a call for such a step to pass; another call in the middle of one throws.
class Turn {
 public:
  explicit Turn(TurnTaken& taken, bool is_gate = false) : taken_(taken), counts_(taken.process == ::getpid()) {
    if (!counts_) return;
    const bool is_free = taken.thread == std::thread::id();
    const bool is_mine = taken.thread == std::this_thread::get_id();
    if (is_mine || (!is_free && !is_gate && !taken.is_gate)) {
      throw Error(Code::invalid_argument,
                  "called in the middle of another call of this run (by a signal handler, on_event, a state_dict() or "
                  "another thread), where only request_stop() and properties such as step can be used: set a flag, and "
                  "make this call from the training loop");
    }
    {
      const nb::gil_scoped_release released;
      taken.mutex.lock();
    }
    taken.thread = std::this_thread::get_id();
    taken.is_gate = is_gate;
  }
  ~Turn() {
    if (!counts_) return;
    taken_.thread = {};
    taken_.mutex.unlock();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  TurnTaken& taken_;
  bool counts_;
};

/// The engine, and what it needs to stop for Ctrl-C in the middle of a file.
class PyEngine {
  /// Calls `work` with the engine, without the GIL.
  template <class Work>
  auto in_turn(Work work) {
    const Turn turn(taken_);
    Engine& open = engine();
    return without_gil([&] { return work(open); });
  }

 public:
  PyEngine(nb::handle in, const nb::dict& given, nb::object on_event, nb::object before_write)
      : fs_(any_store(), watch_, std::move(before_write)) {
    const std::string directory = to_path(in);
    RunOptions options = options_from(given);
    options.on_event = listener(std::move(on_event));
    options.fs = &fs_;
    options.while_waiting = look_for_signals;
    background_ = options.background && options.role == Role::writer;
    by_counters_ = options.proof == Proof::counters;
    copies_ = share(device_copies(options.staging_limit));
    without_gil([&] { engine_ = std::make_unique<Engine>(directory, std::move(options)); });
  }
  ~PyEngine() { end(); }
  PyEngine(const PyEngine&) = delete;
  PyEngine& operator=(const PyEngine&) = delete;

  /// `gated` gives the parameters of what steps behind the gate; None: it does not.
  void track(const std::string& name, nb::object object, bool required, nb::object gated) {
    const Adapter adapter(std::move(object), background_ && by_counters_, copies_);
    Tracked tracked{.capture = [adapter] { return adapter.capture(); },
                    .prepare = [adapter](const Value& state) { return adapter.prepare(state); },
                    .required = required,
                    .ungated = [adapter] { return adapter.written_anywhere(); },
                    .last = name == "rng"};
    if (!gated.is_none()) {
      tracked.gated = [parameters = share(std::move(gated))] {
        return in_python(Code::invalid_argument, [&] { return memory_of(nb::handle(parameters.get())()); });
      };
    }
    if (adapter.is("in_place"))
      tracked.prepare = [adapter](const Value& state) { return adapter.prepare_in_place(state); };
    in_turn([&](Engine& engine) { engine.track(name, std::move(tracked)); });
  }
  /// For the step of an optimizer, in whatever thread. A closed run has nothing to guard.
  void gate(const std::string& name) {
    const Turn turn(taken_, true);
    if (engine_ != nullptr) without_gil([&] { engine_->gate(name); });
  }

  std::int64_t resume() {
    return in_turn([](Engine& engine) { return engine.resume(); });
  }
  void finish_step(std::int64_t step, nb::handle metrics, bool is_last) {
    const Value value = to_value(metrics);
    in_turn([&](Engine& engine) { engine.finish_step(step, value, is_last); });
  }
  bool save_now() {
    return in_turn([](Engine& engine) { return engine.save_now(); });
  }
  void wait() {
    in_turn([](Engine& engine) { engine.wait(); });
  }
  void finish(bool complete) {
    in_turn([&](Engine& engine) { engine.finish(complete); });
  }
  void save_last() {
    in_turn([](Engine& engine) { engine.save_last(); });
  }
  void require_saved() {
    in_turn([](const Engine& engine) { engine.require_saved(); });
  }
  bool is_due(std::int64_t step) const { return engine().is_due(step); }
  void save_next() {
    in_turn([](Engine& engine) { engine.save_next(); });
  }
  void begin_step() { engine().begin_step(); }
  void add_provenance(nb::handle entries) {
    const Value value = to_value(entries);
    in_turn([&](Engine& engine) { engine.add_provenance(value); });
  }
  void on_provenance(nb::object look) {
    in_turn([look = share(std::move(look))](Engine& engine) {
      engine.on_provenance([look](const Value& provenance) {
        const Value copy = provenance.clone();
        in_python(Code::corrupt, [&] { nb::handle(look.get())(from_value(copy, nb::str("cpu"))); });
      });
    });
  }
  /// Throws when another call is under way.
  void require_turn() { const Turn turn(taken_); }
  /// Nothing on a closed run: a signal may arrive at any time.
  void request_stop(int signal) {
    if (engine_ != nullptr) engine_->request_stop(signal);
  }
  void warn(const std::string& message) {
    without_gil([&] { engine().report({.kind = Event::Kind::warning, .message = message, .step = engine().step()}); });
  }
  nb::object last_save() const {
    const std::optional<SaveMetrics>& last = engine().last_save();
    if (!last) return nb::none();
    return nb::make_tuple(last->step, last->bytes, last->seconds, last->blocked_seconds, last->staged_bytes,
                          last->background);
  }
  std::optional<std::int64_t> saved() const { return engine().saved(); }
  bool resumed() const { return engine().is_resumed(); }
  bool stop_requested() const { return engine().stop_requested(); }
  bool stopping() const { return engine().stopping(); }
  bool finished() const { return engine().finished(); }
  int exit_code() const { return engine().exit_code(); }
  std::int64_t step() const { return engine().step(); }

  /// Joins what is under way and gives the lock back.
  void close() {
    const Turn turn(taken_);
    end();
  }

 private:
  void end() {
    if (engine_ == nullptr) return;
    std::unique_ptr<Engine> last = std::move(engine_);
    const nb::gil_scoped_release released;
    last.reset();
  }
  Engine& engine() const {
    if (engine_ == nullptr) throw Error(Code::invalid_argument, "this run is closed");
    return *engine_;
  }
  Watch watch_;
  WatchedFs fs_;
  bool background_ = false;
  bool by_counters_ = false;
  Shared copies_;  ///< of devices' memory; used by one save after another
  TurnTaken taken_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

void bind_engine(nb::module_& module) {
  nb::class_<PyEngine>(module, "Engine")
      .def(nb::init<nb::handle, const nb::dict&, nb::object, nb::object>(), nb::arg("directory"), nb::arg("options"),
           nb::arg("on_event"), nb::arg("before_write").none() = nb::none())
      .def("track", &PyEngine::track, nb::arg("name"), nb::arg("adapter"), nb::arg("required"), nb::arg("gated").none())
      .def("gate", &PyEngine::gate, nb::arg("name"))
      .def("last_save", &PyEngine::last_save)
      .def("resume", &PyEngine::resume)
      .def("finish_step", &PyEngine::finish_step, nb::arg("step"), nb::arg("metrics").none(), nb::arg("is_last"))
      .def("save_now", &PyEngine::save_now)
      .def("wait", &PyEngine::wait)
      .def("finish", &PyEngine::finish, nb::arg("complete"))
      .def("save_last", &PyEngine::save_last)
      .def("require_saved", &PyEngine::require_saved)
      .def("is_due", &PyEngine::is_due, nb::arg("step"))
      .def("save_next", &PyEngine::save_next)
      .def("begin_step", &PyEngine::begin_step)
      .def("add_provenance", &PyEngine::add_provenance)
      .def("on_provenance", &PyEngine::on_provenance)
      .def("request_stop", &PyEngine::request_stop, nb::arg("signal"))
      .def("warn", &PyEngine::warn)
      .def("require_turn", &PyEngine::require_turn)
      .def("close", &PyEngine::close)
      .def_prop_ro("saved", &PyEngine::saved)
      .def_prop_ro("resumed", &PyEngine::resumed)
      .def_prop_ro("stop_requested", &PyEngine::stop_requested)
      .def_prop_ro("stopping", &PyEngine::stopping)
      .def_prop_ro("finished", &PyEngine::finished)
      .def_prop_ro("exit_code", &PyEngine::exit_code)
      .def_prop_ro("step", &PyEngine::step);
}

}  // namespace torchkeep::python
