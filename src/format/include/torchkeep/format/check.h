// SPDX-License-Identifier: BSD-3-Clause
// Checking a file to its last byte and reporting everything that is wrong with it, not only the first thing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/base/progress.h>
#include <torchkeep/format/pt.h>

namespace torchkeep {

/// A record of a file after checking; in formats without records, the bytes that one or more tensors share.
struct CheckedRecord {
  enum class State : std::uint8_t {
    good,         ///< the CRC-32 of its bytes is the stored one
    unprotected,  ///< read, but there is no checksum to compare with
    damaged,      ///< see `problem`
  };
  std::string name;
  std::uint64_t size = 0;  ///< bytes
  State state = State::good;
  std::string problem;               ///< one line; empty unless damaged
  std::vector<std::string> tensors;  ///< of a damaged one: the paths of the tensors that view it
};

/// What a check found.
struct FileCheck {
  std::string format;           ///< "torch.save zip"; empty when that could not be told
  bool has_checksums = false;   ///< the format has a CRC-32 for every record
  std::uint64_t file_size = 0;  ///< bytes
  std::uint64_t bytes = 0;      ///< of records, read and checked
  std::uint64_t tensors = 0;    ///< all of them inside their storages
  std::vector<CheckedRecord> records;
  std::vector<std::string> problems;  ///< of the file as a whole: its structure, its pickle
  std::optional<Error> error;         ///< the first of all that is wrong, as verify() throws it
  std::vector<std::string> notes;     ///< worth knowing, no damage

  std::uint64_t count(CheckedRecord::State state) const noexcept;
  /// No damage anywhere (unprotected records are none).
  bool good() const noexcept { return problems.empty() && count(CheckedRecord::State::damaged) == 0; }
};

struct CheckOptions {
  Limits limits = {};
  UnknownClasses unknown_classes = UnknownClasses::opaque;
  unsigned threads = 0;  ///< 0: one per core
  /// Called from time to time with bytes done and bytes in all; never from two threads at once.
  Progress on_progress = {};
  /// See PtReadOptions::open_sibling.
  std::function<std::shared_ptr<const ReadAt>(const std::string&)> open_sibling = nullptr;
};

/// The strictest reader: checks a file of any format that is read, its structure, every record's bytes against its
/// CRC-32, those that no tensor needs too, both headers of each record, what stands behind a pickle's end, that every
/// tensor lies inside its storage, and that indices lead nowhere else. What load() refuses is never good here. Damage
/// is in the result; Error is thrown where there is none: (io) when the system cannot read, (unsupported, refused) for
/// a file that load() does not read by a rule, damaged or not.
FileCheck check_file(std::shared_ptr<const ReadAt> file, const CheckOptions& options = {});

/// False when bytes of the file have changed since they were written: a checksum differs, or what the parts of its zip
/// say of each other. True for a file that is whole, whether load() reads it or not (a later version wrote it, or a
/// rule refuses it), and for one that is no zip and so has nothing to compare. Throws Error (io).
bool passes_checks(const std::shared_ptr<const ReadAt>& file, const CheckOptions& options = {});

/// ". It holds: model.weight, step and 3 more", of the paths of the tensors over a record; empty when there are none.
std::string holds_text(const std::vector<std::string>& tensors);

}  // namespace torchkeep
