// SPDX-License-Identifier: BSD-3-Clause
// The one exception type of torchkeep: what went wrong, and where.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace torchkeep {

/// What kind of failure an Error reports; programs decide by this, people read the text.
enum class Code {
  not_found,         ///< the file, key or checkpoint does not exist
  corrupt,           ///< the bytes contradict themselves (checksum, structure, truncation)
  unsupported,       ///< valid, but something torchkeep does not handle
  refused,           ///< not allowed for safety: a pickle global off the allow-list, a limit exceeded
  mismatch,          ///< names, shapes, dtypes or kinds differ from what the program has
  io,                ///< the operating system failed (full disk, permission, device error)
  busy,              ///< another process holds the run directory
  invalid_argument,  ///< the caller's argument makes no sense
};

/// The name of a code, as written in this header ("not_found").
std::string_view to_string(Code code) noexcept;

/// The place an Error speaks of. Every part is optional; empty means "not applicable".
struct Where {
  std::string file;                     ///< path of the file
  std::string record;                   ///< entry inside it ("data.pkl", "data/3")
  std::optional<std::uint64_t> offset;  ///< byte offset inside the record (or the file, where record is empty)
  std::string key;                      ///< key path inside the value ("optimizer.state.0.exp_avg")

  bool operator==(const Where&) const = default;
};

/// Thrown by everything in torchkeep; only std::bad_alloc, when the memory is used up, may come in its place.
/// Names in it may be any bytes: where() has them as they are, message() and what() show them printable.
/// what() is one line: "runs/a/step-00000400.pt: data.pkl at byte 499: refused global 'os.system'".
class Error : public std::runtime_error {
 public:
  /// `message` says what was expected, what was found and what to do, without the place.
  Error(Code code, std::string message, Where where = {});

  Code code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const Where& where() const noexcept { return where_; }
  /// errno of the failed system call, 0 when none was involved.
  int system_error() const noexcept { return errno_; }
  /// The exception that led to this one, as its thrower made it; null when there was none.
  const std::exception_ptr& cause() const noexcept { return cause_; }

  /// The same error with the parts of `where` filled in that this one leaves empty.
  Error at(const Where& where) const;
  /// The same error, remembering errno.
  Error with_errno(int error_number) const;
  /// The same error, led to by `cause`.
  Error caused_by(std::exception_ptr cause) const;

  /// An I/O error from errno: "cannot <action>: No space left on device". ENOENT becomes Code::not_found.
  static Error from_errno(int error_number, std::string_view action, Where where = {});

 private:
  Code code_;
  std::string message_;
  Where where_;
  int errno_ = 0;
  std::exception_ptr cause_;
};

}  // namespace torchkeep
