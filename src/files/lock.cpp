// SPDX-License-Identifier: BSD-3-Clause
// The lock's note (who, where, since when) and the error that shows it to the one who comes second.
#include <array>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <optional>
#include <unistd.h>

#include <torchkeep/files/lock.h>

namespace torchkeep {
namespace {

/// "process 4711 on trainbox since 2026-11-23T18:30:00Z\n"
std::string note_of_this_process() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return fmt::format("process {} on {} since {:%Y-%m-%dT%H:%M:%SZ}\n", ::getpid(), host.data(),
                     fmt::gmtime(std::time(nullptr)));
}

/// The holder in words. A note that names another process than the system does is an older holder's.
std::string describe(const LockAttempt& attempt) {
  const std::string_view first_line = std::string_view(attempt.holder_note).substr(0, attempt.holder_note.find('\n'));
  const std::string by_system = fmt::format("process {}", attempt.holder_pid);
  if (attempt.holder_pid != 0 && !first_line.starts_with(by_system + " ")) return by_system;
  return first_line.empty() ? "another process" : std::string(first_line);
}

/// The lock, or nothing where there are none and none is required.
std::optional<LockAttempt> attempt_lock(Fs& fs, const std::string& path, const LockRules& rules) {
  try {
    return fs.try_lock(path, note_of_this_process());
  } catch (const Error& error) {
    if (error.code() != Code::unsupported) throw;
    if (rules.locking == Locking::if_available) return std::nullopt;
    throw Error(
        Code::unsupported,
        fmt::format("{}, so two processes could write here at once, each removing and replacing the other's "
                    "files; use a folder on another file system{}{}",
                    error.message(), rules.if_unsupported.empty() ? "" : ", or see to it that only one writes and ",
                    rules.if_unsupported),
        error.where())
        .with_errno(error.system_error());
  }
}

}  // namespace

Lock::Lock(Fs& fs, const std::string& path, const LockRules& rules) {
  std::optional<LockAttempt> found = attempt_lock(fs, path, rules);
  if (!found) return;
  LockAttempt& attempt = *found;
  if (attempt.lock == nullptr) {
    Where where;
    where.file = path;
    throw Error(Code::busy,
                fmt::format("locked by {}{}{}", describe(attempt), rules.if_busy.empty() ? "" : "; ", rules.if_busy),
                std::move(where));
  }
  lock_ = std::move(attempt.lock);
}

}  // namespace torchkeep
