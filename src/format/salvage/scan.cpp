// SPDX-License-Identifier: BSD-3-Clause
// The scan of a zip without its directory.
#include "scan.h"

#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/base/crc32.h>

#include "pickle/pickle.h"
#include "zip/records.h"

namespace torchkeep::salvage_detail {
namespace {

using State = FoundRecord::State;

constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;
constexpr std::uint64_t kLongestUnknown = std::uint64_t{64} << 10;  // of version, byteorder and the like
constexpr std::size_t kLongestName = 4096;
constexpr std::size_t kDescriptorHead = 8;  // signature and CRC; two sizes of 4 or 8 bytes follow

std::string read_text(const ReadAt& file, std::uint64_t offset, std::uint64_t size) {
  std::string text(static_cast<std::size_t>(std::min(size, file.size() - std::min(offset, file.size()))), '\0');
  if (!text.empty()) file.read_at(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

std::string_view signature_text(const std::uint32_t& signature) {
  return {reinterpret_cast<const char*>(&signature), sizeof(signature)};
}

}  // namespace

std::optional<Scanner::Header> Scanner::header_at(std::uint64_t offset) {
  const std::string head = read_text(file_, offset, zip::kLocalSize + kLongestName);
  const Bytes bytes = as_bytes(head);
  if (bytes.size() < zip::kLocalSize || zip::field<std::uint32_t>(bytes, 0) != zip::kLocalSignature)
    return std::nullopt;
  const auto name_size = zip::field<std::uint16_t>(bytes, 26);
  const auto extra_size = zip::field<std::uint16_t>(bytes, 28);
  if (name_size == 0 || name_size > kLongestName || bytes.size() < zip::kLocalSize + name_size) return std::nullopt;
  std::string name = head.substr(zip::kLocalSize, name_size);
  if (root_.empty()) root_ = name.substr(0, name.find('/') + 1);
  if (!name.starts_with(root_)) return std::nullopt;
  return Header{name.substr(root_.size()), offset + zip::kLocalSize + name_size + extra_size,
                zip::field<std::uint16_t>(bytes, 8)};
}

std::optional<std::uint64_t> Scanner::next_header(std::uint64_t from) const {
  const std::uint32_t signature = zip::kLocalSignature;
  const std::string wanted(signature_text(signature));
  // Blocks overlap by three bytes, so that no signature falls between two.
  for (std::uint64_t begin = from; begin + wanted.size() <= file_.size(); begin += kBlock) {
    const std::string block = read_text(file_, begin, kBlock + wanted.size() - 1);
    if (const auto found = block.find(wanted); found != std::string::npos) return begin + found;
  }
  return std::nullopt;
}

// The size of a short record: where a descriptor follows that repeats it.
std::optional<std::uint64_t> Scanner::search_size(std::uint64_t payload) const {
  const std::string text = read_text(file_, payload, kLongestUnknown);
  const std::uint32_t descriptor = zip::kDescriptorSignature, local = zip::kLocalSignature;
  if (text.starts_with(signature_text(local))) return 0;  // an empty payload has no descriptor
  for (auto at = text.find(signature_text(descriptor)); at != std::string::npos;
       at = text.find(signature_text(descriptor), at + 1)) {
    const Bytes rest = as_bytes(text).subspan(at);
    if (rest.size() < kDescriptorHead + 8) break;
    if (zip::field<std::uint32_t>(rest, 8) == at && zip::field<std::uint32_t>(rest, 12) == at) return at;
  }
  return std::nullopt;
}

std::uint32_t Scanner::crc_of(const FoundRecord& record) const {
  std::uint32_t crc = 0;
  for (std::uint64_t done = 0; done < record.size;) {
    const std::string block = read_text(file_, record.begin + done, std::min(kBlock, record.size - done));
    crc = crc32(as_bytes(block), crc);
    done += block.size();
    if (on_progress_) on_progress_(record.begin + done, file_.size());
  }
  return crc;
}

// Compares the payload with the descriptor behind it; where the record ends.
std::uint64_t Scanner::check_descriptor(FoundRecord& record) const {
  const std::uint64_t end = record.begin + record.size;
  if (record.size == 0) return end;
  const std::string text = read_text(file_, end, kDescriptorHead + 16);
  const Bytes bytes = as_bytes(text);
  const auto repeats = [&](std::size_t width) {
    if (bytes.size() < kDescriptorHead + 2 * width) return false;
    const std::uint64_t stored = width == 4 ? zip::field<std::uint32_t>(bytes, 8) : zip::field<std::uint64_t>(bytes, 8);
    const std::uint64_t size = width == 4 ? zip::field<std::uint32_t>(bytes, 12) : zip::field<std::uint64_t>(bytes, 16);
    return stored == record.size && size == record.size;
  };
  const bool is_descriptor =
      bytes.size() >= kDescriptorHead && zip::field<std::uint32_t>(bytes, 0) == zip::kDescriptorSignature;
  const std::size_t width = repeats(4) ? 4 : repeats(8) ? 8 : 0;
  if (!is_descriptor || width == 0) {
    record.state = State::damaged;
    record.problem = end >= file_.size() ? "the file ends before its checksum" : "no checksum where it should be";
    return end;
  }
  const auto expected = zip::field<std::uint32_t>(bytes, 4);
  if (expected == 0) {
    record.state = State::unprotected;
  } else if (const std::uint32_t found = crc_of(record); found != expected) {
    record.state = State::damaged;
    record.problem = fmt::format("CRC-32 is {:08x}, expected {:08x}", found, expected);
  }
  return end + kDescriptorHead + 2 * width;
}

// Notes the record; where to look for the next header.
std::uint64_t Scanner::take(const Header& header, std::optional<std::uint64_t> size) {
  FoundRecord record;
  record.begin = header.payload;
  if (header.method != zip::kMethodStored || !size) {
    record.state = State::damaged;
    record.problem = header.method != zip::kMethodStored ? "compressed" : "its end was not found";
    records_.emplace(header.name, record);
    return header.payload;
  }
  record.size = *size;
  std::uint64_t next = header.payload;
  if (record.begin > file_.size() || record.size > file_.size() - record.begin) {
    record.state = State::damaged;
    record.problem = fmt::format("the file ends {} bytes before it does",
                                 record.size - (file_.size() - std::min(record.begin, file_.size())));
    next = file_.size();
  } else {
    next = check_descriptor(record);
  }
  // A second record of one name would be a file inside a payload: the first is the one.
  records_.emplace(header.name, record);
  return next;
}

const FoundRecord& Scanner::find_pickle(std::uint64_t limit) {
  for (std::optional<std::uint64_t> at = next_header(0); at; at = next_header(position_)) {
    const auto header = header_at(*at);
    if (!header) {
      position_ = *at + 1;
      continue;
    }
    const bool is_pickle = header->name == "data.pkl";
    std::optional<std::uint64_t> size;
    if (is_pickle)
      size = pickle::find_end(file_, header->payload, file_.size(), limit) - header->payload;
    else
      size = search_size(header->payload);
    position_ = take(*header, size);
    if (!is_pickle) continue;
    const FoundRecord& record = records_.at("data.pkl");
    if (record.state != State::damaged) return record;
    throw Error(Code::corrupt,
                "data.pkl is damaged: nothing says which bytes are which tensor (" + record.problem + ")",
                {.file = file_.name(), .record = "data.pkl", .offset = {}, .key = {}});
  }
  throw Error(Code::corrupt, "no record data.pkl: nothing says which bytes are which tensor",
              {.file = file_.name(), .record = {}, .offset = {}, .key = {}});
}

void Scanner::find_rest(const std::map<std::string, std::uint64_t>& sizes) {
  for (std::optional<std::uint64_t> at = next_header(position_); at; at = next_header(position_)) {
    const auto header = header_at(*at);
    if (!header) {
      position_ = *at + 1;
      continue;
    }
    const auto known = sizes.find(header->name);
    position_ = take(*header, known != sizes.end() ? std::optional(known->second) : search_size(header->payload));
  }
}

}  // namespace torchkeep::salvage_detail
