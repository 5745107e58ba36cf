// SPDX-License-Identifier: BSD-3-Clause
// The buffers take turns.
#include <algorithm>
#include <cstring>
#include <utility>

#include <torchkeep/state/device.h>

namespace torchkeep {

DeviceReader::DeviceReader(std::shared_ptr<DeviceCopies> copies, const void* from, std::uint64_t size)
    : copies_(std::move(copies)), from_(static_cast<const std::byte*>(from)), left_(size) {
  copies_->follow_caller();
  try {
    for (std::size_t i = 0; i < pieces_.size(); ++i) start_next(i);
  } catch (...) {
    settle();
    throw;
  }
}

DeviceReader::~DeviceReader() {
  settle();
}

/// Whoever gets the buffers next must find them still.
void DeviceReader::settle() noexcept {
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    try {
      if (std::exchange(pieces_[i].under_way, false)) copies_->wait(i);
    } catch (...) {  // NOLINT(bugprone-empty-catch): the bytes are not wanted any more
    }
  }
}

void DeviceReader::start_next(std::size_t buffer) {
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, copies_->buffer(buffer).size()));
  pieces_[buffer] = {.size = size};
  if (size == 0) return;
  copies_->start(buffer, from_, size);
  pieces_[buffer].under_way = true;
  from_ += size;
  left_ -= size;
}

void DeviceReader::read(MutableBytes out) {
  while (!out.empty()) {
    Piece& piece = pieces_[current_];
    if (piece.size == 0) throw Error(Code::invalid_argument, "these bytes lie outside the device's memory");
    if (std::exchange(piece.under_way, false)) copies_->wait(current_);
    const std::size_t size = std::min(out.size(), piece.size - piece.taken);
    std::memcpy(out.data(), copies_->buffer(current_).data() + piece.taken, size);
    out = out.subspan(size);
    piece.taken += size;
    if (piece.taken < piece.size) return;
    start_next(current_);
    current_ = (current_ + 1) % pieces_.size();
  }
}

}  // namespace torchkeep
