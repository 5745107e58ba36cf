// SPDX-License-Identifier: BSD-3-Clause
// Writing to a path or to standard output.
#include "target.h"

#include <array>
#include <csignal>
#include <fmt/format.h>
#include <unistd.h>

#include <torchkeep/checkpoint/export.h>
#include <torchkeep/checkpoint/sharded.h>
#include <torchkeep/files/fs.h>
#include <torchkeep/files/publish.h>

#include "output.h"

namespace torchkeep::cli {
namespace {

volatile std::sig_atomic_t stop_signal = 0;

/// While one lives, a signal that would end the program is noted, so that a temporary file can be removed first. The
/// second one of a kind ends it at once.
class StopSignals {
 public:
  StopSignals() {
    struct sigaction noting = {};
    noting.sa_handler = [](int signal) { stop_signal = signal; };
    noting.sa_flags = SA_RESETHAND | SA_RESTART;
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], nullptr, &before_[i]);
      if (before_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &noting, nullptr);
    }
  }
  ~StopSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  static void check() {
    if (stop_signal != 0) throw Interrupted{stop_signal};
  }

 private:
  static constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, 3> before_ = {};
};

}  // namespace

Target::Target(std::string path, bool force) : path_(std::move(path)) {
  const Where where = {.file = path_, .record = {}, .offset = {}, .key = {}};
  if (is_stream()) {
    if (isatty(1) == 1) throw Error(Code::invalid_argument, "the output is a file; it is not written to a terminal");
  } else if (!force && posix_fs().status(path_)) {
    throw Error(Code::invalid_argument, "the file exists; --force replaces it", where);
  }
}

void Target::write(Plan plan, bool shows_progress) const {
  if (!is_stream()) {
    const StopSignals signals;
    ProgressLine progress(fmt::format("writing {}", printable(path_)), shows_progress);
    const auto on_progress = [&](std::uint64_t done, std::uint64_t total) {
      StopSignals::check();
      progress.update(done, total);
    };
    return save_plan(std::move(plan), path_, {}, on_progress, StopSignals::check);
  }
  Output out;
  stream_plan(std::move(plan), [&out](Bytes bytes) { out.write(as_text(bytes)); });
  out.flush();
}

std::uint64_t Target::write_folder(const Value& value, bool shows_progress) const {
  const StopSignals signals;
  ProgressLine progress(fmt::format("writing {}", printable(path_)), shows_progress);
  std::uint64_t nbytes = 0;
  save_folder(value, path_, new_save_id(), {}, [&](std::uint64_t done, std::uint64_t total) {
    StopSignals::check();
    progress.update(done, nbytes = total);
  });
  return nbytes;
}

void Target::write(const std::string& text) const {
  if (!is_stream()) return publish(posix_fs(), path_, as_bytes(text));
  Output out;
  out.write(text);
  out.flush();
}

}  // namespace torchkeep::cli
