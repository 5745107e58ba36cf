// SPDX-License-Identifier: BSD-3-Clause
// Opening files and standard input.
#include "input.h"

#include <cerrno>
#include <unistd.h>

#include <torchkeep/checkpoint/folder.h>
#include <torchkeep/files/stores.h>
#include <torchkeep/format/member.h>
#include <torchkeep/run/checkpoints.h>

namespace torchkeep::cli {
namespace {

std::string read_standard_input() {
  constexpr std::size_t kBlock = std::size_t{1} << 20;
  std::string bytes;
  for (;;) {
    const std::size_t size = bytes.size();
    bytes.resize(size + kBlock);
    const ssize_t count = ::read(0, bytes.data() + size, kBlock);
    bytes.resize(size + static_cast<std::size_t>(count > 0 ? count : 0));
    if (count == 0) return bytes;
    if (count < 0 && errno != EINTR) throw Error::from_errno(errno, "read standard input");
  }
}

}  // namespace

std::shared_ptr<const ReadAt> open_input(const std::string& path) {
  if (path == "-") return std::make_shared<MemoryReadAt>(read_standard_input(), "<stdin>");
  return open_member(path, [](const std::string& name) { return any_store().open_read(name); });
}

std::function<std::shared_ptr<const ReadAt>(const std::string&)> siblings_of(const std::string& path) {
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  return [folder](const std::string& name) { return any_store().open_read(folder + name); };
}

std::optional<Folder> dcp_folder(const std::string& path) {
  return path == "-" ? std::nullopt : find_dcp_folder(path);
}

OpenedCheckpoint open_to_look(const std::string& path, bool inspect) {
  PtReadOptions options;
  options.unknown_classes = inspect ? UnknownClasses::inspect : UnknownClasses::opaque;
  OpenedFile opened;
  OpenedCheckpoint checkpoint;
  if (const auto folder = dcp_folder(path)) {
    opened = open_dcp(*folder, options);
    checkpoint.path = folder->name;
    checkpoint.file_size = opened.file_size;
  } else {
    const std::string found = is_directory(path) ? find_checkpoint(path, "last") : path;
    const auto file = open_input(found);
    options.open_sibling = siblings_of(found);
    opened = open_file(file, options);
    checkpoint.path = file->name();
    checkpoint.file_size = file->size();
  }
  checkpoint.format = to_string(opened.format);
  checkpoint.kind = opened.format;
  checkpoint.value = opened.value.from_file(checkpoint.path);
  checkpoint.metadata = std::move(opened.metadata);
  checkpoint.notes = std::move(opened.notes);
  return checkpoint;
}

bool is_directory(const std::string& path) {
  if (path == "-") return false;
  const auto status = any_store().status(path);
  return status && status->kind == FileKind::directory;
}

bool is_run(const std::string& path) {
  return is_directory(path) && !dcp_folder(path);
}

}  // namespace torchkeep::cli
