// SPDX-License-Identifier: BSD-3-Clause
// Which store a path or URI belongs to: the one place where "memory:runs/a" and "/data/runs/a" part.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <torchkeep/files/fs.h>

namespace torchkeep {

/// The store of a path or URI: the one registered for its scheme ("memory" of "memory:runs/a"), else the machine's file
/// system. A store is given its URIs whole, scheme included.
Fs& store_of(std::string_view path) noexcept;

/// Makes `store` the store of every URI that begins with "SCHEME:", in C++, Python and the command, until the program
/// ends. Throws Error (invalid_argument) for a scheme that is taken, has fewer than two letters, or holds anything but
/// lower-case letters, digits, '+', '-' and '.'.
void register_store(const std::string& scheme, std::unique_ptr<Fs> store);

/// All stores as one: every call goes to store_of() its path. What the functions that take paths use unless they are
/// given another.
Fs& any_store() noexcept;

/// A store of whole objects: it puts, gets, lists and removes them, and has neither folders nor any Capability. What is
/// left to an implementation is begin_publish(), open_read(), remove(), list() and status(), which says of a path that
/// others lie below that it is a folder.
class ObjectStore : public Fs {
 public:
  bool can(Capability, const std::string&) const noexcept override { return false; }
  std::unique_ptr<PendingFile> begin_publish(const std::string& path, const PublishOptions& options) override = 0;

  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override;
  std::unique_ptr<File> open_write(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  LockAttempt try_lock(const std::string& path, const std::string& note) override;
  void sync_directory(const std::string&) override {}
  bool make_directory(const std::string&) override { return false; }
  void remove_directory(const std::string&) override {}
  std::optional<std::string> read_link(const std::string&) override { return std::nullopt; }
  std::optional<std::uint64_t> free_space(const std::string&) override { return std::nullopt; }

 private:
  [[noreturn]] static void lack(const char* what, const std::string& path);
};

}  // namespace torchkeep
