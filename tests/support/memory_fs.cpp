// SPDX-License-Identifier: BSD-3-Clause
#include "support/memory_fs.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <set>
#include <sstream>
#include <unistd.h>
#include <utility>

namespace torchkeep::testing {
namespace {

[[noreturn]] void fail(int error, const char* action, const std::string& path) {
  Where where;
  where.file = path;
  throw Error::from_errno(error, action, std::move(where));
}

[[noreturn]] void fail_folder(const std::string& path) {
  Where where;
  where.file = path;
  throw Error(Code::invalid_argument, "expected a file, found a folder; name a file in it", std::move(where))
      .with_errno(EISDIR);
}

std::deque<std::string> split(const std::string& path) {
  std::deque<std::string> parts;
  std::stringstream stream(path);
  for (std::string part; std::getline(stream, part, '/');) {
    if (!part.empty() && part != ".") parts.push_back(part);
  }
  return parts;
}

/// What keeps `source` from replacing `target`; 0 when nothing does.
int rename_obstacle(const Node& source, const Node& target) {
  const bool folder = source.kind == Node::Kind::folder;
  if (target.kind != Node::Kind::folder) return folder ? ENOTDIR : 0;
  if (!folder) return EISDIR;
  return target.entries.empty() ? 0 : ENOTEMPTY;
}

Node made(Node::Kind kind, unsigned mode) {
  Node node;
  node.kind = kind;
  node.mode = mode;
  return node;
}

}  // namespace

void apply(const DiskEvent& event, Disk& disk) {
  Node& node = disk.nodes[event.node];
  switch (event.kind) {
    case DiskEvent::Kind::link:
      disk.nodes.try_emplace(event.target, event.created);
      node.entries[event.name] = event.target;
      break;
    case DiskEvent::Kind::unlink:
      node.entries.erase(event.name);
      break;
    case DiskEvent::Kind::rename:
      node.entries.erase(event.name);
      node.entries[event.to] = event.target;
      break;
    case DiskEvent::Kind::write:
      node.data.resize(std::max<std::size_t>(node.data.size(), event.offset + event.bytes.size()));
      std::copy(event.bytes.begin(), event.bytes.end(), node.data.begin() + static_cast<std::ptrdiff_t>(event.offset));
      break;
    case DiskEvent::Kind::sync:
    case DiskEvent::Kind::sync_directory:
      break;
  }
}

void drop_unreachable(Disk& disk, const std::vector<NodeId>& keep) {
  std::set<NodeId> reached;
  std::vector<NodeId> waiting(keep);
  waiting.push_back(Disk::kRoot);
  while (!waiting.empty()) {
    const NodeId id = waiting.back();
    waiting.pop_back();
    const auto node = disk.nodes.find(id);
    if (node == disk.nodes.end() || !reached.insert(id).second) continue;
    for (const auto& [name, entry] : node->second.entries) waiting.push_back(entry);
  }
  std::erase_if(disk.nodes, [&](const auto& node) { return !reached.contains(node.first); });
}

class MemoryFs::OpenFile final : public File {
 public:
  OpenFile(MemoryFs& fs, NodeId node, std::string path) : fs_(fs), node_(node), path_(std::move(path)) {}

  void write_at(std::uint64_t offset, Bytes bytes) override {
    check_open("write to the file");
    fs_.write(node_, path_, offset, bytes);
  }
  bool reserve(std::uint64_t size) override {
    check_open("reserve space");
    return fs_.reserve(node_, path_, size);
  }
  void sync() override {
    check_open("sync the file to disk");
    DiskEvent event;
    event.kind = DiskEvent::Kind::sync;
    event.node = node_;
    fs_.change(std::move(event));
  }
  void close() override { open_ = false; }
  const std::string& path() const noexcept override { return path_; }

