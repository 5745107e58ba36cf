// SPDX-License-Identifier: BSD-3-Clause
// The command line as a whole.
#include "builder.h"
#include "version.h"

namespace torchkeep::cli {
namespace {

void describe_completion(Builder& builder) {
  CLI::App* sub =
      builder.app().add_subcommand("completion", "Write a script that completes commands in a shell, or the manual");
  auto what = std::make_shared<std::string>();
  builder
      .choose(sub->add_option("WHAT", *what, "bash: the script; man: the manual page; markdown: docs/cli.md"),
              {"bash", "man", "markdown"})
      ->required()
      ->type_name("");
  sub->callback([&app = builder.app(), &command = builder.command(), what] {
    command.run = [&app, what](Session& session) {
      session.out.write(*what == "man" ? man_page(app) : *what == "bash" ? bash_completion(app) : markdown(app));
      return kGood;
    };
  });
  sub->footer("Examples:\n  source <(torchkeep completion bash)\n  torchkeep completion man > torchkeep.1");
}

}  // namespace

std::unique_ptr<CLI::App> make_app(Session& session, Command& command) {
  auto app = std::make_unique<CLI::App>(
      "Look into, check, compare, convert and tidy PyTorch checkpoints, without PyTorch.", "torchkeep");
  app->set_version_flag("--version", kVersion);
  app->require_subcommand(1);
  app->get_formatter()->column_width(26);
  app->footer(
      "`torchkeep VERB --help` shows the options of a verb and examples.\n"
      "Exit status: 0 good, 1 a difference or damage found, 2 wrong usage, 3 a file cannot be read or written.");
  Builder builder(*app, session, command);
  describe_file_verbs(builder);
  describe_run_verbs(builder);
  describe_completion(builder);
  return app;
}

}  // namespace torchkeep::cli
