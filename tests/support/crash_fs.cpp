// SPDX-License-Identifier: BSD-3-Clause
#include "support/crash_fs.h"

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string_view>
#include <unordered_set>

namespace torchkeep::testing {
namespace {

using Kind = DiskEvent::Kind;

bool is_sync(const DiskEvent& event) {
  return event.kind == Kind::sync || event.kind == Kind::sync_directory;
}

/// What `sync` puts on stable storage.
bool settles(const DiskEvent& sync, const DiskEvent& event) {
  if (sync.node != event.node) return false;
  if (sync.kind == Kind::sync) return event.kind == Kind::write && sync.client == event.client;
  if (event.kind == Kind::write) return false;
  return sync.client == event.client || event.kind == Kind::rename;
}

/// Whether an earlier event is one without which this rename could not be: what was renamed came under its name.
bool is_before_rename(const DiskEvent& event, const DiskEvent& rename) {
  return rename.kind == Kind::rename && event.node == rename.node && event.target == rename.target &&
         (event.kind == Kind::link || event.kind == Kind::rename);
}

void apply_fate(const Fate& fate, const DiskEvent& event, Disk& disk) {
  if (fate.kind == Fate::Kind::lost) return;
  if (fate.kind == Fate::Kind::done) return apply(event, disk);
  DiskEvent partial = event;
  if (fate.kind == Fate::Kind::beginning) {
    partial.bytes.resize(fate.length);
  } else {
    // The new length arrived, the bytes did not: old bytes below the old length, zeros above.
    const std::string& old = disk.nodes[event.node].data;
    partial.bytes.assign(event.bytes.size(), '\0');
    for (std::size_t i = 0; i < partial.bytes.size() && event.offset + i < old.size(); ++i) {
      partial.bytes[i] = old[event.offset + i];
    }
  }
  apply(partial, disk);
}

/// A number for everything that can be seen on a disk.
void mix(std::uint64_t& hash, std::string_view text) {
  hash ^= std::hash<std::string_view>{}(text) + 0x9e3779b97f4a7c15 + (hash << 6) + (hash >> 2);
}
void hash_tree(const Disk& disk, NodeId id, std::uint64_t& hash) {
  const Node& node = disk.nodes.at(id);
  mix(hash, std::to_string(static_cast<int>(node.kind)) + "," + std::to_string(node.mode));
  mix(hash, node.data);
  for (const auto& [name, entry] : node.entries) {
    mix(hash, name);
    hash_tree(disk, entry, hash);
  }
  mix(hash, "end");
}

/// Goes through the log once and shows the images at every point.
class Replay final {
 public:
  Replay(Disk start, const CrashBudget& budget, const std::function<void(const CrashImage&)>& check)
      : stable_(std::move(start)), budget_(budget), check_(check), random_(budget.seed) {}

  CrashCount count;

  void event(std::size_t index, const DiskEvent& event) {
    operation_ = index + 1;
    if (is_sync(event)) {
      power_cuts();
      settle(event);
      return;
    }
    if (event.kind == Kind::link) {
      // The file exists from here on, with or without this name; a rebuilt disk must not give its number to another.
      stable_.nodes.try_emplace(event.target, event.created);
      stable_.next = std::max(stable_.next, event.target + 1);
    }
    pending_.push_back({index, &event});
    kills();
  }

  void acknowledge(int what) {
    power_cuts();
    acknowledged_ = what;
    show(all(Fate::Kind::done));
  }

  /// Every crash between the last sync and now: what is pending only grows between two syncs, so the images of all the
  /// earlier moments are among these ("lost" is the same as "not yet begun").
  void power_cuts() {
    std::size_t combinations = 1;
    for (const Pending& one : pending_) {
      combinations = std::min(combinations * fates_of(*one.event), budget_.images_per_point + 1);
    }
    if (combinations <= budget_.images_per_point) return every_combination();
    count.exhaustive = false;
    systematic_combinations();
    for (std::size_t i = 0; i < budget_.images_per_point; ++i) show(random_combination());
  }

 private:
  struct Pending {
    std::size_t index;
    const DiskEvent* event;
  };

  static std::size_t fates_of(const DiskEvent& event) { return event.kind == Kind::write ? 4 : 2; }

  Fate fate(const Pending& one, Fate::Kind kind) const { return {one.index, kind, one.event->bytes.size() / 2}; }

  std::vector<Fate> all(Fate::Kind kind) const {
    std::vector<Fate> fates;
    for (const Pending& one : pending_) fates.push_back(fate(one, kind));
    return fates;
  }

  /// The process dies, the system lives: all is kept, but the write under way may be cut.
  void kills() {
    std::vector<Fate> fates = all(Fate::Kind::done);
    show(fates);
    if (pending_.back().event->kind != Kind::write) return;
    fates.back().kind = Fate::Kind::beginning;
    show(fates);
  }

  void every_combination() {
    std::vector<Fate> fates = all(Fate::Kind::done);
    while (true) {
      show(fates);
      std::size_t digit = 0;
      for (; digit < fates.size(); ++digit) {
        const auto next = static_cast<std::size_t>(fates[digit].kind) + 1;
        const bool carry = next == fates_of(*pending_[digit].event);
        fates[digit].kind = carry ? Fate::Kind::done : static_cast<Fate::Kind>(next);
        if (!carry) break;
      }
      if (digit == fates.size()) return;
    }
  }

