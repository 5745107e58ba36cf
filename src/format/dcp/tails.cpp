// SPDX-License-Identifier: BSD-3-Clause
// Reads the tail of a rank file and compares it with the manifest.
#include "tails.h"

#include <algorithm>
#include <fmt/format.h>
#include <optional>

#include <torchkeep/base/crc32.h>
#include <torchkeep/format/open_file.h>

#include "columns.h"
#include "show.h"

namespace torchkeep::dcp {
namespace {

// The save that a file says it is of; nothing when it cannot be read.
std::optional<std::string> save_of(const ReadAt& bytes) {
  class Borrowed final : public ReadAt {
   public:
    explicit Borrowed(const ReadAt& file) : file_(file) {}
    std::uint64_t size() const override { return file_.size(); }
    void read_at(std::uint64_t offset, MutableBytes out) const override { file_.read_at(offset, out); }
    const std::string& name() const override { return file_.name(); }

   private:
    const ReadAt& file_;
  };
  try {
    return text_field(field(read_pt(std::make_shared<Borrowed>(bytes)), "torchkeep"), "save");
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

Tails::Tails(std::string save, std::vector<Manifest::File> files)
    : save_(std::move(save)), files_(std::move(files)), numbers_(files_.size()) {}

void Tails::check(std::uint32_t file, const ReadAt& bytes) {
  const FileTail& tail = files_[file].tail;
  const auto fail = [&](const std::string& message) {
    throw Error(Code::corrupt, fmt::format("{} (the file of rank {})", message, files_[file].rank),
                {.file = bytes.name(), .record = {}, .offset = {}, .key = {}});
  };
  const auto fail_other = [&](const std::string& message) {
    const auto other = save_of(bytes);
    if (other && *other != save_) {
      fail(fmt::format("of the save {}, and manifest.pt of the save {}: files of two saves are mixed",
                       detail::show(*other), detail::show(save_)));
    }
    fail(message);
  };
  if (bytes.size() != tail.size)
    fail_other(fmt::format("{} bytes, and manifest.pt says {}: it was cut off or changed", bytes.size(), tail.size));
  std::vector<std::uint32_t> numbers;
  std::uint32_t crc = 0;
  std::vector<std::byte> block;
  for (std::uint64_t at = tail.begin; at < tail.size; at += block.size()) {
    block.resize(static_cast<std::size_t>(std::min(BlockCrcs::kBlock, tail.size - at)));
    bytes.read_at(at, block);
    crc = crc32(block, crc);
  }
  if (crc != tail.crc)
    fail_other(fmt::format("the CRC-32 from byte {} on is {:08x}, and manifest.pt says {:08x}: bytes have changed",
                           tail.begin, crc, tail.crc));
  std::vector<std::int64_t> table(tail.numbers);
  if (!table.empty()) bytes.read_at(tail.blocks, std::as_writable_bytes(std::span(table)));
  for (const std::int64_t number : table) numbers.push_back(static_cast<std::uint32_t>(number));
  const std::lock_guard lock(mutex_);
  numbers_[file] = std::move(numbers);
}

std::span<const std::uint32_t> Tails::numbers(std::uint32_t file) const {
  const std::lock_guard lock(mutex_);
  return numbers_[file];
}

}  // namespace torchkeep::dcp