 private:
  void check_open(const char* action) const {
    if (!open_) fail(EBADF, action, path_);
  }
  MemoryFs& fs_;
  NodeId node_;
  std::string path_;
  bool open_ = true;
};

class MemoryFs::HeldLock final : public FileLock {
 public:
  HeldLock(MemoryFs& fs, NodeId node, std::string path) : fs_(fs), node_(node), path_(std::move(path)) {}
  ~HeldLock() override {
    const std::lock_guard guard(fs_.mutex_);
    fs_.locks_.erase(node_);
  }
  void confirm() override {
    const std::lock_guard guard(fs_.mutex_);
    if (fs_.find(path_, true, "find the lock file").node == node_) return;
    Where where;
    where.file = path_;
    throw Error(Code::busy, "the lock file was deleted or replaced while it was locked", std::move(where));
  }

 private:
  MemoryFs& fs_;
  NodeId node_;
  std::string path_;
};

MemoryFs::MemoryFs(Disk disk, MemoryFsSettings settings) : disk_(std::move(disk)), settings_(settings) {}

Disk MemoryFs::disk() const {
  const std::lock_guard guard(mutex_);
  Disk copy = disk_;
  drop_unreachable(copy);
  return copy;
}

void MemoryFs::observe(std::function<void(const DiskEvent&)> observer) {
  const std::lock_guard guard(mutex_);
  observer_ = std::move(observer);
}

void MemoryFs::act_as(int client) {
  const std::lock_guard guard(mutex_);
  client_ = client;
}

MemoryFs::Place MemoryFs::find(const std::string& path, bool follow_last, const char* action) const {
  if (path.empty()) fail(ENOENT, action, path);
  std::deque<std::string> parts = split(path);
  std::vector<NodeId> folders{Disk::kRoot};
  Place place{Disk::kRoot, ".", Disk::kRoot};
  for (int links = 0; !parts.empty();) {
    const std::string part = std::move(parts.front());
    parts.pop_front();
    if (place.node == 0) fail(ENOENT, action, path);
    if (disk_.nodes.at(place.node).kind != Node::Kind::folder) fail(ENOTDIR, action, path);
    if (part.size() > settings_.longest_name) fail(ENAMETOOLONG, action, path);
    if (part == "..") {
      if (folders.size() > 1) folders.pop_back();
      place = {folders.back(), ".", folders.back()};
      continue;
    }
    const auto& entries = disk_.nodes.at(place.node).entries;
    const auto entry = entries.find(part);
    place = {folders.back(), part, entry == entries.end() ? 0 : entry->second};
    if (place.node == 0) continue;
    const Node& node = disk_.nodes.at(place.node);
    if (node.kind == Node::Kind::folder) folders.push_back(place.node);
    if (node.kind != Node::Kind::link || (parts.empty() && !follow_last)) continue;
    if (++links > 40) fail(ELOOP, action, path);
    const std::deque<std::string> target = split(node.data);
    parts.insert(parts.begin(), target.begin(), target.end());
    if (node.data.starts_with('/')) folders.resize(1);
    place = {folders.back(), ".", folders.back()};
  }
  const bool wants_folder = path.ends_with('/');
  if (wants_folder && place.node != 0 && disk_.nodes.at(place.node).kind != Node::Kind::folder) {
    fail(ENOTDIR, action, path);
  }
  return place;
}

NodeId MemoryFs::find_folder(const std::string& path, const char* action) const {
  const Place place = find(path, true, action);
  if (place.node == 0) fail(ENOENT, action, path);
  if (disk_.nodes.at(place.node).kind != Node::Kind::folder) fail(ENOTDIR, action, path);
  return place.node;
}

void MemoryFs::change(DiskEvent event) {
  const std::lock_guard guard(mutex_);
  event.client = client_;
  apply(event, disk_);
  if (observer_) observer_(event);
}

std::uint64_t MemoryFs::used(NodeId except) const {
  Disk visible = disk_;
  drop_unreachable(visible);
  std::uint64_t total = 0;
  for (const auto& [id, node] : visible.nodes) {
    if (id != except && node.kind == Node::Kind::file)
      total += std::max<std::uint64_t>(node.data.size(), node.reserved);
  }
  return total;
}

void MemoryFs::write(NodeId file, const std::string& path, std::uint64_t offset, Bytes bytes) {
  if (bytes.empty()) return;  // not even a new length, as pwrite
  const std::lock_guard guard(mutex_);
  if (settings_.capacity && used(file) + offset + bytes.size() > *settings_.capacity) {
    fail(ENOSPC, "write to the file", path);
  }
  DiskEvent event;
  event.kind = DiskEvent::Kind::write;
  event.node = file;
  event.offset = offset;
  event.bytes = as_text(bytes);
  change(std::move(event));
}

bool MemoryFs::reserve(NodeId file, const std::string& path, std::uint64_t size) {
  const std::lock_guard guard(mutex_);
  if (!settings_.reserves) return false;
  if (settings_.capacity && used(file) + size > *settings_.capacity) fail(ENOSPC, "reserve space", path);
  disk_.nodes.at(file).reserved = size;
  return true;
}

std::unique_ptr<File> MemoryFs::add_file(const Place& place, unsigned mode, const std::string& path) {
  DiskEvent event;
  event.kind = DiskEvent::Kind::link;
  event.node = place.folder;
  event.name = place.name;
  event.target = disk_.next++;
  event.created = made(Node::Kind::file, mode);
  const NodeId node = event.target;
  change(std::move(event));
  return std::make_unique<OpenFile>(*this, node, path);
}

std::unique_ptr<File> MemoryFs::create(const std::string& path, const CreateOptions& options) {
  const std::lock_guard guard(mutex_);
  const Place place = find(path, false, "create the file");
  if (place.node != 0) fail(EEXIST, "create the file", path);
  return add_file(place, options.exact_mode ? options.mode : options.mode & ~settings_.umask, path);
}

std::unique_ptr<File> MemoryFs::open_write(const std::string& path) {
  const std::lock_guard guard(mutex_);
  const Place place = find(path, true, "open the file for writing");
  if (place.node == 0) return add_file(place, 0666 & ~settings_.umask, path);
  if (disk_.nodes.at(place.node).kind == Node::Kind::folder) fail_folder(path);
  return std::make_unique<OpenFile>(*this, place.node, path);
}

std::unique_ptr<ReadAt> MemoryFs::open_read(const std::string& path) {
  const std::lock_guard guard(mutex_);
  const Place place = find(path, true, "open the file for reading");
  if (place.node == 0) fail(ENOENT, "open the file for reading", path);
  const Node& node = disk_.nodes.at(place.node);
  if (node.kind == Node::Kind::folder) fail_folder(path);
  return std::make_unique<MemoryReadAt>(node.data, path);
}

void MemoryFs::rename(const std::string& from, const std::string& to) {
  const std::lock_guard guard(mutex_);
  const Place source = find(from, false, "rename the file");
  const Place target = find(to, false, "rename a file to this name");
  if (source.node == 0) fail(ENOENT, "rename the file", from);
  if (source.node == target.node) return;
  const int obstacle = target.node == 0 ? 0 : rename_obstacle(disk_.nodes.at(source.node), disk_.nodes.at(target.node));
  if (obstacle != 0) fail(obstacle, "rename to this name", to);
  DiskEvent event;
  event.kind = source.folder == target.folder ? DiskEvent::Kind::rename : DiskEvent::Kind::link;
  event.node = target.folder;
  event.target = source.node;
  event.created = made(disk_.nodes.at(source.node).kind, disk_.nodes.at(source.node).mode);
  event.name = event.kind == DiskEvent::Kind::rename ? source.name : target.name;
  event.to = target.name;
  const bool moved_between_folders = event.kind == DiskEvent::Kind::link;
  change(std::move(event));
  if (!moved_between_folders) return;
  DiskEvent unlink;
  unlink.kind = DiskEvent::Kind::unlink;
  unlink.node = source.folder;
  unlink.name = source.name;
  change(std::move(unlink));
}

void MemoryFs::remove(const std::string& path) {
  const std::lock_guard guard(mutex_);
  const Place place = find(path, false, "remove the file");
  if (place.node == 0) fail(ENOENT, "remove the file", path);
  if (disk_.nodes.at(place.node).kind == Node::Kind::folder) fail(EISDIR, "remove the file", path);
  DiskEvent event;
  event.kind = DiskEvent::Kind::unlink;
  event.node = place.folder;
  event.name = place.name;
  change(std::move(event));
}

void MemoryFs::remove_directory(const std::string& path) {
  const std::lock_guard guard(mutex_);
  const Place place = find(path, false, "remove the folder");
  if (place.node == 0) fail(ENOENT, "remove the folder", path);
  const Node& node = disk_.nodes.at(place.node);
  if (node.kind != Node::Kind::folder) fail(ENOTDIR, "remove the folder", path);
  if (!node.entries.empty()) fail(ENOTEMPTY, "remove the folder", path);
  DiskEvent event;
  event.kind = DiskEvent::Kind::unlink;
  event.node = place.folder;
  event.name = place.name;
  change(std::move(event));
}

void MemoryFs::sync_directory(const std::string& path) {
  const std::lock_guard guard(mutex_);
  DiskEvent event;
  event.kind = DiskEvent::Kind::sync_directory;
  event.node = find_folder(path, "sync the folder to disk");
  change(std::move(event));
}

bool MemoryFs::make_directory(const std::string& path) {
  const std::lock_guard guard(mutex_);
  const Place place = find(path, true, "create the folder");
  if (place.node != 0) {
    if (disk_.nodes.at(place.node).kind != Node::Kind::folder) fail(EEXIST, "create the folder", path);
    return false;
  }
  DiskEvent event;
  event.kind = DiskEvent::Kind::link;
  event.node = place.folder;
  event.name = place.name;
  event.target = disk_.next++;
  event.created = made(Node::Kind::folder, 0777 & ~settings_.umask);
  change(std::move(event));
  return true;
}

std::vector<std::string> MemoryFs::list(const std::string& path) {
  const std::lock_guard guard(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, node] : disk_.nodes.at(find_folder(path, "list the folder")).entries) names.push_back(name);
  return names;
}

