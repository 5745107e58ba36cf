// SPDX-License-Identifier: BSD-3-Clause
// Builds the one-line text of an Error.
#include <cerrno>
#include <fmt/format.h>
#include <system_error>

#include <torchkeep/base/error.h>
#include <torchkeep/base/printable.h>

namespace torchkeep {
namespace {

std::string describe(const std::string& message, const Where& where) {
  std::string text = printable(where.file);
  const auto add = [&text](std::string_view part) {
    if (!text.empty()) text += ": ";
    text += part;
  };
  if (!where.record.empty()) add(printable(where.record));
  if (where.offset) {
    if (text.empty())
      add(fmt::format("at byte {}", *where.offset));
    else
      text += fmt::format(" at byte {}", *where.offset);
  }
  if (!where.key.empty()) add(fmt::format("key '{}'", printable(where.key)));
  add(message);
  return text;
}

}  // namespace

std::string_view to_string(Code code) noexcept {
  switch (code) {
    case Code::not_found:
      return "not_found";
    case Code::corrupt:
      return "corrupt";
    case Code::unsupported:
      return "unsupported";
    case Code::refused:
      return "refused";
    case Code::mismatch:
      return "mismatch";
    case Code::io:
      return "io";
    case Code::busy:
      return "busy";
    case Code::invalid_argument:
      return "invalid_argument";
  }
  return "unknown";
}

Error::Error(Code code, std::string message, Where where)
    : std::runtime_error(describe(message = printable(message, Lines::keep), where)),
      code_(code),
      message_(std::move(message)),
      where_(std::move(where)) {}

Error Error::at(const Where& where) const {
  Where merged = where_;
  if (merged.file.empty()) merged.file = where.file;
  if (merged.record.empty()) merged.record = where.record;
  if (!merged.offset) merged.offset = where.offset;
  if (merged.key.empty()) merged.key = where.key;
  return Error(code_, message_, std::move(merged)).with_errno(errno_).caused_by(cause_);
}

Error Error::with_errno(int error_number) const {
  Error error = *this;
  error.errno_ = error_number;
  return error;
}

Error Error::caused_by(std::exception_ptr cause) const {
  Error error = *this;
  error.cause_ = std::move(cause);
  return error;
}

Error Error::from_errno(int error_number, std::string_view action, Where where) {
  const Code code = error_number == ENOENT ? Code::not_found : Code::io;
  std::string message = fmt::format("cannot {}: {}", action, std::generic_category().message(error_number));
  return Error(code, std::move(message), std::move(where)).with_errno(error_number);
}

}  // namespace torchkeep
