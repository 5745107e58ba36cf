// SPDX-License-Identifier: BSD-3-Clause
// The catalogue of broken files: one for each thing that can be wrong with a file, what is expected of it, and honest
// files among them that prove the rest is broken by what its name says and not by an oversight.
//
// The same list feeds the tests, the seeds of the fuzzers and docs/threats.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <torchkeep/format/pt.h>

namespace torchkeep::testing {

/// One file.
struct BrokenFile {
  std::string name;  ///< "zip.two_records_of_one_name": the format, then the rule that is broken
  std::string bytes;
  std::optional<Code> code;  ///< of the error; nothing: the file is honest, and is read
  std::string message = {};  ///< part of the error's text
  PtReadOptions options = {};
};

/// All of them, with different names.
const std::vector<BrokenFile>& broken_files();

/// Reads a file of any format as load() does: every storage into memory.
Value read_whole(std::string bytes, const PtReadOptions& options = {});

// The parts of the catalogue (broken_*.cpp).
std::vector<BrokenFile> broken_zips();
std::vector<BrokenFile> broken_pickles();
std::vector<BrokenFile> broken_tensors();
std::vector<BrokenFile> broken_compounds();
std::vector<BrokenFile> attacks();
std::vector<BrokenFile> broken_data();
std::vector<BrokenFile> broken_streams();
std::vector<BrokenFile> broken_tars();
std::vector<BrokenFile> broken_safetensors();
std::vector<BrokenFile> other_files();

}  // namespace torchkeep::testing
