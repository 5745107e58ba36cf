// SPDX-License-Identifier: BSD-3-Clause
// What the descriptions of all verbs share.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app.h"

namespace torchkeep::cli {

/// Adds verbs to the command line.
class Builder {
 public:
  Builder(CLI::App& app, Session& session, Command& command) : app_(app), session_(session), command_(command) {}

  CLI::App& app() noexcept { return app_; }
  Command& command() noexcept { return command_; }

  /// A verb whose options are kept alive by the function that runs it.
  template <class Options>
  std::pair<CLI::App*, std::shared_ptr<Options>> verb(const char* name, const char* text,
                                                      int (*run)(Session&, const Options&)) {
    CLI::App* sub = app_.add_subcommand(name, text);
    auto options = std::make_shared<Options>();
    sub->callback([&command = command_, options, run] {
      command.run = [options, run](Session& session) { return run(session, *options); };
    });
    common(*sub);
    return {sub, options};
  }

  /// The option takes one of these words.
  static CLI::Option* choose(CLI::Option* option, const std::vector<std::string>& words) {
    return option->check(CLI::IsMember(words).description(""))->type_name("{" + CLI::detail::join(words, ",") + "}");
  }

  /// An argument without a dash. (CLI11 would print the type behind its name.)
  template <class T>
  static CLI::Option* argument(CLI::App* sub, const char* name, T& value, const char* text) {
    return sub->add_option(name, value, text)->type_name("");
  }

  /// An option that takes a text each time it is given.
  static CLI::Option* repeated(CLI::App* sub, const char* names, std::vector<std::string>& values, const char* type,
                               const char* text) {
    return sub->add_option(names, values, text)->type_name(type)->allow_extra_args(false);
  }

 private:
  // The options of all verbs.
  void common(CLI::App& sub) {
    sub.add_flag("--json", session_.json, "Write JSON (docs/cli-json.md)")->group("Output");
    sub.add_flag("-q,--quiet", session_.quiet, "Say only what was asked for")->group("Output");
    sub.add_flag("-v,--verbose", session_.verbose, "Say more")->group("Output");
    const auto set_colour = [&out = session_.out](const std::string& when) {
      out.set_colour(when == "always" ? Colour::always : when == "never" ? Colour::never : Colour::automatic);
    };
    choose(sub.add_option_function<std::string>("--color", set_colour,
                                                "Colours; auto: on a terminal, unless NO_COLOR is set"),
           {"auto", "always", "never"})
        ->group("Output");
    sub.get_help_ptr()->group("Output");
  }

  CLI::App& app_;
  Session& session_;
  Command& command_;
};

/// The verbs that look into files, check, compare and convert them.
void describe_file_verbs(Builder& builder);
/// The verbs for run directories.
void describe_run_verbs(Builder& builder);

}  // namespace torchkeep::cli
