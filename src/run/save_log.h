// SPDX-License-Identifier: BSD-3-Clause
// saves.jsonl: one line of JSON per save, with what it cost. Apart from metrics.jsonl, which is the same in every byte
// whenever the training is.
#pragma once

#include <memory>
#include <string>

#include <torchkeep/files/fs.h>
#include <torchkeep/run/options.h>

namespace torchkeep {

/// Appends to the log as long as that works; nothing depends on it. What is no error of a file (an interruption that
/// comes out of the file system) passes through.
class SaveLog final {
 public:
  SaveLog(Fs& fs, const std::string& directory);
  void append(const SaveMetrics& save);

 private:
  Fs& fs_;
  std::string path_;
};

}  // namespace torchkeep
