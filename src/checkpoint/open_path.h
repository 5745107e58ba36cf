// SPDX-License-Identifier: BSD-3-Clause
// What load and verify share: opening a path of any format, and errors that say which tensors a damaged record holds.
#pragma once

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/format/open_file.h>

namespace torchkeep {

/// The bytes of a path, and of the files beside it.
struct OpenedPath {
  std::shared_ptr<const ReadAt> file;
  std::function<std::shared_ptr<const ReadAt>(const std::string& name)> open_sibling;
};

/// `fs`: null is the machine's.
OpenedPath open_bytes(const std::string& path, Fs* fs);

/// The structure of a path of any format, under the options of load(): open_file(), and what was asked for of that.
OpenedFile open_structure(const std::string& path, const LoadOptions& options);
/// The same of a file that is open.
OpenedFile open_structure(const std::shared_ptr<const ReadAt>& file, const LoadOptions& options);

/// `error`, which came while the records of `file` were read; about a record that tensors view, it names those.
Error with_tensors(const Error& error, const OpenedFile& file);

/// The records of `file` that tensors in `value` look at.
std::vector<std::shared_ptr<RecordStorage>> records_of(const OpenedFile& file, const Value& value);

/// Checks the CRCs of all records of `file` that are not in memory yet, and keeps nothing.
void check_records(const OpenedFile& file, unsigned threads);

}  // namespace torchkeep
