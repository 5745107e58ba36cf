// SPDX-License-Identifier: BSD-3-Clause
// A user of the core: saves a dict and prints what it reads back.
#include <cstdint>
#include <iostream>

#include <torchkeep/torchkeep.h>

int main(int, char** arguments) {
  torchkeep::save({{"epoch", 3}, {"name", "a run"}}, arguments[1]);
  const torchkeep::Value loaded = torchkeep::load(arguments[1]);
  std::cout << loaded["name"].to<std::string>() << ", epoch " << loaded["epoch"].to<std::int64_t>() << "\n";
  try {
    torchkeep::load("no such file");
  } catch (const torchkeep::Error& error) {
    std::cout << torchkeep::to_string(error.code()) << "\n";
  }
}
