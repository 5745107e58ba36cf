// SPDX-License-Identifier: BSD-3-Clause
// The two threads of a save in the background.
#include "saver.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <unordered_set>
#include <utility>
#include <vector>

#include <torchkeep/base/memory.h>
#include <torchkeep/base/parallel.h>
#include <torchkeep/state/rewrite.h>
#include <torchkeep/state/walk.h>

#include "patience.h"

namespace torchkeep {
namespace {

using Clock = std::chrono::steady_clock;

// After so many dropped checkpoints nothing is read from live memory any more: something writes everywhere.
constexpr int kMostDropped = 2;
// Memory is read at 30 GB/s where it is copied at 19 (figures of one machine; others have the same ratio): to hash all
// and copy more than this share of it at the gate costs more than to copy all at once.
constexpr double kShareWorthCopying = 0.4;

/// Without a limit of the user's, copies take a quarter of the memory there is at most.
std::uint64_t staging_limit(const RunOptions& options) {
  return options.staging_limit.value_or(usable_memory() / 4);
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

  explicit Job(Proof by = Proof::hash)
      : proof(by), decision(by == Proof::counters ? Decision::open : Decision::publish) {}

  Proof proof;
  Value live;  ///< what is saved, over live memory: for the names in it
  std::shared_ptr<Snapshot> snapshot;
  std::vector<std::string> changed;
  bool met_gate = false;
  double blocked = 0;
  std::thread thread;

  std::mutex mutex;
  std::condition_variable progress;
  Decision decision;  ///< Proof::hash: to publish, if what was written has the hash
  bool torn = false;  ///< it has not
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
  void write(const CheckpointStore& store, const RunOptions& options, CommitRequest frozen) {
    CommitReport done = commit(store, options, frozen, [this] { wait_for_decision(); });
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
  void wait_for_decision() {
    std::unique_lock lock(mutex);
    progress.wait(lock, [this] { return decision != Decision::open; });
    torn = proof == Proof::hash && !snapshot->changed().empty();
    if (torn || decision == Decision::drop) throw CalledOff{};
  }
};

Saver::Saver(const CheckpointStore& store, const RunOptions& options)
    : store_(store), options_(options), owner_(::getpid()), staging_(staging_limit(options)) {}

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

void Saver::begin(const CommitRequest& request, const Identities& streamable) {
  if (!in_child() && options_.background) return begin_in_background(request, streamable);
  auto job = std::make_unique<Job>();
  job->report = commit(store_, options_, request);
  job->blocked = request.capture_seconds + job->report.seconds;
  job->ended = true;
  job_ = std::move(job);
}

void Saver::begin_in_background(const CommitRequest& request, const Identities& streamable) {
  staging_.trim();
  auto job = std::make_unique<Job>(options_.proof);
  job->live = request.checkpoint;
  job->blocked = request.capture_seconds;
  try {
    const Stopwatch watch(job->blocked);
    CommitRequest frozen{.step = request.step, .checkpoint = {}, .capture_seconds = 0};
    job->snapshot = take_snapshot(request, streamable, frozen.checkpoint);
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

std::shared_ptr<Snapshot> Saver::take_snapshot(const CommitRequest& request, const Identities& streamable,
                                               Value& frozen) {
  Identities copied;
  for (const std::string& path : copied_) {
    const auto found = find_path(request.checkpoint, path);
    if (found && found->is(Kind::tensor)) copied.insert(found->as_tensor().storage->identity());
  }
  auto snapshot = std::make_shared<Snapshot>(staging_, options_.proof, options_.while_waiting);
  frozen = with_storages(request.checkpoint, [&](const StoragePtr& live) { return snapshot->add(live); });
  const bool streaming = is_streaming_worth_it();
  snapshot->divide([&](const Storage& live) {
    return streaming && streamable.contains(live.identity()) && !copied.contains(live.identity());
  });
  if (options_.proof != Proof::counters) return snapshot;
  snapshot->compare([this](const Storage& live, const WatchedStorage::Mark& mark) {
    const auto before = previous_.find(live.identity());
    return before != previous_.end() && before->second == mark;
  });
  previous_ = snapshot->marks();
  return snapshot;
}

/// Not where something writes everywhere, and not where most is unwritten when the next step comes, as long as there is
/// memory for it.
bool Saver::is_streaming_worth_it() const {
  if (dropped_ >= kMostDropped) return false;
  const bool is_copied_anyway = options_.proof == Proof::hash && unread_at_gate_ > kShareWorthCopying;
  return !is_copied_anyway || state_size_ > staging_.limit();
}

void Saver::start_writer(CommitRequest frozen) {
  Job* const job = job_.get();
  try {
    const SignalsBlocked blocked;
    job->thread = std::thread([job, this, frozen] { job->write(store_, options_, frozen); });
  } catch (const std::system_error&) {  // the system refuses threads: then this one writes
    job->decide(Job::Decision::publish);
    job->write(store_, options_, std::move(frozen));
  }
}

/// When nothing of live memory will be read any more.
void Saver::decide() {
  if (!job_->is_open()) return;
  if (job_->snapshot->changed().empty()) return job_->decide(Job::Decision::publish);
  note_changed();
  drop();
}

void Saver::note_changed() {
  job_->changed = paths_of(job_->live, job_->snapshot->changed());
  if (job_->changed.empty()) job_->changed.emplace_back("a tensor");  // one that has no key path of its own
  copied_.insert(job_->changed.begin(), job_->changed.end());
  ++dropped_;
}

void Saver::drop() noexcept {
  job_->decide(Job::Decision::drop);
  job_->snapshot->abandon();
}

void Saver::gate() {
  if (job_ == nullptr || in_child() || job_->snapshot == nullptr) return;
  const Stopwatch watch(job_->blocked);
  if (!std::exchange(job_->met_gate, true)) {
    const auto [unread, size] = job_->snapshot->unread();
    unread_at_gate_ = size > 0 ? static_cast<double>(unread) / static_cast<double>(size) : 0;
    state_size_ = size;
  }
  if (!job_->snapshot->is_over()) job_->snapshot->set_aside(Snapshot::Group::streamed);
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
  if (job_->torn) note_changed();
  if (!job_->met_gate) unread_at_gate_ = 0;
  report.changed = std::move(job_->changed);
  report.copies_all = dropped_ >= kMostDropped;
  report.blocked_seconds = job_->blocked;
  report.background = job_->snapshot != nullptr;
  if (report.background) report.staged_bytes = job_->snapshot->staged_bytes();
  job_.reset();
  return report;
}

}  // namespace torchkeep