  void systematic_combinations() {
    for (const auto& [rest, one] :
         {std::pair(Fate::Kind::done, Fate::Kind::lost), std::pair(Fate::Kind::lost, Fate::Kind::done)}) {
      std::vector<Fate> fates = all(rest);
      show(fates);
      for (Fate& fate : fates) {
        fate.kind = one;
        show(fates);
        fate.kind = rest;
      }
    }
  }

  std::vector<Fate> random_combination() {
    const unsigned mostly = std::uniform_int_distribution<unsigned>(0, 2)(random_);
    std::vector<Fate> fates = all(Fate::Kind::done);
    for (std::size_t i = 0; i < fates.size(); ++i) {
      // A third each: nearly all kept, nearly all lost, evenly mixed.
      const bool exception = std::uniform_int_distribution<unsigned>(0, 7)(random_) == 0;
      if (mostly == 0 && !exception) continue;
      if (mostly == 1 && !exception) {
        fates[i].kind = Fate::Kind::lost;
        continue;
      }
      const std::size_t choices = fates_of(*pending_[i].event);
      fates[i].kind = static_cast<Fate::Kind>(std::uniform_int_distribution<std::size_t>(0, choices - 1)(random_));
      fates[i].length = std::uniform_int_distribution<std::size_t>(0, pending_[i].event->bytes.size())(random_);
    }
    return fates;
  }

  void settle(const DiskEvent& sync) {
    std::vector<bool> settled(pending_.size());
    for (std::size_t i = pending_.size(); i-- > 0;) {
      settled[i] = settles(sync, *pending_[i].event);
      for (std::size_t later = i + 1; later < pending_.size() && !settled[i]; ++later) {
        settled[i] = settled[later] && is_before_rename(*pending_[i].event, *pending_[later].event);
      }
    }
    std::vector<Pending> left;
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      if (settled[i])
        apply(*pending_[i].event, stable_);
      else
        left.push_back(pending_[i]);
    }
    pending_ = std::move(left);
    // Nodes without a name stay while an event may still give them one.
    std::vector<NodeId> keep;
    for (const Pending& one : pending_) keep.insert(keep.end(), {one.event->node, one.event->target});
    drop_unreachable(stable_, keep);
  }

  void show(const std::vector<Fate>& fates) {
    CrashImage image{stable_, acknowledged_, operation_, fates};
    for (std::size_t i = 0; i < fates.size(); ++i) apply_fate(fates[i], *pending_[i].event, image.disk);
    drop_unreachable(image.disk);
    auto hash = static_cast<std::uint64_t>(acknowledged_);
    hash_tree(image.disk, Disk::kRoot, hash);
    if (!seen_.insert(hash).second) return;
    ++count.images;
    check_(image);
  }

  Disk stable_;
  const CrashBudget& budget_;
  const std::function<void(const CrashImage&)>& check_;
  std::mt19937_64 random_;
  std::vector<Pending> pending_;
  std::unordered_set<std::uint64_t> seen_;
  std::size_t operation_ = 0;
  int acknowledged_ = 0;
};

std::string in_words(const DiskEvent& event) {
  const std::string node = std::to_string(event.node);
  switch (event.kind) {
    case Kind::link:
      return "link " + event.name + " in folder " + node;
    case Kind::unlink:
      return "unlink " + event.name + " in folder " + node;
    case Kind::rename:
      return "rename " + event.name + " to " + event.to + " in folder " + node;
    case Kind::write:
      return "write " + std::to_string(event.bytes.size()) + " bytes at " + std::to_string(event.offset) + " of file " +
             node;
    case Kind::sync:
      return "sync file " + node;
    case Kind::sync_directory:
      return "sync folder " + node;
  }
  return {};
}

}  // namespace

CrashFs::CrashFs(Disk disk, MemoryFsSettings settings) : start_(disk), memory_(std::move(disk), settings) {
  memory_.observe([this](const DiskEvent& event) {
    const std::lock_guard guard(mutex_);
    log_.push_back({event, std::nullopt});
  });
}

void CrashFs::acknowledge(int what) {
  const std::lock_guard guard(mutex_);
  log_.push_back({{}, what});
}

CrashCount CrashFs::for_each_image(const CrashBudget& budget,
                                   const std::function<void(const CrashImage&)>& check) const {
  const std::lock_guard guard(mutex_);
  Replay replay(start_, budget, check);
  for (std::size_t i = 0; i < log_.size(); ++i) {
    if (log_[i].acknowledged)
      replay.acknowledge(*log_[i].acknowledged);
    else
      replay.event(i, log_[i].event);
  }
  replay.power_cuts();
  return replay.count;
}

std::string CrashFs::story(const CrashImage& image) const {
  static constexpr const char* kFates[] = {"done", "lost", "only the beginning", "only the length"};
  std::string text = "crash after event " + std::to_string(image.operation) + ", acknowledged " +
                     std::to_string(image.acknowledged) + "\n";
  for (const Fate& fate : image.fates) {
    if (fate.kind == Fate::Kind::done) continue;
    text += std::string("  ") + kFates[static_cast<int>(fate.kind)] + ": " + in_words(log_.at(fate.event).event) + "\n";
  }
  return text;
}

std::size_t crash_images_wanted() {
  // Each image takes thirty times as long under the sanitizers, and what they look for shows in fewer.
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::size_t kUsual = 1'000;
#else
  constexpr std::size_t kUsual = 20'000;
#endif
  const char* const wanted = std::getenv("TORCHKEEP_CRASH_IMAGES");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : kUsual;
}

}  // namespace torchkeep::testing
