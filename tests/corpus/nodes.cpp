// SPDX-License-Identifier: BSD-3-Clause
// Prints what a file holds as JSON nodes: `nodes FILE...` writes one line of JSON per file, in this order.
//   {"format": {"v": ...}, "metadata": [[name, text], ...], "root": node} or {"code": ..., "error": {"v": ...}}
// With --unknown=refuse|opaque|inspect first: how objects of unknown classes are taken (inspect, when not given).
#include <cstdio>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <string_view>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/format/open_file.h>

#include "support/node_json.h"

namespace torchkeep {
namespace {

std::string describe(const char* path, UnknownClasses unknown) {
  LoadOptions options;
  options.unknown_classes = unknown;
  options.keep_builtin_classes = true;  // as the independent readers show them
  try {
    const std::string root = testing::node_json(load(path, options));
    PtReadOptions read;
    read.unknown_classes = unknown;
    const OpenedFile file = open_file(posix_fs().open_read(path), read);
    std::vector<std::string> texts;
    for (const auto& [name, text] : file.metadata) {
      texts.push_back(fmt::format("[{},{}]", testing::json_text(name), testing::json_text(text)));
    }
    return fmt::format(R"("format":{{"v":{}}},"metadata":[{}],"root":{})", testing::json_text(to_string(file.format)),
                       fmt::join(texts, ","), root);
  } catch (const Error& error) {
    return fmt::format(R"("code":"{}","error":{{"v":{}}})", to_string(error.code()),
                       testing::json_text(error.message()));
  }
}

int run(int argc, char** argv) {
  UnknownClasses unknown = UnknownClasses::inspect;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--unknown=refuse")
      unknown = UnknownClasses::refuse;
    else if (argument == "--unknown=opaque")
      unknown = UnknownClasses::opaque;
    else if (argument != "--unknown=inspect")
      fmt::print("{{{}}}\n", describe(argv[i], unknown));
  }
  return 0;
}

}  // namespace
}  // namespace torchkeep

int main(int argc, char** argv) {
  return torchkeep::run(argc, argv);
}
