// SPDX-License-Identifier: BSD-3-Clause
// Writing to terminals, pipes and files.
#include "output.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <torchkeep/base/error.h>

#include "text.h"

namespace torchkeep::cli {
namespace {

constexpr std::size_t kBuffer = std::size_t{64} << 10;
constexpr double kProgressDelay = 0.5;   // seconds before a progress line appears
constexpr double kProgressPeriod = 0.1;  // and between two drawings of it

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int terminal_width(int descriptor) {
  winsize size{};
  if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

bool environment_allows_colour() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return (no_color == nullptr || *no_color == '\0') && (term == nullptr || std::string_view(term) != "dumb");
}

}  // namespace

Output::Output(int descriptor)
    : descriptor_(descriptor), terminal_(isatty(descriptor) == 1), width_(terminal_width(descriptor)) {
  set_colour(Colour::automatic);
}

Output::~Output() {
  try {
    flush();
  } catch (...) {  // whoever wants to know flushes before
  }
}

void Output::set_colour(Colour colour) {
  coloured_ = colour == Colour::always || (colour == Colour::automatic && terminal_ && environment_allows_colour());
}

void Output::write(std::string_view text) {
  buffer_ += text;
  if (buffer_.size() >= kBuffer) flush();
}

void Output::line(std::string_view text) {
  buffer_ += text;
  write("\n");
}

std::string Output::styled(Style style, std::string_view text) const {
  constexpr std::array<std::string_view, 8> kCodes = {"", "1", "36", "35", "32", "1;31", "33", "2"};
  const std::string_view code = kCodes[static_cast<std::size_t>(style)];
  if (!coloured_ || code.empty() || text.empty()) return std::string(text);
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

void Output::flush() {
  const std::string bytes = std::exchange(buffer_, {});
  write_all(bytes);
}

void Output::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EPIPE) {
      throw OutputClosed();
    } else if (errno != EINTR) {
      throw Error::from_errno(errno, "write the output");
    }
  }
}

ProgressLine::ProgressLine(std::string label, bool enabled)
    : label_(std::move(label)), enabled_(enabled && isatty(2) == 1), started_(now()) {}

ProgressLine::~ProgressLine() {
  if (drawn_) (void)!::write(2, "\r\x1b[K", 4);
}

void ProgressLine::update(std::uint64_t done, std::uint64_t total) {
  if (!enabled_) return;
  const std::lock_guard lock(mutex_);
  const double time = now();
  const double elapsed = time - started_;
  if (elapsed < kProgressDelay || time - last_ < kProgressPeriod) return;
  last_ = time;
  drawn_ = true;
  const double rate = static_cast<double>(done) / elapsed;
  const double share = total == 0 ? 0 : 100.0 * static_cast<double>(done) / static_cast<double>(total);
  const double left = rate > 0 && total > done ? static_cast<double>(total - done) / rate : 0;
  const std::string text =
      fmt::format("\r{} {:3.0f} %  {} of {}  {}/s  {:.0f} s left\x1b[K", label_, share, human_size(done),
                  human_size(total), human_size(static_cast<std::uint64_t>(rate)), left);
  (void)!::write(2, text.data(), text.size());
}

void complain(std::string_view text) {
  const std::string line = fmt::format("torchkeep: {}\n", printable(text));
  (void)!::write(2, line.data(), line.size());
}

std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace torchkeep::cli
