// SPDX-License-Identifier: BSD-3-Clause
// The two threads of a save in the background.
#include "saver.h"

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <unordered_set>
#include <utility>
#include <vector>

#include <torchkeep/state/rewrite.h>
#include <torchkeep/state/walk.h>

#include "patience.h"

namespace torchkeep {
namespace {

using Clock = std::chrono::steady_clock;

/// Without a limit of the user's, copies take a quarter of the machine's memory at most.
std::uint64_t staging_limit(const RunOptions& options) {
  if (options.staging_limit) return *options.staging_limit;
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long size = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? static_cast<std::uint64_t>(pages) / 4 * static_cast<std::uint64_t>(size) : 0;
}

/// Adds the time until its end to a sum.
class Stopwatch {
 public:
  explicit Stopwatch(double& sum) : sum_(sum) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() { sum_ += std::chrono::duration<double>(Clock::now() - begin_).count(); }

 private:
  double& sum_;
  Clock::time_point begin_ = Clock::now();
};

/// Keeps signals away from threads that are started meanwhile: handlers run on the threads of the program.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

/// The key paths of the first tensors that look at these storages.
std::vector<std::string> paths_of(const Value& checkpoint, const std::vector<StoragePtr>& storages) {
  std::unordered_set<const void*> wanted;
  for (const StoragePtr& storage : storages) wanted.insert(storage->identity());
  std::vector<std::string> paths;
  if (wanted.empty()) return paths;
  walk(checkpoint, [&](const Visit& visit) {
    if (visit.value.is(Kind::tensor) && wanted.erase(visit.value.as_tensor().storage->identity()) > 0) {
      paths.push_back(visit.place.text());
    }
    return Next::inside;
  });
  return paths;
}

}  // namespace

struct Saver::Job {
  enum class Decision : std::uint8_t { open, publish, drop };

  Value live;  ///< what is saved, over live memory: for the names in it
  std::shared_ptr<Snapshot> snapshot;
  std::vector<std::string> changed;
  double blocked = 0;
  std::thread thread;

  std::mutex mutex;
  std::condition_variable progress;
  Decision decision = Decision::open;
  bool ended = false;
  CommitReport report;

  void decide(Decision what) {
    const std::lock_guard lock(mutex);
    decision = what;
    progress.notify_all();
  }
  bool is_open() {
    const std::lock_guard lock(mutex);
    return decision == Decision::open;
  }
  /// The writer has nothing more to do, or nothing that counts.
  bool is_settled() {
    const std::lock_guard lock(mutex);
    return ended || decision == Decision::drop;
  }

