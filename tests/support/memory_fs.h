// SPDX-License-Identifier: BSD-3-Clause
// A file system in memory: fast, repeatable, copyable, and every change of it can be watched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/files/fs.h>

namespace torchkeep::testing {

using NodeId = std::uint64_t;

/// A file, folder or symbolic link, apart from its names.
struct Node {
  enum class Kind { file, folder, link };
  Kind kind = Kind::file;
  unsigned mode = 0;
  std::string data;                       ///< a file's bytes, a link's target
  std::uint64_t reserved = 0;             ///< bytes set aside by File::reserve
  std::map<std::string, NodeId> entries;  ///< a folder's names
};

/// A whole file system as a value.
struct Disk {
  static constexpr NodeId kRoot = 1;
  std::map<NodeId, Node> nodes{{kRoot, Node{Node::Kind::folder, 0755, {}, 0, {}}}};
  NodeId next = kRoot + 1;
};

/// One change of a disk, or one promise about earlier changes.
struct DiskEvent {
  enum class Kind {
    link,            ///< folder `node` gets the name `name` for `target`
    unlink,          ///< folder `node` loses the name `name`
    rename,          ///< within folder `node`: `name` goes, `to` leads to `target`
    write,           ///< file `node` gets `bytes` at `offset`
    sync,            ///< all writes to file `node` are on stable storage
    sync_directory,  ///< all links, unlinks and renames of folder `node` are on stable storage
  };
  Kind kind = Kind::sync;
  NodeId node = 0;
  std::string name, to;
  NodeId target = 0;
  Node created;  ///< of `link`: what `target` is, without data and entries
  std::uint64_t offset = 0;
  std::string bytes;
  int client = 0;  ///< of a network file system, that did it: see MemoryFs::act_as()
};

/// Makes the change (syncs change nothing).
void apply(const DiskEvent& event, Disk& disk);

/// Removes what no name leads to, except the nodes in `keep`.
void drop_unreachable(Disk& disk, const std::vector<NodeId>& keep = {});

struct MemoryFsSettings {
  unsigned umask = 022;
  std::size_t longest_name = 255;
  std::optional<std::uint64_t> capacity =
      std::nullopt;      ///< bytes in all files; nothing: no limit, and free_space does not say
  bool reserves = true;  ///< false: reserve() has no such promise
};

/// Paths are absolute or relative to the root. Permissions are kept, not enforced. Safe to use from several threads.
class MemoryFs final : public Fs {
 public:
  explicit MemoryFs(Disk disk = {}, MemoryFsSettings settings = {});

  /// A copy of the file system as it is now.
  Disk disk() const;
  /// Calls `observer` for every change and sync from now on, in their order.
  void observe(std::function<void(const DiskEvent&)> observer);
  /// What follows is done by this client of a network file system. A sync of one promises nothing about what others
  /// did.
  void act_as(int client);
  /// Creates the symbolic link `path` to `target`.
  void add_link(const std::string& path, const std::string& target);

  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override;
  std::unique_ptr<File> open_write(const std::string& path) override;
  std::unique_ptr<ReadAt> open_read(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& path) override;
  void remove_directory(const std::string& path) override;
  void sync_directory(const std::string& path) override;
  bool make_directory(const std::string& path) override;
  std::vector<std::string> list(const std::string& path) override;
  std::optional<FileStatus> status(const std::string& path) override;
  std::optional<std::string> read_link(const std::string& path) override;
  std::optional<std::uint64_t> free_space(const std::string& path) override;
  LockAttempt try_lock(const std::string& path, const std::string& note) override;

 private:
  class OpenFile;
  class HeldLock;
  /// Where a path ends: in this folder under this name, at this node (0: nothing there).
  struct Place {
    NodeId folder = Disk::kRoot;
    std::string name;
    NodeId node = 0;
  };

  Place find(const std::string& path, bool follow_last, const char* action) const;
  NodeId find_folder(const std::string& path, const char* action) const;
  std::unique_ptr<File> add_file(const Place& place, unsigned mode, const std::string& path);
  void change(DiskEvent event);
  void write(NodeId file, const std::string& path, std::uint64_t offset, Bytes bytes);
  bool reserve(NodeId file, const std::string& path, std::uint64_t size);
  /// Bytes taken by all files but `except`.
  std::uint64_t used(NodeId except) const;

  mutable std::recursive_mutex mutex_;
  Disk disk_;
  MemoryFsSettings settings_;
  std::function<void(const DiskEvent&)> observer_;
  std::map<NodeId, std::string> locks_;
  int client_ = 0;
};

}  // namespace torchkeep::testing
