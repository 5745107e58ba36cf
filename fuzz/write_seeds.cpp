// SPDX-License-Identifier: BSD-3-Clause
// Writes the seeds of a target as files: write_seeds TARGET FOLDER.
#include <cstdio>
#include <fstream>

#include "targets.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: write_seeds TARGET FOLDER\n");
    return 2;
  }
  std::size_t number = 0;
  for (const std::string& seed : torchkeep::fuzz::seeds(argv[1])) {
    std::ofstream file(std::string(argv[2]) + "/seed-" + std::to_string(number++), std::ios::binary);
    file << seed;
    if (!file.flush()) return 1;
  }
  return 0;
}
