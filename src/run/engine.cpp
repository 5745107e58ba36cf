// SPDX-License-Identifier: BSD-3-Clause
// The engine of a run: its steps and its public calls. How it starts, saves and ends is in engine_resume.cpp,
// engine_save.cpp and engine_stop.cpp; what a save, a recovery and a removal are, in commit.cpp, recover.cpp and
// retain.cpp.
#include <fmt/format.h>

#include "check_options.h"
#include "engine_impl.h"

namespace torchkeep {

Engine::Impl::Impl(std::string folder, RunOptions chosen)
    : directory(std::move(folder)),
      options(checked(std::move(chosen))),
      fs(options.fs != nullptr ? *options.fs : posix_fs()),
      log(fs, directory),
      save_log(fs, directory),
      retention(fs, directory, options),
      saver(fs, options) {}

void Engine::Impl::report(Event::Kind kind, std::string message, std::int64_t about, std::string path) const {
  report({.kind = kind, .message = std::move(message), .step = about, .path = std::move(path)});
}
void Engine::Impl::report(const Event& event) const {
  if (options.on_event) options.on_event(event);
}
void Engine::Impl::warn(std::string message) const {
  if (!message.empty()) report(Event::Kind::warning, std::move(message), step);
}

void Engine::Impl::require_resumed() const {
  if (!resumed) throw Error(Code::invalid_argument, "call resume() first: it says at which step to begin");
}

void Engine::Impl::finish_step(std::int64_t next, const Value& given) {
  require_resumed();
  if (next <= step) {
    throw Error(Code::invalid_argument, fmt::format("expected a step after {}, found {}", step, next));
  }
  const Value plain = plain_metrics(given);
  const bool due = is_due(next);
  step = next;
  metrics = plain;
  dirty = true;
  finished = false;
  if (writes() && !plain.empty()) warn(log.append(step, plain));
  look();
  const bool stop = stop_requested.load() != kNoStop;
  if (writes() && (stop || due || take_again)) save(stop);
  if (stop) stop_now();
}

bool Engine::Impl::is_due(std::int64_t next) const {
  if (options.save_every > 0 && next / options.save_every != step / options.save_every) return true;
  return options.save_seconds > 0 &&
         std::chrono::duration<double>(RunClock::now() - last_save).count() >= options.save_seconds;
}

Engine::Engine(std::string directory, RunOptions options)
    : impl_(std::make_unique<Impl>(std::move(directory), std::move(options))) {
  impl_->open();
}
Engine::~Engine() = default;

void Engine::track(std::string name, Tracked tracked) {
  if (impl_->resumed) throw Error(Code::invalid_argument, fmt::format("track '{}' before resume()", name));
  if (name.empty()) throw Error(Code::invalid_argument, "expected a name for what is tracked, found an empty one");
  if (is_reserved(name)) {
    throw Error(Code::invalid_argument, fmt::format("'{}' is an entry of every checkpoint; choose another name", name));
  }
  if (is_tracked(impl_->items, name)) {
    throw Error(Code::invalid_argument, fmt::format("two objects are tracked as '{}'; give each its own name", name));
  }
  impl_->items.push_back({std::move(name), std::move(tracked)});
}

bool Engine::is_tracking() const noexcept {
  return !impl_->items.empty();
}

void Engine::add_provenance(const Value& entries) {
  for (const Entry& entry : entries.items()) impl_->provenance.set(entry.key, entry.value);
}

void Engine::on_provenance(std::function<void(const Value&)> look) {
  impl_->look_at_provenance = std::move(look);
}

std::int64_t Engine::resume() {
  return impl_->resume();
}
void Engine::finish_step(std::int64_t step, const Value& metrics) {
  impl_->finish_step(step, metrics);
}
bool Engine::save_now() {
  impl_->require_resumed();
  return impl_->writes() && impl_->save(true);
}
void Engine::gate(std::string_view name) {
  impl_->gate(name);
}
void Engine::wait() {
  impl_->settle();
}
const std::optional<SaveMetrics>& Engine::last_save() const noexcept {
  return impl_->last_metrics;
}
void Engine::finish() {
  impl_->finish();
}
void Engine::request_stop(int signal) noexcept {
  impl_->stop_requested.store(signal);
}
bool Engine::stop_requested() const noexcept {
  return impl_->stop_requested.load() != kNoStop;
}
bool Engine::stopping() const noexcept {
  return impl_->stopping;
}
bool Engine::finished() const noexcept {
  return impl_->finished;
}
int Engine::exit_code() const noexcept {
  if (impl_->finished) return kExitDone;
  return impl_->writes() && impl_->failures > 0 ? kExitNotSaved : kExitAgain;
}
std::int64_t Engine::step() const noexcept {
  return impl_->step;
}
const std::string& Engine::directory() const noexcept {
  return impl_->directory;
}
const RunOptions& Engine::options() const noexcept {
  return impl_->options;
}
void Engine::report(const Event& event) const {
  impl_->report(event);
}

}  // namespace torchkeep
