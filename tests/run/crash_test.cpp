// SPDX-License-Identifier: BSD-3-Clause
// Every disk that a kill or a power cut could leave behind a run, at any moment of its saving, pruning, pinning and
// recovering: the next start finds a complete checkpoint, never older than the last one that was told saved.
//
// TORCHKEEP_CRASH_IMAGES=1000000 checks that many (`make crash`).
#include <algorithm>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/names.h>

#include "fake_training.h"
#include "support/crash_fs.h"
#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/ring_fs.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::CrashFs;
using torchkeep::testing::CrashImage;
using torchkeep::testing::Disk;
using torchkeep::testing::FakeRun;
using torchkeep::testing::FakeTraining;
using torchkeep::testing::FaultFs;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;

/// How one process of a run behaves; drawn by a seed.
struct Scenario {
  RunOptions options;
  std::vector<int> processes;  ///< steps each one trains before it dies
  int pin_every = 0;           ///< pins every so-many-th checkpoint right after it was saved; 0: none
  int again_every = 0;         ///< so-many-th steps are saved, due or not, and their files written twice; 0: none
  bool finishes = false;
  bool damaged_start = false;  ///< the newest checkpoint is bad when the first process starts
  bool waits = true;           ///< for every save; else what is written and what is trained overlap

  static Scenario draw(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto up_to = [&](int most) { return static_cast<int>(random() % static_cast<unsigned>(most + 1)); };
    Scenario scenario;
    scenario.options.save_every = 1 + up_to(2);
    scenario.options.keep_last = 1 + up_to(2);
    scenario.options.keep_every = up_to(1) * 5;
    if (up_to(1) == 1) {
      scenario.options.keep_best = 1;
      scenario.options.best_metric = "loss";
      scenario.options.best = up_to(1) == 1 ? Best::min : Best::max;
    }
    for (int i = 1 + up_to(2); i > 0; --i) scenario.processes.push_back(2 + up_to(5));
    scenario.pin_every = up_to(1) * (1 + up_to(3));
    scenario.again_every = up_to(1) * (1 + up_to(3));
    scenario.finishes = up_to(1) == 1;
    scenario.damaged_start = up_to(3) == 0;
    scenario.waits = up_to(1) == 0;
    scenario.options.background = scenario.waits ? up_to(1) == 1 : true;
    return scenario;
  }
};

/// A disk with a run of a few steps whose newest checkpoint has a wrong bit.
Disk damaged_disk(const RunOptions& options, std::int64_t& newest_good) {
  MemoryFs fs;
  RunOptions keep_all = options;
  keep_all.keep_last = 0;
  keep_all.save_every = 1;
  FakeRun(fs, keep_all).train(3);
  newest_good = 2;
  const std::string path = "/run/" + names::checkpoint(3);
  const std::string model = FakeTraining::after(3)["model"].as_tensor().contiguous_bytes();
  const std::size_t where = read_file(fs, path).find(model);
  fs.open_write(path)->write_at(where, as_bytes("x"));
  return fs.disk();
}

/// Without the log of saves, which nothing depends on: its lines, never synced, would only multiply the images.
class WithoutSaveLog final : public FaultFs {
 public:
  explicit WithoutSaveLog(Fs& inner) : FaultFs(inner, {}) {}
  std::unique_ptr<File> open_write(const std::string& path) override {
    return path.ends_with("saves.jsonl") ? std::make_unique<Nothing>(path) : FaultFs::open_write(path);
  }

 private:
  class Nothing final : public File {
   public:
    explicit Nothing(std::string path) : path_(std::move(path)) {}
    void write_at(std::uint64_t, Bytes) override {}
    bool reserve(std::uint64_t) override { return true; }
    void sync() override {}
    void close() override {}
    const std::string& path() const noexcept override { return path_; }

   private:
    std::string path_;
  };
};

/// What happened in a recorded run, apart from what is on the disk.
struct Record {
  std::unique_ptr<CrashFs> crash;
  std::vector<std::pair<int, std::int64_t>> pins;  ///< (acknowledgement, step): from then on this pin must hold
};

bool was_pruned(const testing::EventLog& log, std::int64_t step) {
  return std::any_of(log.events.begin(), log.events.end(),
                     [&](const Event& event) { return event.kind == Event::Kind::pruned && event.step == step; });
}

