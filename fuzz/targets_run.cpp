// SPDX-License-Identifier: BSD-3-Clause
// Run directories that somebody else wrote, in memory: listed, looked at, recovered, and drawn.
#include <cstring>

#include <torchkeep/run/checkpoints.h>
#include <torchkeep/run/curves.h>
#include <torchkeep/run/overview.h>

#include "chart.h"
#include "promises.h"
#include "recover.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep::fuzz {
namespace {

constexpr const char* kDirectory = "run";
constexpr std::size_t kMostFiles = 32;

bool is_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() < 200 &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

/// The files of pack(), as far as the bytes say.
void unpack(std::string_view bytes, testing::MemoryFs& fs) {
  fs.make_directory(kDirectory);
  for (std::size_t files = 0; files < kMostFiles; ++files) {
    const std::size_t end = bytes.find('\0');
    if (end == std::string_view::npos || bytes.size() - end - 1 < 4) return;
    const std::string name(bytes.substr(0, end));
    std::uint32_t size = 0;
    std::memcpy(&size, bytes.data() + end + 1, 4);
    bytes.remove_prefix(end + 5);
    const std::string_view data = bytes.substr(0, size);
    bytes.remove_prefix(data.size());
    if (is_name(name) && !fs.status(std::string(kDirectory) + "/" + name))
      testing::create_file(fs, std::string(kDirectory) + "/" + name, std::string(data));
  }
}

template <class Run>
void attempt(Run run) {
  try {
    run();
  } catch (const Error&) {
  }
}

void draw(const RunCurves& curves) {
  const cli::Chart chart = cli::make_chart(curves, {}, kDirectory);
  expect(chart.steps.low < chart.steps.high, "an axis of steps is never empty");
  for (const cli::Panel& panel : chart.panels) {
    for (const double tick : cli::ticks(panel.range, 5)) cli::tick_text(tick);
    for (const Curve* curve : panel.curves) {
      constexpr std::size_t kWidth = 40;
      for (const cli::Column& column : cli::columns_of(*curve, chart.steps, kWidth))
        expect(column.column < kWidth && column.low <= column.high, "a column lies inside its picture");
    }
  }
  cli::draw_svg(chart);
}

}  // namespace

std::string pack(const std::vector<std::pair<std::string, std::string>>& files) {
  std::string bytes;
  for (const auto& [name, data] : files) {
    const auto size = static_cast<std::uint32_t>(data.size());
    bytes += name;
    bytes += '\0';
    bytes.append(reinterpret_cast<const char*>(&size), 4);
    bytes += data;
  }
  return bytes;
}

void run_run_directory(std::string_view bytes) {
  testing::MemoryFs fs;
  unpack(bytes, fs);
  attempt([&] {
    for (const CheckpointInfo& one : list_checkpoints(kDirectory, fs)) {
      attempt([&] { checkpoint_metrics(one.path, fs); });
    }
  });
  for (const char* name : {"last", "best", "1"}) attempt([&] { find_checkpoint(kDirectory, name, {}, fs); });
  attempt([&] { look_at_run(kDirectory, {}, fs); });
  attempt([&] { read_curves(kDirectory, fs); });
  attempt([&] { recover(CheckpointStore(fs, kDirectory), Role::reader); });
  attempt([&] { recover(CheckpointStore(fs, kDirectory), Role::writer); });
}

void run_plot(std::string_view bytes) {
  testing::MemoryFs fs;
  fs.make_directory(kDirectory);
  testing::create_file(fs, std::string(kDirectory) + "/metrics.jsonl", std::string(bytes));
  attempt([&] { draw(read_curves(kDirectory, fs)); });
}

}  // namespace torchkeep::fuzz
