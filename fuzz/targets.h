// SPDX-License-Identifier: BSD-3-Clause
// What is fuzzed: each target takes any bytes and ends the program when a promise is broken.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace torchkeep::fuzz {

/// One way into the readers.
struct Target {
  const char* name;
  void (*run)(std::string_view bytes);  ///< throws nothing, whatever the bytes are
};

/// "dcp", "pickle", "zip", "stream", "tar", "safetensors", "load", "round_trip".
const std::vector<Target>& targets();
/// The one of this name; ends the program when there is none.
const Target& find_target(std::string_view name);

/// Honest and broken files to begin with, made by program: those of the catalogue that the target can read.
std::vector<std::string> seeds(std::string_view target);

/// The bytes changed with regard to what they are: instructions of a pickle, records of a zip, members of a tar, the
/// header of safetensors; their lengths and checksums are right again afterwards. `change` changes a run of bytes.
std::string mutate(std::string_view target, std::string_view bytes, unsigned seed,
                   std::string (*change)(std::string bytes));

}  // namespace torchkeep::fuzz