/// Saves a checkpoint over itself, as a program that looks after a folder may do.
void rewrite(Fs& fs, std::int64_t step) {
  const std::string path = "/run/" + names::checkpoint(step);
  save(load(path, {.fs = &fs}), path, {.fs = &fs});
}

/// A way to wrap the file system the run works on.
using Wrap = std::function<std::unique_ptr<Fs>(Fs&)>;

Record record(const Scenario& scenario, Disk start, std::int64_t start_step, const Wrap& wrap = {}) {
  Record record;
  record.crash = std::make_unique<CrashFs>(std::move(start));
  record.crash->acknowledge(static_cast<int>(start_step));
  const std::unique_ptr<Fs> wrapped = wrap ? wrap(record.crash->fs()) : nullptr;
  WithoutSaveLog fs(wrapped ? *wrapped : record.crash->fs());
  int saves = 0;
  for (const int steps : scenario.processes) {
    FakeRun run(fs, scenario.options);
    run.waits = scenario.waits;
    const auto acknowledge = [&](std::size_t from) {
      for (std::size_t i = from; i < run.log.events.size(); ++i) {
        if (run.log.events[i].kind != Event::Kind::saved) continue;
        record.crash->acknowledge(static_cast<int>(run.log.events[i].step));
        if (scenario.pin_every == 0 || ++saves % scenario.pin_every != 0) continue;
        // Events are told when a call is done: what was saved early in it may be pruned by then.
        if (was_pruned(run.log, run.log.events[i].step)) continue;
        pin_checkpoint("/run", run.log.events[i].step, fs);
        // The pin holds in every image of a later acknowledgement.
        record.pins.emplace_back(static_cast<int>(run.log.events[i].step) + 1, run.log.events[i].step);
      }
    };
    for (int i = 0; i < steps; ++i) {
      const std::size_t before = run.log.events.size();
      run.train(run.engine.step() + 1);
      acknowledge(before);
      if (scenario.again_every > 0 && run.engine.step() % scenario.again_every == 0) {
        const std::size_t first = run.log.events.size();
        run.engine.save_now();
        acknowledge(first);
        rewrite(fs, run.engine.step());
      }
    }
    const std::size_t before = run.log.events.size();
    if (scenario.finishes) run.engine.finish();
    acknowledge(before);
    EXPECT_EQ(run.log.count(Event::Kind::save_failed), 0U) << run.log.warnings();
  }
  return record;
}

/// What is wrong with an image; empty when nothing is.
struct Findings {
  std::size_t images = 0;
  std::size_t half_published = 0;  ///< a file with a checkpoint's name that does not verify
  std::size_t lost = 0;            ///< nothing as new as what was told saved
  std::size_t wrong = 0;           ///< another state than the run had at that step
  std::size_t pins_lost = 0;
  std::size_t log_gaps = 0;
  std::size_t not_started = 0;  ///< the next start ended with an error
  std::string first_story;

  bool good() const { return half_published + lost + wrong + pins_lost + log_gaps + not_started == 0; }
  void add(std::size_t& counter, const std::string& what) {
    ++counter;
    if (first_story.empty()) first_story = what;
  }
};

std::string lines_up_to(std::int64_t step) {
  MemoryFs fs;
  FakeRun(fs, {.save_every = 1000}).train(step);
  return step == 0 ? "" : read_file(fs, "/run/metrics.jsonl");
}

