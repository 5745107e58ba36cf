// SPDX-License-Identifier: BSD-3-Clause
// The command line: verbs, options, help.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "verbs.h"

namespace CLI {
class App;
}

namespace torchkeep::cli {

/// The parsed command line: what to do, with its options.
struct Command {
  std::function<int(Session&)> run;
};

/// Describes all verbs. Parsing the result fills `session` and `command`, which must live as long.
std::unique_ptr<CLI::App> make_app(Session& session, Command& command);

/// The script for bash's completion.
std::string bash_completion(CLI::App& app);
/// The manual page, in roff.
std::string man_page(CLI::App& app);
/// docs/cli.md: what --help says, of all verbs.
std::string markdown(CLI::App& app);

}  // namespace torchkeep::cli
