// SPDX-License-Identifier: BSD-3-Clause
// The checkpoints of a run directory, whatever each of them is made of. Everything that a run does with a checkpoint as
// a whole goes through a CheckpointStore: nothing else builds the path of one, renames or removes one.
//
//   step-00000400.pt           a checkpoint
//   .step-00000400.pt.tmp-...  one that is being written (a PendingCheckpoint)
//   .step-00000400.pt.doomed   one that is being removed
//   step-00000400.pt.broken    a damaged one, in quarantine
//   pin-00000400               keeps the checkpoint of its step
//
// What a checkpoint is, a file or a folder of files, only its CheckpointKind knows.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/checkpoint/commit.h>
#include <torchkeep/files/fs.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// How a checkpoint is written.
struct WriteRules {
  bool durable = true;
};

/// One kind of checkpoint: a name, and what stands under it. A kind decides nothing: it neither renames nor looks for
/// pins. Its objects have no state and are used from several threads.
class CheckpointKind {
 public:
  CheckpointKind() = default;
  CheckpointKind(const CheckpointKind&) = delete;
  CheckpointKind& operator=(const CheckpointKind&) = delete;
  virtual ~CheckpointKind() = default;

  /// "step-00000400.pt": the name in the run directory, another one for every step.
  virtual std::string name(std::int64_t step) const = 0;
  /// The step of such a name; nothing for every other name, also for one that differs in the number of its zeros.
  virtual std::optional<std::int64_t> parse(std::string_view name) const noexcept = 0;
  /// The step of a name under which begin() writes: what has such a name and is not being written was left by a killed
  /// process.
  virtual std::optional<std::int64_t> parse_pending(std::string_view name) const noexcept = 0;
  /// Whether it is a file or a folder.
  virtual FileKind made_of() const noexcept = 0;
  /// Bytes of all its files; 0 when it is gone.
  virtual std::uint64_t size(Fs& fs, const std::string& path) const = 0;
  /// Begins to write `checkpoint`, which is to appear at `path`. load(), OpenedCheckpoint and verify() of that path are
  /// what reads it. Throws Error.
  virtual std::unique_ptr<PendingCheckpoint> begin(Fs& fs, const std::string& path, const Value& checkpoint,
                                                   const WriteRules& rules) const = 0;
  /// Removes what stands at `path`, where no reader looks any more. Throws Error.
  virtual void remove(Fs& fs, const std::string& path) const = 0;
};

/// A single file of torch.save, "step-00000400.pt": what one process writes.
const CheckpointKind& pt_file_kind() noexcept;

/// All kinds that a run directory may hold; the first is the one that a run writes.
std::span<const CheckpointKind* const> checkpoint_kinds() noexcept;

/// What stands in a run directory beside checkpoints and logs.
struct StoredEntry {
  std::int64_t step = 0;
  std::string path;
  std::uint64_t size = 0;
};

class CheckpointStore final {
 public:
  /// `fs` and `kinds` must outlive it.
  CheckpointStore(Fs& fs, std::string directory, std::span<const CheckpointKind* const> kinds = checkpoint_kinds());

  const std::string& directory() const noexcept { return directory_; }
  Fs& fs() const noexcept { return fs_; }

  // ---- reading

  /// All checkpoints, oldest first; see list_checkpoints().
  std::vector<CheckpointInfo> list() const;
  /// Where the checkpoint of `step` stands, or will, as a run writes it.
  std::string path_of(std::int64_t step) const;
  std::uint64_t size(const std::string& path) const;
  /// What a checkpoint holds, as OpenedCheckpoint gives it to those who read its tensors into live memory.
  Value open(const std::string& path) const;
  /// The same for those who do not want its tensors: none of their bytes is read.
  Value structure(const std::string& path) const;
  /// Reads all of it into memory, every checksum compared.
  Value load(const std::string& path) const;
  /// Reads all of it and keeps nothing. Throws the first of what is wrong with it.
  void verify(const std::string& path) const;
  /// See passes_checks().
  bool is_whole(const std::string& path) const;

  // ---- writing: for the holder of the folder's lock

  /// Begins the checkpoint of `step`: step 1 of the commit protocol, whose others are commit().
  std::unique_ptr<PendingCheckpoint> begin(std::int64_t step, const Value& checkpoint, const WriteRules& rules) const;
  /// Removes the checkpoint of `step` unless it is pinned, however late; true when it is gone.
  bool remove(std::int64_t step) const;
  /// Renames a damaged checkpoint to a name under which nobody uses it, and returns that path. sync() makes it last.
  std::string quarantine(const std::string& path) const;
  void remove_quarantined(const std::string& path) const;
  /// Gives checkpoints that a killed process was about to remove their names back, and removes what it left half
  /// written; the number of these.
  std::size_t clean_up() const;
  /// What was renamed and removed is so after a power cut, too.
  void sync() const;

  // ---- pins: for any process

  bool is_pinned(std::int64_t step) const;
  /// See pin_checkpoint().
  void pin(std::int64_t step) const;
  /// False when there was none.
  bool unpin(std::int64_t step) const;

  // ---- what else is there

  /// The damaged checkpoints in quarantine.
  std::vector<StoredEntry> quarantined() const;
  /// What a killed process left: the next writer's clean_up() sees to it.
  std::vector<StoredEntry> leftovers() const;
  /// The pins, whatever each of them is.
  std::vector<std::int64_t> pins() const;
  /// True when `name` is one of this store's and something stands there that cannot be what the name says.
  bool is_odd(const std::string& name) const;
  /// The step of a checkpoint's name; nothing for other names.
  std::optional<std::int64_t> step_of_name(std::string_view name) const;

 private:
  /// A name with its step and kind.
  struct Parsed {
    std::int64_t step;
    const CheckpointKind* kind;
  };
  std::optional<Parsed> parse(std::string_view name) const;
  std::optional<Parsed> parse_removed(std::string_view name) const;
  std::optional<Parsed> parse_quarantined(std::string_view name) const;
  std::optional<Parsed> parse_pending(std::string_view name) const;
  /// Whether what stands there may be one, links followed; true when the system does not say: reading it tells why.
  bool may_be(const Parsed& parsed, const std::string& name) const;
  /// Whether what stands there is one itself, and no link.
  bool is_own(const Parsed& parsed, const std::string& name) const;
  void remove_at(const CheckpointKind& kind, const std::string& path) const;
  const CheckpointKind& kind_of(const std::string& path) const;
  std::vector<std::string> names() const;
  std::string at(std::string_view name) const;
  bool remove_entry(const CheckpointKind& kind, std::int64_t step) const;
  void restore(const std::string& name, const Parsed& removed) const;

  Fs& fs_;
  std::string directory_;
  std::span<const CheckpointKind* const> kinds_;
};

}  // namespace torchkeep
