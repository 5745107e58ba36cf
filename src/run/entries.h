// SPDX-License-Identifier: BSD-3-Clause
// What stands under the names of a run: a folder, link or pipe there is not the run's, and left alone.
#pragma once

#include <string>
#include <vector>

#include <torchkeep/files/fs.h>

namespace torchkeep {

/// Whether a file of its own stands under the name, and no link to one.
bool is_file(Fs& fs, const std::string& path);

/// False for a folder, pipe or link that leads nowhere. A link to a file is as good as the file: it is only read, and
/// only the link itself is ever renamed or removed. True when the system does not say: reading it then tells why.
bool may_be_checkpoint(Fs& fs, const std::string& path);

/// What stands under names of a run and is passed over: "step-00000003.pt (a folder)".
std::vector<std::string> odd_entries(Fs& fs, const std::string& directory);

}  // namespace torchkeep
