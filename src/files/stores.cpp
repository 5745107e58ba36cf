// SPDX-License-Identifier: BSD-3-Clause
// The registered stores, and the way from a path to one of them.
#include <algorithm>
#include <map>
#include <mutex>
#include <shared_mutex>

#include <torchkeep/base/error.h>
#include <torchkeep/files/stores.h>

namespace torchkeep {
namespace {

/// They live as long as the program: files that they opened may be read until its very end.
struct Registry {
  std::shared_mutex mutex;
  std::map<std::string, std::unique_ptr<Fs>, std::less<>> stores;
};

Registry& registry() {
  static auto* const all = new Registry;
  return *all;
}

bool is_scheme(std::string_view scheme) noexcept {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789+-.";
  return scheme.size() >= 2 && scheme.find_first_not_of(kLetters) == std::string_view::npos;
}

class AnyStore final : public Fs {
 public:
  bool can(Capability what, const std::string& path) const noexcept override { return store_of(path).can(what, path); }

  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override {
    return store_of(path).create(path, options);
  }
  std::unique_ptr<File> open_write(const std::string& path) override { return store_of(path).open_write(path); }
  std::unique_ptr<ReadAt> open_read(const std::string& path) override { return store_of(path).open_read(path); }
  void rename(const std::string& from, const std::string& to) override { store_of(to).rename(from, to); }
  void remove(const std::string& path) override { store_of(path).remove(path); }
  void remove_directory(const std::string& path) override { store_of(path).remove_directory(path); }
  void sync_directory(const std::string& path) override { store_of(path).sync_directory(path); }
  bool make_directory(const std::string& path) override { return store_of(path).make_directory(path); }
  std::unique_ptr<PendingFile> begin_publish(const std::string& path, const PublishOptions& options) override {
    return store_of(path).begin_publish(path, options);
  }
  std::vector<std::string> list(const std::string& path) override { return store_of(path).list(path); }
  std::optional<FileStatus> status(const std::string& path) override { return store_of(path).status(path); }
  std::optional<std::string> read_link(const std::string& path) override { return store_of(path).read_link(path); }
  std::optional<std::uint64_t> free_space(const std::string& path) override { return store_of(path).free_space(path); }
  std::string absolute(const std::string& path) override { return store_of(path).absolute(path); }
  LockAttempt try_lock(const std::string& path, const std::string& note) override {
    return store_of(path).try_lock(path, note);
  }
};

}  // namespace

Fs& store_of(std::string_view path) noexcept {
  const std::size_t colon = path.find(':');
  const bool may_be_uri = colon != std::string_view::npos && is_scheme(path.substr(0, colon));
  if (!may_be_uri) return posix_fs();
  Registry& all = registry();
  const std::shared_lock lock(all.mutex);
  const auto found = all.stores.find(path.substr(0, colon));
  return found == all.stores.end() ? posix_fs() : *found->second;
}

void register_store(const std::string& scheme, std::unique_ptr<Fs> store) {
  if (!is_scheme(scheme))
    throw Error(Code::invalid_argument, "expected the scheme of a URI, such as 'memory', found '" + scheme + "'");
  Registry& all = registry();
  const std::unique_lock lock(all.mutex);
  if (!all.stores.emplace(scheme, std::move(store)).second)
    throw Error(Code::invalid_argument, "another store is registered for '" + scheme + ":'");
}

void ObjectStore::lack(const char* what, const std::string& path) {
  throw Error(Code::unsupported, std::string("this store has no ") + what,
              {.file = path, .record = {}, .offset = {}, .key = {}});
}
std::unique_ptr<File> ObjectStore::create(const std::string& path, const CreateOptions&) {
  lack("files that are written in place", path);
}
std::unique_ptr<File> ObjectStore::open_write(const std::string& path) {
  lack("files that are written in place", path);
}
void ObjectStore::rename(const std::string& from, const std::string&) {
  lack("renaming", from);
}
LockAttempt ObjectStore::try_lock(const std::string& path, const std::string&) {
  lack("locks", path);
}

Fs& any_store() noexcept {
  static AnyStore store;
  return store;
}

}  // namespace torchkeep
