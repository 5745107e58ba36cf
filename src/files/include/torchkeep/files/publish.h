// SPDX-License-Identifier: BSD-3-Clause
// Publishing a file: readers see the old one or the complete new one, whatever happens in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <torchkeep/files/fs.h>

namespace torchkeep {

/// Creates or replaces the file `path` with what `fill` writes.
///
/// A new file gets mode 0666 less the umask; a replaced one keeps its permission bits (not its owner or ACL). When
/// `path` is a symbolic link, the file it points to is replaced and the link stays. The folder must exist.
/// `fill` writes through File::write_at and may keep the file waiting; the file is published when it returns.
///
/// Throws Error, or whatever `fill` throws. Then the old file is untouched and the temporary file is gone, with one
/// exception that the message names: when the folder cannot be synced (step 5), the new file is in place and complete,
/// but a power cut may still bring the old one back.
/// Codes: not_found (no such folder), invalid_argument (`path` names a folder or a device), io (the rest; a lack of
/// space is told in numbers). A process killed inside leaves a hidden temporary file (see is_temporary_name).
void publish(Fs& fs, const std::string& path, const std::function<void(File&)>& fill,
             const PublishOptions& options = {});

/// Publishes `bytes` as the whole file.
void publish(Fs& fs, const std::string& path, Bytes bytes, const PublishOptions& options = {});

/// The path of the file that writing to `path` would change: symbolic links at its end followed, 40 at most; the
/// file itself need not exist.
std::string resolve_links(Fs& fs, const std::string& path);

/// True for the names publish() gives its temporary files: ".NAME.tmp-PID-N", or ".tmp-PID-N" where that is too long.
bool is_temporary_name(std::string_view name) noexcept;
/// NAME of such a name; empty for ".tmp-PID-N". Nothing for other names.
std::optional<std::string_view> temporary_target(std::string_view name) noexcept;

/// Removes the temporary files that killed processes left in `directory` and returns how many; what has such a name and
/// is no file stays. With `targets`: only those of files of these names. Only while no process publishes such files
/// there: for the holder of the folder's Lock.
std::size_t remove_temporaries(Fs& fs, const std::string& directory, std::span<const std::string_view> targets = {});

/// A log to go on with, created when missing. It is a file in its folder and nothing else: a link, folder, pipe or
/// device in its place is an Error (invalid_argument), and a file with other names (hard links) is replaced by a copy.
std::unique_ptr<File> open_log(Fs& fs, const std::string& path);

/// Makes sure that there is something at `path`: an empty file is created where the name is free.
void mark(Fs& fs, const std::string& path);

/// Creates the folder `path` and those above it that are missing, each synced into its parent when `durable`.
/// Throws Error (invalid_argument) when something that is not a folder stands in the way.
void make_directories(Fs& fs, const std::string& path, bool durable = true);

}  // namespace torchkeep
