// SPDX-License-Identifier: BSD-3-Clause
// The JSON header of a safetensors file.
//
//   +----------------+------------------------------+---------------------------------------+
//   | N: u64 LE      | header: N bytes of JSON      | bytes of all tensors, to the file's end |
//   +----------------+------------------------------+---------------------------------------+
//   {"__metadata__":{"format":"pt"},
//    "name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}, ...}         offsets count from the end of the header
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torchkeep/format/safetensors.h>

namespace torchkeep::safetensors {

/// Size of the length in front of the header.
inline constexpr std::uint64_t kLengthSize = 8;

/// One tensor of the header, as it stands there.
struct Entry {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  ///< data_offsets
  std::uint64_t end = 0;
  std::uint64_t place = 0;  ///< byte in the file behind the name, for errors
};

struct Header {
  std::vector<Entry> entries;  ///< in the order of the file
  SafetensorsMetadata metadata;
};

/// Parses the JSON text. Checks its form (types of all fields, none missing, no name twice, depth); what the numbers
/// mean is the caller's business. Throws Error (corrupt, refused) naming the byte of the file.
Header parse_header(std::string_view json, const std::string& file, const SafetensorsReadOptions& options);

}  // namespace torchkeep::safetensors