void check(const Scenario& scenario, const Record& record, const CrashImage& image, Findings& findings) {
  ++findings.images;
  MemoryFs fs(image.disk);
  const auto story = [&](const std::string& what) { return what + "\n" + record.crash->story(image); };
  try {
    FakeRun run(fs, scenario.options);
    const std::int64_t step = run.engine.step();
    const std::size_t damaged = run.log.count(Event::Kind::set_aside);
    // The damaged start leaves one bad file, until the first process has renamed it for good.
    if (damaged > (scenario.damaged_start ? 1U : 0U)) findings.add(findings.half_published, story(run.log.warnings()));
    if (step < image.acknowledged) {
      findings.add(findings.lost, story("found step " + std::to_string(step)));
    }
    if (run.training.state() != FakeTraining::after(step)) findings.add(findings.wrong, story("another state"));
    const std::string lines = fs.status("/run/metrics.jsonl") ? read_file(fs, "/run/metrics.jsonl") : "";
    if (lines != lines_up_to(step))
      findings.add(findings.log_gaps, story("found step " + std::to_string(step) + " the log says\n" + lines));
    for (const auto& [since, pinned] : record.pins) {
      if (image.acknowledged >= since && !fs.status("/run/" + names::checkpoint(pinned))) {
        findings.add(findings.pins_lost, story("the pinned step " + std::to_string(pinned) + " is gone"));
      }
    }
    if (findings.images % 16 == 0) {
      run.train(step + 3);
      if (run.training.state() != FakeTraining::after(step + 3) || run.log.count(Event::Kind::save_failed) > 0) {
        findings.add(findings.wrong, story("it could not continue: " + run.log.warnings()));
      }
    }
  } catch (const Error& error) {
    findings.add(findings.not_started, story(error.what()));
  }
}

/// Every so-many-th image of a crash is where the next process begins, and crashes in turn.
constexpr std::size_t kCrashAgain = 500;

void examine(const Scenario& scenario, const Record& recorded, std::uint64_t seed, bool again, Findings& findings) {
  std::vector<CrashImage> starts;
  recorded.crash->for_each_image({.images_per_point = 256, .seed = seed}, [&](const CrashImage& image) {
    check(scenario, recorded, image, findings);
    if (again && findings.images % kCrashAgain == 0) starts.push_back(image);
  });
  for (const CrashImage& image : starts) {
    Record second = record(scenario, image.disk, image.acknowledged);
    for (const auto& [since, pinned] : recorded.pins) {
      if (image.acknowledged >= since) second.pins.emplace_back(0, pinned);
    }
    examine(scenario, second, seed, false, findings);
  }
}

Findings examine(const Scenario& scenario, std::uint64_t seed, const Wrap& wrap = {}) {
  std::int64_t newest_good = 0;
  const Disk start = scenario.damaged_start ? damaged_disk(scenario.options, newest_good) : Disk{};
  Findings findings;
  examine(scenario, record(scenario, start, newest_good, wrap), seed, wrap == nullptr, findings);
  return findings;
}

TEST(RunCrash, TheNextStartFindsEverythingThatWasToldSaved) {
  std::size_t images = 0;
  std::uint64_t seed = 1;
  for (; images < testing::crash_images_wanted(); ++seed) {
    const Findings findings = examine(Scenario::draw(seed), seed);
    images += findings.images;
    ASSERT_TRUE(findings.good()) << "seed " << seed << ": " << findings.half_published << " half published, "
                                 << findings.lost << " lost, " << findings.wrong << " wrong, " << findings.pins_lost
                                 << " pins lost, " << findings.log_gaps << " gaps in the log, " << findings.not_started
                                 << " not started\n"
                                 << findings.first_story;
  }
  RecordProperty("images", std::to_string(images));
  std::cout << images << " disk images of " << seed - 1 << " runs\n";
}

TEST(RunCrash, TheSameWhenCheckpointsAreWrittenThroughARingOfBlocks) {
  std::size_t images = 0;
  for (std::uint64_t seed = 1; images < 3000; ++seed) {
    const Findings findings = examine(Scenario::draw(seed), seed, [seed](Fs& fs) {
      return std::make_unique<torchkeep::testing::RingFs>(
          fs, torchkeep::testing::RingSettings{.block_size = 1024, .alignment = 64, .seed = seed});
    });
    images += findings.images;
    ASSERT_TRUE(findings.good()) << "seed " << seed << "\n" << findings.first_story;
  }
}

// ---- protocols that are wrong, and must be noticed

/// A file whose sync does nothing.
class UnsyncedFile final : public File {
 public:
  explicit UnsyncedFile(std::unique_ptr<File> file) : file_(std::move(file)) {}
  void write_at(std::uint64_t offset, Bytes bytes) override { file_->write_at(offset, bytes); }
  bool reserve(std::uint64_t size) override { return file_->reserve(size); }
  void sync() override {}
  void close() override { file_->close(); }
  const std::string& path() const noexcept override { return file_->path(); }

 private:
  std::unique_ptr<File> file_;
};

