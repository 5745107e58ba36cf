// SPDX-License-Identifier: BSD-3-Clause
// The state of one moment, while its memory goes on to change: the writer reads most of it from live memory, and what
// it has not read is copied aside before the change.
//
//   the training's thread     add everything | set_aside(copied) | ... | set_aside(streamed), changed() | change it
//   the writer's thread                                read, read, read ...
//
// A byte is read once: from where it lives, or from the copy. Reading goes on while bytes are copied; after set_aside()
// nothing is read from live memory any more.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include <torchkeep/state/watched.h>

#include "staging.h"

namespace torchkeep {

/// What a reader of an abandoned snapshot gets.
struct CalledOff {};

class Snapshot final : public std::enable_shared_from_this<Snapshot> {
 public:
  /// What happens to a storage: it is copied at once, or when its memory is about to change.
  enum class Group : std::uint8_t { copied, streamed };

  /// `staging` belongs to one snapshot at a time. `look_up` is called while the training's thread waits (patience.h).
  explicit Snapshot(Staging& staging, std::function<void()> look_up = {})
      : staging_(staging), look_up_(std::move(look_up)) {}
  ~Snapshot();
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  // ---- the training's thread

  /// A storage with the bytes that `live` has now, to be read once, from front to back, on another thread. Memory that
  /// belongs to the state alone is used as it is; equal identity gives the same storage.
  StoragePtr add(const StoragePtr& live);
  /// Says which of the storages that were added are streamed: those that `may_stream` is true of, lie in memory, and
  /// are watched by all who gave them. After that no more are added.
  void divide(const std::function<bool(const Storage&)>& may_stream);
  /// Also compares the checksum of what is read of such a streamed storage, where `is_doubtful` is true of its mark.
  void compare(const std::function<bool(const Storage&, const WatchedStorage::Mark&)>& is_doubtful);

  /// Returns when every byte of the group was read or copied. Waits for the reader where memory for copies is short.
  /// Throws Error when a storage cannot be read.
  void set_aside(Group group);
  /// True when nothing of live memory will be read any more.
  bool is_over() const;
  /// Waits until then, or until abandon().
  void wait_until_over();
  /// The streamed storages that were changed since they were added, as far as marks and checksums tell. Only when
  /// is_over(): what is looked at later than the last read is what counts.
  std::vector<StoragePtr> changed() const;
  /// The marks of the streamed storages when they were added, by identity.
  std::unordered_map<const void*, WatchedStorage::Mark> marks() const;
  /// Bytes that were copied.
  std::uint64_t staged_bytes() const;

  // ---- either thread

  /// From now on read() throws CalledOff, and nobody waits.
  void abandon();

  // ---- the writer's thread

  void read(std::size_t record, std::uint64_t offset, MutableBytes out);

 private:
  struct Watch {
    std::shared_ptr<const WatchedStorage> storage;
    WatchedStorage::Mark mark;
  };
  struct Record {
    StoragePtr live;
    std::uint64_t size = 0;
    std::vector<Watch> watches{};
    bool unwatched = false;  ///< somebody gave it who does not watch it
    bool compared = false;
    Group group = Group::copied;
    std::uint64_t begin = 0;  ///< in the bytes of its group
  };
  /// A stretch of a group's bytes, as long as a block.
  struct Piece {
    std::uint64_t unread = 0;
    std::byte* copy = nullptr;
  };
  struct Pieces {
    std::vector<std::uint32_t> records;  ///< in the order of their bytes
    std::vector<Piece> pieces;
    std::uint64_t size = 0;
    std::uint64_t live = 0;  ///< bytes neither read nor copied
  };
  /// What was read of live memory, and its checksum.
  struct Seen {
    std::uint32_t record;
    std::uint64_t offset;
    std::uint64_t size;
    std::uint32_t crc;
  };

  Pieces& of(Group group) { return groups_[static_cast<std::size_t>(group)]; }
  const Pieces& of(Group group) const { return groups_[static_cast<std::size_t>(group)]; }
  std::vector<bool> marked_anew() const;
  bool is_over_locked() const { return abandoned_ || (groups_[0].live == 0 && groups_[1].live == 0); }
  void copy_piece(const Pieces& group, std::size_t piece, std::byte* to) const;
  void take_part(Record& record, std::uint32_t index, std::uint64_t offset, MutableBytes out);

  Staging& staging_;
  std::function<void()> look_up_;
  std::shared_ptr<void> marking_;  ///< between add() and divide()
  std::vector<Record> records_;
  std::unordered_map<const void*, std::pair<std::size_t, StoragePtr>> known_;  ///< by identity
  mutable std::mutex mutex_;
  std::condition_variable progress_;
  Pieces groups_[2];
  std::vector<Seen> seen_;
  std::uint64_t staged_bytes_ = 0;
  bool abandoned_ = false;
};

}  // namespace torchkeep
