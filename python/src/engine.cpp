// SPDX-License-Identifier: BSD-3-Clause
// The engine of a run, with Python functions as its tracked things.
#include <functional>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <torchkeep/run/engine.h>

#include "errors.h"
#include "files.h"
#include "from_value.h"
#include "to_value.h"
#include "watched_fs.h"

namespace torchkeep::python {
namespace {

/// Calls Python from inside the engine. Exceptions become Errors, so that the engine can collect or report them; but
/// KeyboardInterrupt and SystemExit end what it does.
template <class Work>
auto in_python(Code fallback, Work work) {
  const nb::gil_scoped_acquire gil;
  try {
    return work();
  } catch (nb::python_error& caught) {
    if (caught.matches(PyExc_Exception)) throw error_from_python(caught, fallback);
    caught.restore();
    throw Interrupted();
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
                               from_text(event.path), event.bytes, event.seconds, event.count, event.is_warning());
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
                  std::string("the option ") + name + " cannot be " + nb::cast<std::string>(nb::repr(given_[name])));
    }
  }

 private:
  nb::dict given_;
};

RunOptions options_from(const nb::dict& given) {
  RunOptions options;
  options.background = false;  // Python's optimizers pass no gate
  OptionReader reader(given);
  reader.take("save_every", options.save_every);
  reader.take("save_seconds", options.save_seconds);
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
  std::string choice;
  reader.take("best", choice);
  options.best = choice == "max" ? Best::max : Best::min;
  reader.take("resume", choice = "if_any");
  options.resume = choice == "required" ? Resume::required : choice == "never" ? Resume::never : Resume::if_any;
  reader.take("role", choice = "writer");
  options.role = choice == "reader" ? Role::reader : Role::writer;
  return options;
}

/// The engine, and what it needs to stop for Ctrl-C in the middle of a file.
class PyEngine {
 public:
  PyEngine(const std::string& directory, const nb::dict& given, nb::object on_event) : fs_(posix_fs(), watch_) {
    RunOptions options = options_from(given);
    options.on_event = listener(std::move(on_event));
    options.fs = &fs_;
    without_gil([&] { engine_ = std::make_unique<Engine>(directory, std::move(options)); });
  }
  ~PyEngine() { close(); }
  PyEngine(const PyEngine&) = delete;
  PyEngine& operator=(const PyEngine&) = delete;

  void track(const std::string& name, nb::object capture, nb::object prepare, bool required, bool checks) {
    const Shared take = share(std::move(capture));
    const Shared give = share(std::move(prepare));
    Tracked tracked;
    tracked.capture = [take] {
      return in_python(Code::invalid_argument, [&] { return to_value(nb::handle(take.get())()); });
    };
    tracked.prepare = [give](const Value& state) -> std::function<void()> {
      const Value loaded = state.clone();  // reads the file, while other threads have the GIL
      return in_python(Code::mismatch, [&]() -> std::function<void()> {
        const Shared change = share(nb::handle(give.get())(from_value(loaded, nb::none())));
        return [change] { in_python(Code::mismatch, [&] { nb::handle(change.get())(); }); };
      });
    };
    tracked.required = required;
    tracked.checks = checks;
    without_gil([&] { engine().track(name, std::move(tracked)); });
  }

  std::int64_t resume() {
    return without_gil([&] { return engine().resume(); });
  }
  void finish_step(std::int64_t step, nb::handle metrics) {
    const Value value = to_value(metrics);
    without_gil([&] { engine().finish_step(step, value); });
  }
  bool save_now() {
    return without_gil([&] { return engine().save_now(); });
  }
  void wait() {
    without_gil([&] { engine().wait(); });
  }
  void finish() {
    without_gil([&] { engine().finish(); });
  }
  void add_provenance(nb::handle entries) { engine().add_provenance(to_value(entries)); }
  void request_stop(int signal) { engine().request_stop(signal); }
  void warn(const std::string& message) {
    without_gil([&] { engine().report({.kind = Event::Kind::warning, .message = message, .step = engine().step()}); });
  }
  bool stop_requested() const { return engine().stop_requested(); }
  bool stopping() const { return engine().stopping(); }
  bool finished() const { return engine().finished(); }
  int exit_code() const { return engine().exit_code(); }
  std::int64_t step() const { return engine().step(); }

  /// Joins what is under way and gives the lock back.
  void close() {
    if (engine_ == nullptr) return;
    std::unique_ptr<Engine> last = std::move(engine_);
    const nb::gil_scoped_release released;
    last.reset();
  }

 private:
  Engine& engine() const {
    if (engine_ == nullptr) throw Error(Code::invalid_argument, "this run is closed");
    return *engine_;
  }
  Watch watch_;
  WatchedFs fs_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

void bind_engine(nb::module_& module) {
  nb::class_<PyEngine>(module, "Engine")
      .def(nb::init<const std::string&, const nb::dict&, nb::object>(), nb::arg("directory"), nb::arg("options"),
           nb::arg("on_event"))
      .def("track", &PyEngine::track, nb::arg("name"), nb::arg("capture"), nb::arg("prepare"), nb::arg("required"),
           nb::arg("checks"))
      .def("resume", &PyEngine::resume)
      .def("finish_step", &PyEngine::finish_step, nb::arg("step"), nb::arg("metrics").none())
      .def("save_now", &PyEngine::save_now)
      .def("wait", &PyEngine::wait)
      .def("finish", &PyEngine::finish)
      .def("add_provenance", &PyEngine::add_provenance)
      .def("request_stop", &PyEngine::request_stop, nb::arg("signal"))
      .def("warn", &PyEngine::warn)
      .def("close", &PyEngine::close)
      .def_prop_ro("stop_requested", &PyEngine::stop_requested)
      .def_prop_ro("stopping", &PyEngine::stopping)
      .def_prop_ro("finished", &PyEngine::finished)
      .def_prop_ro("exit_code", &PyEngine::exit_code)
      .def_prop_ro("step", &PyEngine::step);
}

}  // namespace torchkeep::python