std::optional<FileStatus> MemoryFs::status(const std::string& path) {
  const std::lock_guard guard(mutex_);
  try {
    const Place place = find(path, true, "read the file's status");
    if (place.node == 0) return std::nullopt;
    const Node& node = disk_.nodes.at(place.node);
    return FileStatus{node.kind == Node::Kind::folder ? FileKind::directory : FileKind::regular, node.data.size(),
                      node.mode};
  } catch (const Error& error) {
    if (error.system_error() != ENOENT && error.system_error() != ENOTDIR) throw;
    return std::nullopt;
  }
}

std::optional<std::string> MemoryFs::read_link(const std::string& path) {
  const std::lock_guard guard(mutex_);
  try {
    const Place place = find(path, false, "read the link");
    if (place.node == 0 || disk_.nodes.at(place.node).kind != Node::Kind::link) return std::nullopt;
    return disk_.nodes.at(place.node).data;
  } catch (const Error& error) {
    if (error.system_error() != ENOENT && error.system_error() != ENOTDIR) throw;
    return std::nullopt;
  }
}

void MemoryFs::add_link(const std::string& path, const std::string& target) {
  const std::lock_guard guard(mutex_);
  const Place place = find(path, false, "create the link");
  if (place.node != 0) fail(EEXIST, "create the link", path);
  DiskEvent event;
  event.kind = DiskEvent::Kind::link;
  event.node = place.folder;
  event.name = place.name;
  event.target = disk_.next++;
  event.created = made(Node::Kind::link, 0777);
  event.created.data = target;
  change(std::move(event));
}

std::optional<std::uint64_t> MemoryFs::free_space(const std::string& path) {
  const std::lock_guard guard(mutex_);
  if (find(path, true, "read the free space").node == 0) fail(ENOENT, "read the free space", path);
  if (!settings_.capacity) return std::nullopt;
  return *settings_.capacity - std::min(*settings_.capacity, used(0));
}

LockAttempt MemoryFs::try_lock(const std::string& path, const std::string& note) {
  const std::lock_guard guard(mutex_);
  const auto file = open_write(path);
  const NodeId node = find(path, true, "lock the file").node;
  if (const auto held = locks_.find(node); held != locks_.end()) return {nullptr, ::getpid(), held->second};
  file->write_at(0, as_bytes(note));
  locks_[node] = note;
  return {std::make_unique<HeldLock>(*this, node, path), 0, {}};
}

}  // namespace torchkeep::testing