class WithoutFileSync final : public FaultFs {
 public:
  explicit WithoutFileSync(Fs& inner) : FaultFs(inner, {}) {}
  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override {
    return std::make_unique<UnsyncedFile>(FaultFs::create(path, options));
  }
};

class WithoutDirectorySync final : public FaultFs {
 public:
  explicit WithoutDirectorySync(Fs& inner) : FaultFs(inner, {}) {}
  void sync_directory(const std::string&) override {}
};

/// Writes under the final name at once.
class InPlace final : public FaultFs {
 public:
  explicit InPlace(Fs& inner) : FaultFs(inner, {}) {}
  std::unique_ptr<File> create(const std::string& path, const CreateOptions&) override {
    return FaultFs::open_write(final_name(path));
  }
  std::unique_ptr<ReadAt> open_read(const std::string& path) override { return FaultFs::open_read(final_name(path)); }
  void rename(const std::string& from, const std::string& to) override {
    if (final_name(from) == from) FaultFs::rename(from, to);
  }

 private:
  /// "/run/.step-00000001.pt.tmp-1-2" is "/run/step-00000001.pt".
  static std::string final_name(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string name = path.substr(slash + 1);
    if (!is_temporary_name(name)) return path;
    return path.substr(0, slash + 1) + name.substr(1, name.rfind(".tmp-") - 1);
  }
};

class RemoveBeforeRename final : public FaultFs {
 public:
  explicit RemoveBeforeRename(Fs& inner) : FaultFs(inner, {}) {}
  void rename(const std::string& from, const std::string& to) override {
    if (status(to)) remove(to);
    FaultFs::rename(from, to);
  }
};

/// Makes room before it saves.
class PruneFirst final : public FaultFs {
 public:
  explicit PruneFirst(Fs& inner) : FaultFs(inner, {}) {}
  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override {
    for (const CheckpointInfo& old : list_checkpoints("/run", *this)) remove(old.path);
    return FaultFs::create(path, options);
  }
};

/// Acknowledges, and removes the old, before the folder is synced.
class SyncLater final : public FaultFs {
 public:
  explicit SyncLater(Fs& inner) : FaultFs(inner, {}) {}
  void sync_directory(const std::string& path) override {
    if (++calls_ % 3 == 0) FaultFs::sync_directory(path);
  }

 private:
  int calls_ = 0;
};

template <class Broken>
Findings examine_broken() {
  Scenario scenario;
  scenario.options = {.save_every = 1, .keep_last = 1};
  scenario.processes = {4};
  scenario.again_every = 2;
  return examine(scenario, 1, [](Fs& fs) { return std::make_unique<Broken>(fs); });
}

/// Does nothing wrong: what the broken ones are compared with.
class PassOn final : public FaultFs {
 public:
  explicit PassOn(Fs& inner) : FaultFs(inner, {}) {}
};

TEST(BrokenRunProtocol, TheRightOnePasses) {
  const Findings findings = examine_broken<PassOn>();
  EXPECT_TRUE(findings.good()) << findings.first_story;
  EXPECT_GT(findings.images, 100U);
}

TEST(BrokenRunProtocol, WithoutFileSyncIsFlagged) {
  const Findings findings = examine_broken<WithoutFileSync>();
  EXPECT_GT(findings.half_published, 0U);
  EXPECT_GT(findings.lost + findings.not_started, 0U);
}

TEST(BrokenRunProtocol, WithoutFolderSyncIsFlagged) {
  EXPECT_GT(examine_broken<WithoutDirectorySync>().lost, 0U);
}

TEST(BrokenRunProtocol, WritingInPlaceIsFlagged) {
  EXPECT_GT(examine_broken<InPlace>().half_published, 0U);
}

TEST(BrokenRunProtocol, RemovingBeforeRenamingIsFlagged) {
  EXPECT_GT(examine_broken<RemoveBeforeRename>().lost, 0U);
}

TEST(BrokenRunProtocol, PruningBeforeTheNewOneIsDurableIsFlagged) {
  EXPECT_GT(examine_broken<PruneFirst>().lost, 0U);
  EXPECT_GT(examine_broken<SyncLater>().lost, 0U);
}

}  // namespace
}  // namespace torchkeep
