// SPDX-License-Identifier: BSD-3-Clause
// The state of one moment, while its memory goes on to change: the writer reads most of it from live memory, and what
// it has not read is copied aside before the change.
//
//   the training's thread     add everything, hash it | set_aside(copied) | ... | set_aside(streamed) | change it
//   the writer's thread                                 read and hash, read and hash ...  | changed()
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

#include <torchkeep/run/options.h>
#include <torchkeep/state/watched.h>

#include "byte_hash.h"
#include "staging.h"

namespace torchkeep {

/// What a reader of an abandoned snapshot gets.
struct CalledOff {};

class Snapshot final : public std::enable_shared_from_this<Snapshot> {
 public:
  /// What happens to a storage: it is copied at once, or when its memory is about to change.
  enum class Group : std::uint8_t { copied, streamed };

  /// `staging` belongs to one snapshot at a time. `look_up` is called while the training's thread waits (patience.h).
  Snapshot(Staging& staging, Proof proof, std::function<void()> look_up = {})
      : staging_(staging), proof_(proof), look_up_(std::move(look_up)) {}
  ~Snapshot();
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  // ---- the training's thread

  /// A storage with the bytes that `live` has now, to be read once, from front to back, on another thread. Memory that
  /// belongs to the state alone is used as it is; equal identity gives the same storage.
  StoragePtr add(const StoragePtr& live);
  /// Says which of the storages that were added are streamed: those that `may_stream` is true of and that lie in memory
  /// (Proof::counters: and are watched by all who gave them). After that no more are added. With Proof::hash their
  /// bytes are read once, by all cores.
  void divide(const std::function<bool(const Storage&)>& may_stream);
  /// Proof::counters: also compares the checksum of what is read of such a streamed storage, where `is_doubtful` is
  /// true of its mark.
  void compare(const std::function<bool(const Storage&, const WatchedStorage::Mark&)>& is_doubtful);

  /// Returns when every byte of the group was read or copied. Waits for the reader where memory for copies is short.
  /// Throws Error when a storage cannot be read.
  void set_aside(Group group);
  /// True when nothing of live memory will be read any more.
  bool is_over() const;
  /// Waits until then, or until abandon().
  void wait_until_over();
  /// The marks of the streamed storages when they were added, by identity.
  std::unordered_map<const void*, WatchedStorage::Mark> marks() const;
  /// Bytes that were copied.
  std::uint64_t staged_bytes() const;
  /// Bytes of live memory that will still be read, and all there were at the beginning.
  std::pair<std::uint64_t, std::uint64_t> unread() const;

  // ---- either thread

  /// From now on read() throws CalledOff, and nobody waits.
  void abandon();
  /// The streamed storages of which something else was read than was there when they were added. With Proof::hash: for
  /// the reader, after its last read, or for who has joined it. With Proof::counters: for the training's thread, when
  /// is_over(), as far as marks and checksums tell; what is looked at later than the last read is what counts.
  std::vector<StoragePtr> changed() const;

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
    std::uint64_t begin = 0;        ///< in the bytes of its group
    std::size_t first_segment = 0;  ///< of its group's
  };
  /// A record's part in a piece.
  struct Segment {
    std::uint32_t record;
    std::uint64_t offset;  ///< in the record
    std::uint64_t size;
    std::uint64_t hash = 0;  ///< of its bytes at divide(), with Proof::hash
  };
  /// A stretch of a group's bytes, as long as a block.
  struct Piece {
    std::uint64_t unread = 0;
    std::byte* copy = nullptr;
    std::size_t first_segment = 0;
    std::size_t end_segment = 0;
  };
  struct Pieces {
    std::vector<Segment> segments;  ///< in the order of their bytes
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
  /// A piece that is being copied.
  struct Copy {
    std::size_t piece;
    std::byte* block;
  };

  Pieces& of(Group group) { return groups_[static_cast<std::size_t>(group)]; }
  const Pieces& of(Group group) const { return groups_[static_cast<std::size_t>(group)]; }
  void lay_out(Pieces& group);
  void lay_out(std::uint32_t index);
  void hash(Pieces& group) const;
  std::vector<bool> marked_anew() const;
  std::vector<StoragePtr> live_of(const std::vector<bool>& records) const;
  bool is_over_locked() const { return abandoned_ || (groups_[0].live == 0 && groups_[1].live == 0); }
  std::vector<Copy> take_blocks(Pieces& group, std::size_t& next);
  void copy(const Pieces& group, const std::vector<Copy>& copies);
  void keep(Pieces& group, const std::vector<Copy>& copies);
  void give_back(const std::vector<Copy>& copies);
  void copy_piece(const Pieces& group, const Copy& copy) const;
  void take_part(const Record& record, std::uint32_t index, std::uint64_t offset, MutableBytes out);
  void check(const Record& record, std::uint64_t offset, Bytes read);

  Staging& staging_;
  const Proof proof_;
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

  // ---- the writer's
  ByteHash hash_;                    ///< of what was read of the segment it is in
  const Segment* hashed_ = nullptr;  ///< that segment
  std::uint64_t hashed_bytes_ = 0;
  std::vector<bool> torn_;  ///< records of which other bytes were read
};

}  // namespace torchkeep
