// SPDX-License-Identifier: BSD-3-Clause
// Pieces of a block each, copied from the last one on while the reader comes from the first.
#include "snapshot.h"

#include <algorithm>
#include <cstring>

#include <torchkeep/base/crc32.h>

#include "patience.h"

namespace torchkeep {
namespace {

constexpr std::uint64_t kPiece = Staging::kBlock;

/// What the writer reads.
class SnapshotStorage final : public Storage {
 public:
  SnapshotStorage(std::shared_ptr<Snapshot> snapshot, std::size_t record, const Storage& live)
      : snapshot_(std::move(snapshot)), record_(record), nbytes_(live.nbytes()), location_(live.location()) {}

  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  const std::string& location() const noexcept override { return location_; }
  void read(std::uint64_t offset, MutableBytes out) const override {
    if (offset > nbytes_ || out.size() > nbytes_ - offset) {
      throw Error(Code::invalid_argument, "these bytes lie outside the storage");
    }
    if (!out.empty()) snapshot_->read(record_, offset, out);
  }

 private:
  std::shared_ptr<Snapshot> snapshot_;
  std::size_t record_;
  std::uint64_t nbytes_;
  std::string location_;
};

void read_live(const Storage& live, std::uint64_t offset, MutableBytes out) {
  if (const std::byte* const bytes = live.data())
    std::memcpy(out.data(), bytes + offset, out.size());
  else
    live.read(offset, out);
}

}  // namespace

Snapshot::~Snapshot() {
  for (Pieces& group : groups_) {
    for (const Piece& piece : group.pieces) {
      if (piece.copy != nullptr) staging_.give(piece.copy);
    }
  }
}

StoragePtr Snapshot::add(const StoragePtr& live) {
  if (live == nullptr || !live->has_bytes() || dynamic_cast<const OwnedStorage*>(live.get()) != nullptr) return live;
  const auto [known, is_new] = known_.try_emplace(live->identity());
  if (is_new) {
    known->second = {records_.size(), std::make_shared<SnapshotStorage>(shared_from_this(), records_.size(), *live)};
    records_.push_back({.live = live, .size = live->nbytes()});
    // A device may still be at work on it, and the writer's thread does not know which of its streams to wait for.
    live->settle();
  }
  Record& record = records_[known->second.first];
  if (auto watched = std::dynamic_pointer_cast<const WatchedStorage>(live)) {
    if (marking_ == nullptr) marking_ = watched->marking();
    const WatchedStorage::Mark mark = watched->mark();
    record.watches.push_back({std::move(watched), mark});
  } else {
    record.unwatched = true;
  }
  return known->second.second;
}

void Snapshot::divide(const std::function<bool(const Storage&)>& may_stream) {
  known_.clear();
  marking_.reset();
  for (std::size_t i = 0; i < records_.size(); ++i) {
    Record& record = records_[i];
    const bool streamed = !record.unwatched && record.live->data() != nullptr && may_stream(*record.live);
    record.group = streamed ? Group::streamed : Group::copied;
    Pieces& group = of(record.group);
    record.begin = group.size;
    group.size += record.size;
    group.records.push_back(static_cast<std::uint32_t>(i));
  }
  for (Pieces& group : groups_) {
    group.live = group.size;
    for (std::uint64_t begin = 0; begin < group.size; begin += kPiece) {
      group.pieces.push_back({.unread = std::min(kPiece, group.size - begin)});
    }
  }
}

void Snapshot::compare(const std::function<bool(const Storage&, const WatchedStorage::Mark&)>& is_doubtful) {
  for (Record& record : records_) {
    if (record.group != Group::streamed) continue;
    record.compared = std::any_of(record.watches.begin(), record.watches.end(), [&](const Watch& watch) {
      return watch.storage->is_trained() && is_doubtful(*watch.storage, watch.mark);
    });
  }
}

/// The bytes of a piece, which may be those of many records, one behind the other.
void Snapshot::copy_piece(const Pieces& group, std::size_t piece, std::byte* to) const {
  std::uint64_t begin = piece * kPiece;
  const std::uint64_t end = std::min(begin + kPiece, group.size);
  const auto behind = std::upper_bound(group.records.begin(), group.records.end(), begin,
                                       [this](std::uint64_t at, std::uint32_t i) { return at < records_[i].begin; });
  for (auto i = behind - 1; begin < end; ++i) {
    const Record& record = records_[*i];
    const std::uint64_t size = std::min(end, record.begin + record.size) - begin;
    if (size == 0) continue;  // an empty storage
    read_live(*record.live, begin - record.begin, {to, static_cast<std::size_t>(size)});
    to += size;
    begin += size;
  }
}

void Snapshot::set_aside(Group which) {
  Pieces& group = of(which);
  for (std::size_t i = group.pieces.size(); i-- > 0;) {
    Piece& piece = group.pieces[i];
    std::byte* copy = nullptr;
    {
      std::unique_lock lock(mutex_);
      wait_until(progress_, lock, look_up_, [&] {
        return abandoned_ || piece.unread == 0 || piece.copy != nullptr || (copy = staging_.take()) != nullptr;
      });
      if (abandoned_) {
        if (copy != nullptr) staging_.give(copy);
        return;
      }
    }
    if (copy == nullptr) continue;
    // Without the lock: the reader may read the same bytes meanwhile, for nobody changes them yet.
    try {
      copy_piece(group, i, copy);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      staging_.give(copy);
      throw;
    }
    const std::lock_guard lock(mutex_);
    if (piece.unread == 0) {
      staging_.give(copy);
    } else {
      piece.copy = copy;
      group.live -= piece.unread;
    }
    staged_bytes_ += std::min(kPiece, group.size - i * kPiece);
  }
  std::vector<StoragePtr> unneeded;  // let go after the lock
  const std::lock_guard lock(mutex_);
  progress_.notify_all();
  if (which != Group::copied) return;
  for (const std::uint32_t i : group.records) unneeded.push_back(std::move(records_[i].live));
}

bool Snapshot::is_over() const {
  const std::lock_guard lock(mutex_);
  return is_over_locked();
}

void Snapshot::wait_until_over() {
  std::unique_lock lock(mutex_);
  wait_until(progress_, lock, look_up_, [this] { return is_over_locked(); });
}

std::vector<bool> Snapshot::marked_anew() const {
  std::vector<bool> differs(records_.size());
  std::shared_ptr<void> marking;
  for (std::size_t i = 0; i < records_.size(); ++i) {
    if (records_[i].group != Group::streamed) continue;
    for (const Watch& watch : records_[i].watches) {
      if (marking == nullptr) marking = watch.storage->marking();
      differs[i] = differs[i] || watch.storage->mark() != watch.mark;
    }
  }
  return differs;
}

std::vector<StoragePtr> Snapshot::changed() const {
  const std::lock_guard lock(mutex_);
  std::vector<bool> differs = marked_anew();
  for (const Seen& seen : seen_) {
    if (differs[seen.record]) continue;
    const Bytes bytes(records_[seen.record].live->data() + seen.offset, static_cast<std::size_t>(seen.size));
    differs[seen.record] = crc32(bytes) != seen.crc;
  }
  std::vector<StoragePtr> storages;
  for (std::size_t i = 0; i < records_.size(); ++i) {
    if (differs[i]) storages.push_back(records_[i].live);
  }
  return storages;
}

std::unordered_map<const void*, WatchedStorage::Mark> Snapshot::marks() const {
  std::unordered_map<const void*, WatchedStorage::Mark> marks;
  for (const Record& record : records_) {
    if (!record.watches.empty()) marks.emplace(record.live->identity(), record.watches.front().mark);
  }
  return marks;
}

std::uint64_t Snapshot::staged_bytes() const {
  const std::lock_guard lock(mutex_);
  return staged_bytes_;
}

void Snapshot::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  progress_.notify_all();
}

