// SPDX-License-Identifier: BSD-3-Clause
// The engine of a run: its steps and its public calls. How it starts, saves and ends is in engine_resume.cpp,
// engine_save.cpp and engine_stop.cpp; what a save, a recovery and a removal are, in commit.cpp, recover.cpp and
// retain.cpp.
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <unistd.h>

#include <torchkeep/run/schema.h>

#include "check_options.h"
#include "engine_impl.h"

namespace torchkeep {

Engine::Impl::Impl(std::string folder, RunOptions chosen)
    : given(std::move(folder)),
      options(checked(std::move(chosen))),
      fs(options.fs != nullptr ? *options.fs : posix_fs()),
      directory(fs.absolute(given)),
      owner(::getpid()),
      log(fs, directory),
      save_log(fs, directory),
      store(fs, directory),
      retention(store, options),
      saver(store, options) {}

bool Engine::Impl::in_child() const noexcept {
  return ::getpid() != owner;
}

// ---- calls and events

void Engine::Impl::tell() {
  while (!events.empty()) {
    const Event event = std::move(events.front());
    events.pop_front();
    if (options.on_event) options.on_event(event);
  }
}

std::string Engine::Impl::in_users_words(std::string message) const {
  if (directory == given || directory.empty()) return message;
  for (std::size_t at = 0; (at = message.find(directory, at)) != std::string::npos; at += given.size()) {
    message.replace(at, directory.size(), given);
  }
  return message;
}

Error Engine::Impl::in_users_words(const Error& error) const {
  Where where = error.where();
  where.file = in_users_words(std::move(where.file));
  return Error(error.code(), in_users_words(error.message()), std::move(where))
      .with_errno(error.system_error())
      .caused_by(error.cause());
}

void Engine::Impl::report(Event::Kind kind, std::string message, std::int64_t about, std::string path) {
  report({.kind = kind, .message = std::move(message), .step = about, .path = std::move(path)});
}
void Engine::Impl::report(Event event) {
  event.message = in_users_words(std::move(event.message));
  if (event.error) event.error = in_users_words(*event.error);
  events.push_back(std::move(event));
}
void Engine::Impl::warn(std::string message) {
  if (!message.empty()) report(Event::Kind::warning, std::move(message), step);
}

// ---- steps

void Engine::Impl::require_resumed() const {
  if (!resumed) throw Error(Code::invalid_argument, "call resume() first: it says at which step to begin");
}

void Engine::Impl::finish_step(std::int64_t next, const Value& given_metrics, bool is_last) {
  require_resumed();
  if (next <= step) {
    throw Error(Code::invalid_argument, fmt::format("expected a step after {}, found {}", step, next));
  }
  const Value plain = plain_metrics(given_metrics);
  const bool due = is_due(next);
  step = next;
  metrics = plain;
  dirty = true;
  moved = false;
  finished = false;
  const bool best_so_far = note_metrics(plain);
  if (refuse_in_child()) return;
  if (writes() && !plain.empty()) warn(log.append(step, plain));
  const bool stop = stop_requested.load() != kNoStop;
  if (writes() && (stop || is_last || due || best_so_far)) take_again = true;
  look();
  if (take_again) save(stop || is_last);
  if (stop) stop_now();
}

bool Engine::Impl::is_due(std::int64_t next) const {
  if (options.save_every > 0 && next / options.save_every != step / options.save_every) return true;
  return options.save_seconds > 0 &&
         std::chrono::duration<double>(RunClock::now() - last_save).count() >= options.save_seconds;
}

bool Engine::Impl::note_metrics(const Value& plain) {
  for (const Entry& entry : plain.items()) metrics_given.insert(entry.key.as_string());
  if (!options.save_on_best) return false;
  const auto value = schema::metric_in(plain, options.best_metric);
  if (!value || std::isnan(*value) || (best && !is_better(*value, *best, options.best))) return false;
  best = value;
  return true;
}

bool Engine::Impl::refuse_in_child() {
  if (options.role != Role::writer || !in_child()) return false;
  if (!std::exchange(told_child, true)) {
    warn(
        fmt::format("this process was forked from process {}, which opened the run {}, and writes nothing to it: no "
                    "checkpoint, no metrics; open a run of its own here, or go on with the run there",
                    owner, given));
  }
  return true;
}

Engine::Engine(std::string directory, RunOptions options)
    : impl_(std::make_unique<Impl>(std::move(directory), std::move(options))) {
  impl_->call([this] { impl_->open(); });
}
Engine::~Engine() = default;

void Engine::track(std::string name, Tracked tracked) {
  if (impl_->resumed) throw Error(Code::invalid_argument, fmt::format("track '{}' before resume()", name));
  if (name.empty()) throw Error(Code::invalid_argument, "expected a name for what is tracked, found an empty one");
  if (schema::is_reserved(name)) {
    throw Error(Code::invalid_argument, fmt::format("'{}' is an entry of every checkpoint; choose another name", name));
  }
  if (is_tracked(impl_->items, name)) {
    throw Error(Code::invalid_argument, fmt::format("two objects are tracked as '{}'; give each its own name", name));
  }
  auto& items = impl_->items;
  const auto is_last = [](const TrackedItem& item) { return item.tracked.last; };
  const auto place = tracked.last ? items.end() : std::find_if(items.begin(), items.end(), is_last);
  items.insert(place, {std::move(name), std::move(tracked)});
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
  const std::int64_t step = impl_->call([this] { return impl_->resume(); });
  impl_->resumed = true;  // only now: when on_event throws, it can be called again
  return step;
}
bool Engine::is_resumed() const noexcept {
  return impl_->resumed;
}
void Engine::finish_step(std::int64_t step, const Value& metrics, bool is_last) {
  impl_->call([&] { impl_->finish_step(step, metrics, is_last); });
}
bool Engine::save_now() {
  return impl_->call([this] { return impl_->save_now(); });
}
void Engine::gate(std::string_view name) {
  impl_->call([&] { impl_->gate(name); });
}
bool Engine::is_due(std::int64_t step) const {
  return impl_->is_due(step);
}
void Engine::save_next() noexcept {
  impl_->take_again = impl_->writes();
}
void Engine::begin_step() noexcept {
  impl_->moved = impl_->resumed;
}
void Engine::wait() {
  impl_->call([this] { impl_->settle(); });
}
const std::optional<SaveMetrics>& Engine::last_save() const noexcept {
  return impl_->last_metrics;
}
void Engine::save_last() {
  impl_->call([this] { impl_->save_last(); });
}
void Engine::finish(bool complete) {
  impl_->call([&] { impl_->finish(complete); });
}
const std::optional<std::int64_t>& Engine::saved() const noexcept {
  return impl_->saved;
}
void Engine::require_saved() const {
  impl_->with_users_words([this] { impl_->require_saved(); });
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
  return impl_->given;
}
const RunOptions& Engine::options() const noexcept {
  return impl_->options;
}
void Engine::report(const Event& event) {
  impl_->call([&] { impl_->report(event); });
}

}  // namespace torchkeep
