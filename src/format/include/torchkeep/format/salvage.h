// SPDX-License-Identifier: BSD-3-Clause
// Saving what can be saved of a checkpoint that is damaged or cut off.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/base/progress.h>
#include <torchkeep/format/open_file.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// A part that did not survive.
struct Lost {
  std::string path;    ///< "model.fc.weight"
  std::string what;    ///< "float32 [3, 4]"
  std::string reason;  ///< one line
};

/// What survived. Its tensors are read from the damaged file, which must stay as it is meanwhile.
struct Salvaged {
  FileFormat format{};
  /// Without what is lost: entries of a dict are gone, elements of a list are None.
  Value value;
  std::vector<std::pair<std::string, std::string>> metadata;  ///< of a safetensors file
  std::vector<Lost> lost;
  std::vector<std::string> notes;  ///< what else is known: records without a checksum
  std::uint64_t tensors = 0;       ///< that survived
};

struct SalvageOptions {
  Limits limits = {};
  /// Called from time to time with bytes done and bytes in all.
  Progress on_progress = {};
};

/// Reads what can be read of a torch.save zip, with or without its directory (which is at the end and goes first when a
/// file is cut off), or of a safetensors file that is too short. A tensor survives when the CRC-32 of its record is
/// right or was never computed; in safetensors, when all its bytes are there.
/// Throws Error: corrupt (nothing can be saved: data.pkl or the header is damaged), unsupported (another format), io.
Salvaged salvage(std::shared_ptr<const ReadAt> file, const SalvageOptions& options = {});

}  // namespace torchkeep
