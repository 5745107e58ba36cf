// SPDX-License-Identifier: BSD-3-Clause
// Opening what a command names: a file, standard input, or a checkpoint of a run directory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/format/dcp.h>
#include <torchkeep/format/open_file.h>

namespace torchkeep::cli {

/// A checkpoint whose tensors are still in their file.
struct OpenedCheckpoint {
  std::string path;             ///< as errors name it
  std::string format;           ///< "torch.save zip", "safetensors": for people
  FileFormat kind{};            ///< the same for programs
  std::uint64_t file_size = 0;  ///< bytes
  Value value;
  std::vector<std::pair<std::string, std::string>> metadata;  ///< of a safetensors file
  std::vector<std::string> notes;                             ///< see OpenedFile
};

/// "-" is standard input, read whole. Errors call it "<stdin>".
std::shared_ptr<const ReadAt> open_input(const std::string& path);

/// Opens files that lie beside `path`: the shards that an index speaks of.
std::function<std::shared_ptr<const ReadAt>(const std::string&)> siblings_of(const std::string& path);

/// Opens a checkpoint to look into: objects of unknown classes are kept as they are, with `inspect` even those that
/// only attacks use; no tensor's bytes are read yet. For a run directory, its newest checkpoint; a folder of
/// torch.distributed.checkpoint is one itself.
OpenedCheckpoint open_to_look(const std::string& path, bool inspect = false);

/// The folder at `path` when it is one of torch.distributed.checkpoint, finished or not.
std::optional<Folder> dcp_folder(const std::string& path);

/// True for the path of a folder.
bool is_directory(const std::string& path);

/// True for the path of a folder that is no checkpoint itself.
bool is_run(const std::string& path);

}  // namespace torchkeep::cli
