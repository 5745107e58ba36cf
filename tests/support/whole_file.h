// SPDX-License-Identifier: BSD-3-Clause
// Whole files of any Fs as text, and back.
#pragma once

#include <string>
#include <string_view>

#include <torchkeep/files/fs.h>

namespace torchkeep::testing {

/// Everything in the file.
std::string read_file(Fs& fs, const std::string& path);

/// Creates the file with this text, synced, its name in the folder too: where a test begins. Not a way to replace one.
void create_file(Fs& fs, const std::string& path, std::string_view text);

}  // namespace torchkeep::testing
