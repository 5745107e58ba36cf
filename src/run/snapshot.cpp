// SPDX-License-Identifier: BSD-3-Clause
// Pieces of a block each, copied from the last one on while the reader comes from the first.
#include "snapshot.h"

#include <algorithm>
#include <cstring>

#include <torchkeep/base/crc32.h>
#include <torchkeep/base/parallel.h>

#include "patience.h"

namespace torchkeep {
namespace {

constexpr std::uint64_t kPiece = Staging::kBlock;
// So many bytes a core are read before threads for them would have started.
constexpr std::uint64_t kAlone = std::uint64_t{4} << 20;

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

/// `size`: how large it was. What its owner has resized since is not read, and counts as changed.
void read_live(const Storage& live, std::uint64_t size, std::uint64_t offset, MutableBytes out) {
  if (live.nbytes() != size) return static_cast<void>(std::memset(out.data(), 0, out.size()));
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
  if (live == nullptr || !live->has_bytes() || live->is_private()) return live;
  const auto [known, is_new] = known_.try_emplace(live->identity());
  if (is_new) {
    known->second = {records_.size(), std::make_shared<SnapshotStorage>(shared_from_this(), records_.size(), *live)};
    records_.push_back({.live = live, .size = live->nbytes()});
    // A device may still be at work on it, and the writer's thread does not know which of its streams to wait for.
    live->settle();
  }
  if (proof_ == Proof::hash) return known->second.second;
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
    const bool watched = proof_ == Proof::hash || !record.unwatched;
    const bool streamed = watched && record.live->data() != nullptr && may_stream(*record.live);
    record.group = streamed ? Group::streamed : Group::copied;
    lay_out(static_cast<std::uint32_t>(i));
  }
  for (Pieces& group : groups_) lay_out(group);
  torn_.resize(records_.size());
  if (proof_ == Proof::hash) hash(of(Group::streamed));
}

/// Behind the records of its group that are there, cut where pieces begin.
void Snapshot::lay_out(std::uint32_t index) {
  Record& record = records_[index];
  Pieces& group = of(record.group);
  record.begin = group.size;
  record.first_segment = group.segments.size();
  for (std::uint64_t done = 0; done < record.size;) {
    const std::uint64_t size = std::min(kPiece - group.size % kPiece, record.size - done);
    group.segments.push_back({.record = index, .offset = done, .size = size});
    group.size += size;
    done += size;
  }
}

void Snapshot::lay_out(Pieces& group) {
  group.live = group.size;
  std::size_t segment = 0;
  for (std::uint64_t begin = 0; begin < group.size; begin += kPiece) {
    Piece piece{.unread = std::min(kPiece, group.size - begin), .first_segment = segment};
    for (std::uint64_t size = 0; size < piece.unread; ++segment) size += group.segments[segment].size;
    piece.end_segment = segment;
    group.pieces.push_back(piece);
  }
}

void Snapshot::hash(Pieces& group) const {
  parallel_for(group.pieces.size(), group.size > kAlone ? 0 : 1, [&](std::uint64_t i) {
    const Piece& piece = group.pieces[i];
    for (std::size_t s = piece.first_segment; s < piece.end_segment; ++s) {
      Segment& segment = group.segments[s];
      const std::byte* const bytes = records_[segment.record].live->data() + segment.offset;
      segment.hash = ByteHash::of({bytes, static_cast<std::size_t>(segment.size)});
    }
  });
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
void Snapshot::copy_piece(const Pieces& group, const Copy& copy) const {
  const Piece& piece = group.pieces[copy.piece];
  std::byte* to = copy.block;
  for (std::size_t s = piece.first_segment; s < piece.end_segment; ++s) {
    const Segment& segment = group.segments[s];
    const Record& record = records_[segment.record];
    read_live(*record.live, record.size, segment.offset, {to, static_cast<std::size_t>(segment.size)});
    to += segment.size;
  }
}

void Snapshot::set_aside(Group which) {
  Pieces& group = of(which);
  for (std::size_t next = group.pieces.size(); next > 0;) {
    const std::vector<Copy> copies = take_blocks(group, next);
    if (copies.empty()) continue;  // all that was left is read, or the save was called off
    try {
      copy(group, copies);
    } catch (...) {
      give_back(copies);
      throw;
    }
    keep(group, copies);
  }
  std::vector<StoragePtr> unneeded;  // let go after the lock
  const std::lock_guard lock(mutex_);
  progress_.notify_all();
  if (which != Group::copied || abandoned_) return;
  for (const Segment& segment : group.segments) unneeded.push_back(std::move(records_[segment.record].live));
}

/// Blocks for the last pieces before `next` that are neither read nor copied: for as many as all cores copy in a
/// moment, while the reader comes from the front. Waits for a first block, not for a second one.
std::vector<Snapshot::Copy> Snapshot::take_blocks(Pieces& group, std::size_t& next) {
  const std::size_t many = group.size > kAlone ? 8 * std::size_t{usable_cores()} : 1;
  std::vector<Copy> copies;
  std::unique_lock lock(mutex_);
  while (next > 0 && copies.size() < many) {
    const Piece& piece = group.pieces[next - 1];
    const auto is_done = [&] { return abandoned_ || piece.unread == 0 || piece.copy != nullptr; };
    std::byte* block = is_done() ? nullptr : staging_.take();
    if (block == nullptr && !is_done()) {
      if (!copies.empty()) break;
      wait_until(progress_, lock, look_up_, [&] { return is_done() || (block = staging_.take()) != nullptr; });
    }
    --next;
    if (abandoned_) next = 0;
    if (block != nullptr) copies.push_back({next, block});
  }
  return copies;
}

/// Without the lock: the reader may read the same bytes meanwhile, for nobody changes them yet.
void Snapshot::copy(const Pieces& group, const std::vector<Copy>& copies) {
  const bool in_memory = std::all_of(copies.begin(), copies.end(), [&](const Copy& one) {
    const Piece& piece = group.pieces[one.piece];
    return std::all_of(group.segments.begin() + static_cast<std::ptrdiff_t>(piece.first_segment),
                       group.segments.begin() + static_cast<std::ptrdiff_t>(piece.end_segment),
                       [&](const Segment& segment) { return records_[segment.record].live->data() != nullptr; });
  });
  // A device is asked by one thread: this one.
  parallel_for(copies.size(), in_memory ? 0 : 1, [&](std::uint64_t i) { copy_piece(group, copies[i]); });
}

void Snapshot::keep(Pieces& group, const std::vector<Copy>& copies) {
  const std::lock_guard lock(mutex_);
  for (const Copy& copy : copies) {
    Piece& piece = group.pieces[copy.piece];
    if (piece.unread == 0) {
      staging_.give(copy.block);
    } else {
      piece.copy = copy.block;
      group.live -= piece.unread;
    }
    staged_bytes_ += std::min(kPiece, group.size - copy.piece * kPiece);
  }
}

void Snapshot::give_back(const std::vector<Copy>& copies) {
  const std::lock_guard lock(mutex_);
  for (const Copy& copy : copies) staging_.give(copy.block);
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
  if (proof_ == Proof::hash) return live_of(torn_);
  const std::lock_guard lock(mutex_);
  std::vector<bool> differs = marked_anew();
  for (const Seen& seen : seen_) {
    if (differs[seen.record]) continue;
    const Bytes bytes(records_[seen.record].live->data() + seen.offset, static_cast<std::size_t>(seen.size));
    differs[seen.record] = crc32(bytes) != seen.crc;
  }
  return live_of(differs);
}

std::vector<StoragePtr> Snapshot::live_of(const std::vector<bool>& records) const {
  std::vector<StoragePtr> storages;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (records[i]) storages.push_back(records_[i].live);
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

std::pair<std::uint64_t, std::uint64_t> Snapshot::unread() const {
  const std::lock_guard lock(mutex_);
  const auto sum = [this](const auto& part) { return part(groups_[0]) + part(groups_[1]); };
  return {sum([](const Pieces& group) {
            std::uint64_t bytes = 0;
            for (const Piece& piece : group.pieces) bytes += piece.unread;
            return bytes;
          }),
          sum([](const Pieces& group) { return group.size; })};
}

void Snapshot::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  progress_.notify_all();
}

void Snapshot::read(std::size_t index, std::uint64_t offset, MutableBytes out) {
  const Record& record = records_[index];
  while (!out.empty()) {
    const std::uint64_t to_end = kPiece - (record.begin + offset) % kPiece;
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(to_end, out.size()));
    take_part(record, static_cast<std::uint32_t>(index), offset, out.first(size));
    if (proof_ == Proof::hash && record.group == Group::streamed) check(record, offset, out.first(size));
    offset += size;
    out = out.subspan(size);
  }
}

/// A part of one piece. Under the lock: when set_aside() has the piece, nobody is in the middle of reading it.
void Snapshot::take_part(const Record& record, std::uint32_t index, std::uint64_t offset, MutableBytes out) {
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
    read_live(*record.live, record.size, offset, out);
    group.live -= out.size();
    if (record.compared) seen_.push_back({index, offset, out.size(), crc32(out)});
  }
  progress_.notify_all();
}

/// Of a part of one segment, wherever it was read: whether it is what was there. A segment is read from front to back.
void Snapshot::check(const Record& record, std::uint64_t offset, Bytes read) {
  const Pieces& group = of(Group::streamed);
  const std::uint64_t piece = (record.begin + offset) / kPiece - record.begin / kPiece;
  const Segment& segment = group.segments[record.first_segment + static_cast<std::size_t>(piece)];
  std::uint64_t hash = 0;
  if (read.size() == segment.size) {
    hash = ByteHash::of(read);
  } else {
    if (offset == segment.offset) {
      hash_.restart();
      hashed_ = &segment;
      hashed_bytes_ = 0;
    }
    if (hashed_ != &segment || segment.offset + hashed_bytes_ != offset) {
      throw Error(Code::invalid_argument, "the bytes of a snapshot's storage can be read only from front to back");
    }
    hash_.add(read);
    hashed_bytes_ += read.size();
    if (hashed_bytes_ < segment.size) return;
    hash = hash_.result();
  }
  if (hash != segment.hash) torn_[segment.record] = true;
}

}  // namespace torchkeep