void Snapshot::read(std::size_t index, std::uint64_t offset, MutableBytes out) {
  Record& record = records_[index];
  while (!out.empty()) {
    const std::uint64_t to_end = kPiece - (record.begin + offset) % kPiece;
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(to_end, out.size()));
    take_part(record, static_cast<std::uint32_t>(index), offset, out.first(size));
    offset += size;
    out = out.subspan(size);
  }
}

/// A part of one piece. Under the lock: when set_aside() has the piece, nobody is in the middle of reading it.
void Snapshot::take_part(Record& record, std::uint32_t index, std::uint64_t offset, MutableBytes out) {
  const std::lock_guard lock(mutex_);
  if (abandoned_) throw CalledOff{};
  Pieces& group = of(record.group);
  const std::uint64_t begin = record.begin + offset;
  Piece& piece = group.pieces[static_cast<std::size_t>(begin / kPiece)];
  if (piece.unread < out.size()) throw Error(Code::invalid_argument, "bytes of a snapshot can be read only once");
  piece.unread -= out.size();
  if (piece.copy != nullptr) {
    std::memcpy(out.data(), piece.copy + begin % kPiece, out.size());
    if (piece.unread == 0) staging_.give(std::exchange(piece.copy, nullptr));
  } else {
    read_live(*record.live, offset, out);
    group.live -= out.size();
    if (record.compared) seen_.push_back({index, offset, out.size(), crc32(out)});
  }
  progress_.notify_all();
}

}  // namespace torchkeep
