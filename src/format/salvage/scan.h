// SPDX-License-Identifier: BSD-3-Clause
// Finding the records of a torch.save zip without its directory, front to back.
//
//   local header "PK34" | name | padding | payload | descriptor "PK78" crc size size | the next local header ...
//
// torch.save writes sizes and CRCs behind the payload only. What is known in advance: the pickle ends with its STOP,
// and the pickle says how long each storage is. Whatever else there is (version, byteorder) is short and is searched
// for its descriptor.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/base/progress.h>

namespace torchkeep::salvage_detail {

/// A record that was found.
struct FoundRecord {
  enum class State : std::uint8_t { good, unprotected, damaged };
  std::uint64_t begin = 0;  ///< of the payload in the file
  std::uint64_t size = 0;
  State state = State::good;
  std::string problem;
};

/// Local headers and payloads of a file whose directory is missing.
class Scanner {
 public:
  explicit Scanner(const ReadAt& file, Progress on_progress) : file_(file), on_progress_(std::move(on_progress)) {}

  /// Finds records up to and including the one called data.pkl. Throws Error (corrupt) when there is none, or a damaged
  /// one.
  const FoundRecord& find_pickle(std::uint64_t limit);
  /// Finds all other records; `sizes` are those of the records whose length is known ("data/3").
  void find_rest(const std::map<std::string, std::uint64_t>& sizes);

  const std::map<std::string, FoundRecord>& records() const noexcept { return records_; }

 private:
  struct Header {
    std::string name;  ///< without the root folder
    std::uint64_t payload = 0;
    std::uint16_t method = 0;
  };
  std::optional<Header> header_at(std::uint64_t offset);
  std::optional<std::uint64_t> next_header(std::uint64_t from) const;
  std::uint64_t take(const Header& header, std::optional<std::uint64_t> size);
  std::optional<std::uint64_t> search_size(std::uint64_t payload) const;
  std::uint64_t check_descriptor(FoundRecord& record) const;
  std::uint32_t crc_of(const FoundRecord& record) const;

  const ReadAt& file_;
  Progress on_progress_;
  std::uint64_t position_ = 0;
  std::string root_;
  std::map<std::string, FoundRecord> records_;
};

}  // namespace torchkeep::salvage_detail
