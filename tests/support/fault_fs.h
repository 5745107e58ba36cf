// SPDX-License-Identifier: BSD-3-Clause
// A file system on which a chosen call fails: the first, the second, each in turn.
#pragma once

#include <cerrno>
#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

#include <torchkeep/files/fs.h>

namespace torchkeep::testing {

/// Which call fails, and how.
struct Fault {
  enum class When {
    before,   ///< nothing is done
    halfway,  ///< a write puts the first half of its bytes into the file; other calls: nothing is done
    after,    ///< all is done, and an error reported nevertheless
  };
  std::size_t call = 0;  ///< counted from 1 over all calls of the Fs, its files, readers and locks; 0: none fails
  int error = EIO;       ///< the system error
  bool and_ever_after = false;
  When when = When::before;
  std::string only = {};  ///< counts only the calls that begin so: "rename /"
};

/// Passes every call on to another Fs, but for the fault. Destructors are not calls. Safe to use from several threads.
///
///   for (std::size_t n = 1;; ++n) {
///     FaultFs fs(inner, {.call = n, .error = ENOSPC, .when = Fault::When::before});
///     ...                          // what is tested; its promise is checked on `inner`
///     if (!fs.happened()) break;   // it made fewer than n calls
///   }
class FaultFs : public Fs {
 public:
  FaultFs(Fs& inner, const Fault& fault) : inner_(inner), fault_(fault) {}

  /// Whether the faulty call was made.
  bool happened() const;
  /// All calls so far: "rename runs/a/.x.tmp-1-0 -> runs/a/x".
  std::vector<std::string> calls() const;

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

 protected:
  /// What a faulty call ends with.
  [[noreturn]] virtual void fail(const std::string& action, const std::string& path) const;

 private:
  class FaultyFile;
  class FaultyReader;
  class FaultyLock;

  /// Counts a call; true when it is to fail.
  bool count(const std::string& call);
  template <class Act>
  auto pass(const std::string& action, const std::string& path, Act act);

  Fs& inner_;
  Fault fault_;
  mutable std::mutex mutex_;
  std::vector<std::string> calls_;
  std::size_t counted_ = 0;
};

}  // namespace torchkeep::testing
