// SPDX-License-Identifier: BSD-3-Clause
// Standard output and error of the program: buffered, coloured only where people look, quiet when nobody reads on.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include <torchkeep/base/printable.h>

namespace torchkeep::cli {

/// Thrown when the reader of our standard output has gone (`torchkeep ls x | head`): there is nothing more to do.
struct OutputClosed {};

/// Parts of the output that are coloured on a terminal.
enum class Style : std::uint8_t { plain, heading, key, number, good, bad, warning, faint };

enum class Colour { automatic, always, never };

/// Standard output. Throws OutputClosed when nobody reads it, Error (io) when it cannot be written.
class Output {
 public:
  explicit Output(int descriptor = 1);
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  /// Colours on a terminal unless NO_COLOR is set or TERM is "dumb"; always or never when told so.
  void set_colour(Colour colour);
  bool coloured() const noexcept { return coloured_; }
  bool is_terminal() const noexcept { return terminal_; }
  /// Columns of the terminal; 100 where there is none.
  int width() const noexcept { return width_; }

  void write(std::string_view text);
  void line(std::string_view text = {});
  /// `text` with the escapes of a style around it, or as it is.
  std::string styled(Style style, std::string_view text) const;
  void flush();

 private:
  void write_all(std::string_view bytes);

  int descriptor_;
  bool terminal_;
  bool coloured_ = false;
  int width_ = 100;
  std::string buffer_;
};

/// Progress of long work on standard error, one line that is drawn over itself; only on a terminal, and only for work
/// that has taken half a second. Safe to call from several threads.
class ProgressLine {
 public:
  ProgressLine(std::string label, bool enabled);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void update(std::uint64_t done, std::uint64_t total);

 private:
  std::string label_;
  bool enabled_;
  bool drawn_ = false;
  double started_;
  double last_ = 0;
  std::mutex mutex_;
};

/// One line to standard error: "torchkeep: " and the text, with everything but printable characters escaped.
void complain(std::string_view text);

/// Columns that a text of printable() takes: one per character (two for the wide ones of East Asia are not counted).
std::size_t columns(std::string_view text);

}  // namespace torchkeep::cli
