// SPDX-License-Identifier: BSD-3-Clause
// Gathering a tensor's bytes from its chunks.
#include "chunked_storage.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <map>

#include <torchkeep/base/crc32.h>

namespace torchkeep::dcp {
namespace {

constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;    // read from a file at once
constexpr std::uint64_t kDirect = std::uint64_t{64} << 10;  // runs of this length are read into place

// Reads bytes of one chunk from front to back.
class Window {
 public:
  /// Of bytes [begin, end) of the chunk.
  Window(const ItemSource& source, const MetaEntry& entry, std::size_t chunk, const ChunkBytes& bytes,
         std::uint64_t begin, std::uint64_t end, std::uint32_t* crc)
      : source_(source),
        place_(entry.places[chunk]),
        fqn_(entry.fqn),
        bytes_(bytes),
        next_(begin),
        end_(end),
        crc_(crc) {}

  /// The next `size` bytes.
  void take(MutableBytes out) {
    if (out.size() >= kDirect && used_ == block_.size()) return take_direct(out);
    while (!out.empty()) {
      if (used_ == block_.size()) refill();
      const std::size_t size = std::min(out.size(), block_.size() - used_);
      std::memcpy(out.data(), block_.data() + used_, size);
      used_ += size;
      out = out.subspan(size);
    }
  }
  /// Passes over all that is left.
  void finish() {
    for (; next_ < end_;) refill();
  }

 private:
  void read(MutableBytes out) {
    if (bytes_.memory != nullptr)
      std::memcpy(out.data(), bytes_.memory->data() + next_, out.size());
    else
      open_data(source_, place_, fqn_)->read_at(bytes_.begin + next_, out);
    if (crc_ != nullptr) *crc_ = crc32(out, *crc_);
    next_ += out.size();
  }
  void take_direct(MutableBytes out) {
    for (; !out.empty(); out = out.subspan(std::min<std::uint64_t>(out.size(), kBlock)))
      read(out.first(std::min<std::uint64_t>(out.size(), kBlock)));
  }
  void refill() {
    block_.resize(static_cast<std::size_t>(std::min(kBlock, end_ - next_)));
    used_ = 0;
    read(block_);
  }

  const ItemSource& source_;
  const ItemPlace& place_;
  const std::string& fqn_;
  const ChunkBytes& bytes_;
  std::uint64_t next_;  // byte of the chunk that is read next
  std::uint64_t end_;
  std::uint32_t* crc_;
  std::vector<std::byte> block_;
  std::size_t used_ = 0;  // of block_
};

}  // namespace

/// Reads the tensor from front to back. In every chunk the bytes then come from front to back too, so that its CRC is
/// computed on the way.
class ChunkReader final : public StorageReader {
 public:
  explicit ChunkReader(const ChunkedStorage& storage) : storage_(storage) {}

  void read(MutableBytes out) override {
    const std::uint64_t begin = position_;
    const std::uint64_t end = begin + out.size();
    if (end > storage_.nbytes()) throw Error(Code::invalid_argument, "a read behind the end of a tensor");
    while (next_ < storage_.chunks_.size() && storage_.runs_[next_].begin() < end) {
      open_.emplace(next_, Open{storage_.find(next_), 0});
      ++next_;
    }
    for (auto one = open_.begin(); one != open_.end();) {
      auto& [bytes, crc] = one->second;
      storage_.copy(one->first, bytes, begin, out, &crc);
      if (storage_.runs_[one->first].end() > end) {
        ++one;
        continue;
      }
      const std::size_t chunk = storage_.chunks_[one->first];
      check_crc(*storage_.source_, storage_.entry_, chunk, bytes, crc);
      storage_.set_verified(one->first);
      one = open_.erase(one);
    }
    position_ = end;
  }

 private:
  struct Open {
    ChunkBytes bytes;
    std::uint32_t crc;
  };

