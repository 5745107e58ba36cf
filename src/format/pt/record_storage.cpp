// SPDX-License-Identifier: BSD-3-Clause
// A storage whose bytes are still in the file it was saved to.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include <torchkeep/base/crc32.h>
#include <torchkeep/format/record_storage.h>

#include "zip/records.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

constexpr std::uint64_t kBlock = std::uint64_t{256} << 10;  // in the L2 cache for its CRC

}  // namespace

RecordStorage::RecordStorage(std::shared_ptr<const zip::Reader> zip, const zip::Record& record,
                             std::shared_ptr<const std::string> location, bool verify)
    : zip_(std::move(zip)), record_(&record), nbytes_(record.size), location_(std::move(location)), verify_(verify) {}

RecordStorage::~RecordStorage() = default;

const std::string& RecordStorage::location() const noexcept {
  return location_ ? *location_ : Storage::location();
}

const std::byte* RecordStorage::data() const noexcept {
  if (nbytes_ == 0) return nullptr;  // an empty record lies among others, whose bytes its address would lead to
  if (memory_ != nullptr) return memory_.get();
  if (zip_ == nullptr || zip_->mapping() == nullptr || record_->method != zip::kMethodStored) return nullptr;
  try {
    std::call_once(prepared_, [this] { prepare(); });
    return zip_->mapping() + data_offset_;
  } catch (const Error&) {
    return nullptr;  // who wants the bytes now calls read(), which throws
  }
}

std::string_view RecordStorage::record_name() const noexcept {
  return record_ == nullptr ? std::string_view() : record_->name;
}

std::optional<RecordStorage::Stored> RecordStorage::stored() const {
  if (zip_ == nullptr || record_->method != zip::kMethodStored) return std::nullopt;
  return Stored{zip_->locate(*record_), record_->crc};
}

void RecordStorage::read(std::uint64_t offset, MutableBytes out) const {
  if (offset > nbytes_ || out.size() > nbytes_ - offset) {
    throw Error(Code::invalid_argument,
                fmt::format("bytes [{}, +{}) lie outside a storage of {} bytes", offset, out.size(), nbytes_));
  }
  if (out.empty()) return;
  if (memory_ != nullptr) {
    std::memcpy(out.data(), memory_.get() + offset, out.size());
  } else if (out.size() == nbytes_) {
    zip_->read(*record_, out, verify_);
  } else if (record_->method != zip::kMethodStored) {
    const std::string all = zip_->read(*record_, verify_, nbytes_);
    std::memcpy(out.data(), all.data() + offset, out.size());
  } else {
    std::call_once(prepared_, [this] { prepare(); });
    zip_->file().read_at(data_offset_ + offset, out);
  }
}

void RecordStorage::prepare() const {
  data_offset_ = zip_->locate(*record_);
  if (!verify_) return;
  if (zip_->mapping() != nullptr) {
    return zip_->check_crc(*record_, crc32({zip_->mapping() + data_offset_, static_cast<std::size_t>(nbytes_)}));
  }
  std::vector<std::byte> memory(static_cast<std::size_t>(std::min(kBlock, nbytes_)));
  std::uint32_t crc = 0;
  for (std::uint64_t done = 0; done < nbytes_;) {
    const auto block = std::span(memory).first(static_cast<std::size_t>(std::min(kBlock, nbytes_ - done)));
    zip_->file().read_at(data_offset_ + done, block);
    crc = crc32(block, crc);
    done += block.size();
  }
  zip_->check_crc(*record_, crc);
}

}  // namespace torchkeep
