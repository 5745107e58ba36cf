// SPDX-License-Identifier: BSD-3-Clause
// The catalogue of broken files, put together.
#include "support/broken_files.h"

#include <torchkeep/format/open_file.h>

namespace torchkeep::testing {

const std::vector<BrokenFile>& broken_files() {
  static const std::vector<BrokenFile> all = [] {
    std::vector<BrokenFile> files;
    for (auto* part : {&broken_zips, &broken_pickles, &broken_data, &broken_tensors, &broken_compounds, &attacks,
                       &broken_streams, &broken_tars, &broken_safetensors, &other_files}) {
      for (BrokenFile& file : part()) files.push_back(std::move(file));
    }
    return files;
  }();
  return all;
}

Value read_whole(std::string bytes, const PtReadOptions& options) {
  const std::string name = "test.pt";
  const OpenedFile file = open_file(std::make_shared<MemoryReadAt>(std::move(bytes), name), options);
  try {
    return read_all(file);
  } catch (const Error& error) {
    throw error.at({.file = name, .record = {}, .offset = {}, .key = {}});
  }
}

}  // namespace torchkeep::testing
