// SPDX-License-Identifier: BSD-3-Clause
// A line that a crash cut short is ended before the next one is written.
#include "save_log.h"

#include <torchkeep/files/publish.h>
#include <torchkeep/run/names.h>
#include <torchkeep/run/schema.h>

#include "places.h"

namespace torchkeep {

SaveLog::SaveLog(Fs& fs, const std::string& directory) : fs_(fs), path_(in_directory(directory, names::kSaves)) {}

void SaveLog::append(const SaveMetrics& save) {
  try {
    std::uint64_t size = 0;
    std::string line;
    const auto file = open_log(fs_, path_);
    if (const auto status = fs_.status(path_)) size = status->size;
    if (size > 0) {
      std::byte last{};
      fs_.open_read(path_)->read_at(size - 1, {&last, 1});
      if (last != std::byte{'\n'}) line = "\n";
    }
    line += schema::save_line(save);
    file->write_at(size, as_bytes(line));
    file->close();
  } catch (const Error&) {
    // Only a figure is lost.
  }
}

}  // namespace torchkeep
