// SPDX-License-Identifier: BSD-3-Clause
// Publishing a file: readers see the old one or the complete new one, whatever happens in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <torchkeep/files/fs.h>

namespace torchkeep {

struct PublishOptions {
  /// True: when publish() returns, the new file survives a power cut. False: no sync; a kill of the process still
  /// leaves the old or the new file, but after a power cut the file may be the old one, the new one, or damaged.
  bool durable = true;
  /// Bytes that `fill` will write, when known: space is reserved first, so that a full disk is found out at once.
  std::optional<std::uint64_t> size = std::nullopt;
  /// How the bytes are written.
  WritePath write_path = WritePath::page_cache;
  /// What happens where `path` is a symbolic link: false: the file that it leads to is replaced, and the link stays;
  /// true: the link itself is, so that nothing outside the folder changes.
  bool replace_link = false;
};

/// Creates or replaces the file `path` with what `fill` writes.
///
/// A new file gets mode 0666 less the umask; a replaced one keeps its permission bits (not its owner or ACL). When
/// `path` is a symbolic link, the file it points to is replaced and the link stays. The folder must exist.
/// `fill` writes through File::write_at and may keep the file waiting; returning from it is the consent to publish.
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

/// Removes the temporary files that killed processes left in `directory` and returns how many; what has such a name and
/// is no file stays. Only for the holder of the folder's Lock, for none may be publishing there.
std::size_t remove_temporaries(Fs& fs, const std::string& directory);

/// A log to go on with, created when missing. It is a file in its folder and nothing else: a link, folder, pipe or
/// device in its place is an Error (invalid_argument), and a file with other names (hard links) is replaced by a copy.
std::unique_ptr<File> open_log(Fs& fs, const std::string& path);

/// Makes sure that there is something at `path`: an empty file is created where the name is free.
void mark(Fs& fs, const std::string& path);

/// Creates the folder `path` and those above it that are missing, each synced into its parent when `durable`.
/// Throws Error (invalid_argument) when something that is not a folder stands in the way.
void make_directories(Fs& fs, const std::string& path, bool durable = true);

}  // namespace torchkeep
