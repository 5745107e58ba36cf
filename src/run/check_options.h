// SPDX-License-Identifier: BSD-3-Clause
// Options that make no sense are refused before anything is done.
#pragma once

#include <string>
#include <string_view>

#include <torchkeep/run/options.h>

namespace torchkeep {

/// An option as the program that reads the message writes it: spelled(options, "role", "Role::reader") is
/// "RunOptions::role = Role::reader", or `role="reader"` in Python.
std::string spelled(const RunOptions& options, std::string_view name, std::string_view value);

/// Throws Error (invalid_argument) for the address of a remote store ("s3://bucket/run"), which would become a folder,
/// and for a path that the system would cut off.
void require_folder(const std::string& directory);

/// The options with what they leave to the run filled in. Throws Error (invalid_argument).
RunOptions checked(RunOptions options);

}  // namespace torchkeep