  /// All that the writer's thread does.
  void write(Fs& fs, const RunOptions& options, CommitRequest frozen) {
    CommitReport done = commit(fs, options, frozen, [this] { wait_for_consent(); });
    frozen.checkpoint = {};
    snapshot->abandon();  // whoever waits for it to be read waits in vain
    const std::lock_guard lock(mutex);
    report = std::move(done);
    ended = true;
    progress.notify_all();
  }
  void wait_until_ended(const std::function<void()>& look_up) {
    std::unique_lock lock(mutex);
    wait_until(progress, lock, look_up, [this] { return ended; });
  }
  void wait_for_consent() {
    std::unique_lock lock(mutex);
    progress.wait(lock, [this] { return decision != Decision::open; });
    if (decision == Decision::drop) throw CalledOff{};
  }
};

Saver::Saver(Fs& fs, const RunOptions& options)
    : fs_(fs), options_(options), owner_(::getpid()), staging_(staging_limit(options)) {}

Saver::~Saver() {
  if (job_ == nullptr) return;
  if (in_child()) {
    static_cast<void>(job_.release());  // the thread is the parent's, and so is whatever it had locked
    return;
  }
  if (job_->is_open()) drop();
  if (job_->thread.joinable()) job_->thread.join();
}

bool Saver::in_child() const noexcept {
  return ::getpid() != owner_;
}

void Saver::begin(const CommitRequest& request, bool streaming) {
  if (!in_child() && options_.background) return begin_in_background(request, streaming);
  auto job = std::make_unique<Job>();
  job->report = commit(fs_, options_, request);
  job->blocked = request.capture_seconds + job->report.seconds;
  job->ended = true;
  job->decision = Job::Decision::publish;
  job_ = std::move(job);
}

void Saver::begin_in_background(const CommitRequest& request, bool streaming) {
  staging_.trim();
  auto job = std::make_unique<Job>();
  job->live = request.checkpoint;
  job->blocked = request.capture_seconds;
  try {
    const Stopwatch watch(job->blocked);
    CommitRequest frozen{.step = request.step, .path = request.path, .checkpoint = {}, .capture_seconds = 0};
    job->snapshot = take_snapshot(request, streaming, frozen.checkpoint);
    job_ = std::move(job);
    start_writer(std::move(frozen));
    job_->snapshot->set_aside(Snapshot::Group::copied);
  } catch (...) {
    if (job_ != nullptr) {
      drop();
      finish();
    }
    throw;
  }
  if (job_->snapshot->is_over()) decide();
}

std::shared_ptr<Snapshot> Saver::take_snapshot(const CommitRequest& request, bool streaming, Value& frozen) {
  std::unordered_set<const void*> copied;
  for (const std::string& path : restless_) {
    const auto found = find_path(request.checkpoint, path);
    if (found && found->is(Kind::tensor)) copied.insert(found->as_tensor().storage->identity());
  }
  auto snapshot = std::make_shared<Snapshot>(staging_, options_.while_waiting);
  frozen = with_storages(request.checkpoint, [&](const StoragePtr& live) { return snapshot->add(live); });
  snapshot->divide([&](const Storage& live) { return streaming && !copied.contains(live.identity()); });
  snapshot->compare([this](const Storage& live, const WatchedStorage::Mark& mark) {
    const auto before = previous_.find(live.identity());
    return before != previous_.end() && before->second == mark;
  });
  previous_ = snapshot->marks();
  return snapshot;
}

void Saver::start_writer(CommitRequest frozen) {
  Job* const job = job_.get();
  try {
    const SignalsBlocked blocked;
    job->thread = std::thread([job, this, frozen] { job->write(fs_, options_, frozen); });
  } catch (const std::system_error&) {  // the system refuses threads: then this one writes
    job->decide(Job::Decision::publish);
    job->write(fs_, options_, std::move(frozen));
  }
}

/// When nothing of live memory will be read any more.
void Saver::decide() {
  if (!job_->is_open()) return;
  job_->changed = paths_of(job_->live, job_->snapshot->changed());
  if (job_->changed.empty()) return job_->decide(Job::Decision::publish);
  restless_.insert(job_->changed.begin(), job_->changed.end());
  drop();
}

void Saver::drop() noexcept {
  job_->decide(Job::Decision::drop);
  job_->snapshot->abandon();
}

void Saver::gate() {
  if (job_ == nullptr || in_child() || !job_->is_open()) return;
  const Stopwatch watch(job_->blocked);
  job_->snapshot->set_aside(Snapshot::Group::streamed);
  decide();
}

std::optional<CommitReport> Saver::poll() {
  if (job_ == nullptr || in_child()) return std::nullopt;
  if (job_->is_open() && job_->snapshot->is_over()) decide();
  if (!job_->is_settled()) return std::nullopt;
  return finish();
}

std::optional<CommitReport> Saver::wait() {
  if (job_ == nullptr || in_child()) return std::nullopt;
  if (job_->is_open()) {
    const Stopwatch watch(job_->blocked);
    job_->snapshot->wait_until_over();
    decide();
  }
  {
    const Stopwatch watch(job_->blocked);
    job_->wait_until_ended(options_.while_waiting);
  }
  return finish();
}

CommitReport Saver::finish() {
  {
    const Stopwatch watch(job_->blocked);
    if (job_->thread.joinable()) job_->thread.join();
  }
  CommitReport report = std::move(job_->report);
  report.changed = std::move(job_->changed);
  report.blocked_seconds = job_->blocked;
  report.background = job_->snapshot != nullptr;
  if (report.background) report.staged_bytes = job_->snapshot->staged_bytes();
  job_.reset();
  return report;
}

}  // namespace torchkeep