  const ChunkedStorage& storage_;
  std::uint64_t position_ = 0;
  std::size_t next_ = 0;              // of the storage's chunks: the first that was not met yet
  std::map<std::size_t, Open> open_;  // those that have begun and not ended
};

ChunkedStorage::ChunkedStorage(std::shared_ptr<const ItemSource> source, MetaEntry entry)
    : source_(std::move(source)), entry_(std::move(entry)) {
  nbytes_ = static_cast<std::uint64_t>(*element_count(entry_.shape)) * itemsize(entry_.dtype);
  for (std::size_t i = 0; i < entry_.chunks.size(); ++i) {
    if (!is_empty(entry_.chunks[i])) chunks_.push_back(i);
  }
  const auto begin = [this](std::size_t i) { return Runs(entry_.chunks[i], entry_.shape, 1).begin(); };
  std::sort(chunks_.begin(), chunks_.end(), [&](std::size_t a, std::size_t b) { return begin(a) < begin(b); });
  runs_.reserve(chunks_.size());
  for (const std::size_t i : chunks_) runs_.emplace_back(entry_.chunks[i], entry_.shape, itemsize(entry_.dtype));
  known_.resize(chunks_.size());
}

ChunkedStorage::~ChunkedStorage() {
  source_->last.forget(this);
}

ChunkBytes ChunkedStorage::find(std::size_t i) const {
  {
    const std::lock_guard lock(mutex_);
    if (known_[i].bytes) return *known_[i].bytes;
  }
  if (auto memory = source_->last.find(this, i)) return {0, 0, std::move(memory)};
  ChunkBytes bytes = find_chunk(*source_, entry_, chunks_[i], entry_.places[chunks_[i]]);
  if (bytes.memory != nullptr) {
    source_->last.set(this, i, bytes.memory);
  } else {
    const std::lock_guard lock(mutex_);
    known_[i].bytes = bytes;
  }
  return bytes;
}

void ChunkedStorage::set_verified(std::size_t i) const {
  const std::lock_guard lock(mutex_);
  known_[i].verified = true;
}

void ChunkedStorage::verify(std::size_t i, const ChunkBytes& bytes) const {
  {
    const std::lock_guard lock(mutex_);
    if (known_[i].verified) return;
  }
  if (source_->options.verify && bytes.memory == nullptr && bytes.crc != 0) {
    std::uint32_t crc = 0;
    Window(*source_, entry_, chunks_[i], bytes, 0, runs_[i].nbytes(), &crc).finish();
    check_crc(*source_, entry_, chunks_[i], bytes, crc);
  }
  set_verified(i);
}

// Fills what the chunk has of `out`, which is the tensor's bytes from `first` on.
void ChunkedStorage::copy(std::size_t i, const ChunkBytes& bytes, std::uint64_t first, MutableBytes out,
                          std::uint32_t* crc) const {
  const Runs& runs = runs_[i];
  const std::uint64_t end = first + out.size();
  const std::uint64_t first_run = runs.first_behind(first);
  if (first_run == runs.count() || runs.position(first_run) >= end) return;
  const std::uint64_t last_run = runs.position(runs.count() - 1) < end ? runs.count() - 1 : runs.first_behind(end - 1);
  const auto skipped = [&](std::uint64_t run) { return first - std::min(first, runs.position(run)); };
  const std::uint64_t chunk_begin = first_run * runs.length() + skipped(first_run);
  const std::uint64_t last_position = runs.position(last_run);
  const std::uint64_t chunk_end =
      last_run * runs.length() + (last_position < end ? std::min(runs.length(), end - last_position) : 0);
  Window window(*source_, entry_, chunks_[i], bytes, chunk_begin, chunk_end, crc);
  for (std::uint64_t run = first_run; run <= last_run; ++run) {
    const std::uint64_t position = runs.position(run);
    if (position >= end) break;
    const std::uint64_t from = std::max(position, first);
    const std::uint64_t to = std::min(position + runs.length(), end);
    window.take(out.subspan(from - first, to - from));
  }
}

void ChunkedStorage::read(std::uint64_t offset, MutableBytes out) const {
  if (offset > nbytes_ || out.size() > nbytes_ - offset) {
    throw Error(Code::invalid_argument,
                fmt::format("bytes [{}, +{}) lie outside a storage of {} bytes", offset, out.size(), nbytes_));
  }
  if (out.empty()) return;
  if (out.size() == nbytes_) return read_all(out);
  for (std::size_t i = 0; i < chunks_.size() && runs_[i].begin() < offset + out.size(); ++i) {
    if (runs_[i].end() <= offset) continue;
    const ChunkBytes bytes = find(i);
    verify(i, bytes);
    copy(i, bytes, offset, out, nullptr);
  }
}

void ChunkedStorage::read_all(MutableBytes out) const {
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    const ChunkBytes bytes = find(i);
    std::uint32_t crc = 0;
    copy(i, bytes, 0, out, &crc);
    check_crc(*source_, entry_, chunks_[i], bytes, crc);
    set_verified(i);
  }
}

std::unique_ptr<StorageReader> ChunkedStorage::reader() const {
  return std::make_unique<ChunkReader>(*this);
}

}  // namespace torchkeep::dcp
