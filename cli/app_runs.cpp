// SPDX-License-Identifier: BSD-3-Clause
// The verbs for run directories, with their options and examples.
#include "builder.h"

namespace torchkeep::cli {
namespace {

constexpr const char* kRun = "Run directory";
constexpr const char* kWhich = "Step numbers, last, or best";
constexpr const char* kWithoutLock = "Go on where the file system has no locks; no run may be writing there";
constexpr const char* kDryRun = "Say what would be done and change nothing";

void add_metric(CLI::App* sub, std::string& metric, bool& maximize) {
  sub->add_option("-m,--metric", metric, "Metric that \"best\" goes by; otherwise the one the run goes by")
      ->type_name("NAME");
  sub->add_flag("--max", maximize, "The largest value of --metric is the best; otherwise the smallest");
}

void describe_prune(Builder& builder) {
  auto [sub, options] =
      builder.verb<PruneOptions>("prune", "Remove the checkpoints of a run that no rule keeps", run_prune);
  builder.argument(sub, "RUN", options->directory, kRun)->required();
  sub->add_option("--keep-last", options->keep_last, "Keep the newest so many (1 at least)")->type_name("N");
  sub->add_option("--keep-every", options->keep_every, "Keep every checkpoint whose step is a multiple of this")
      ->type_name("N");
  sub->add_option("--keep-best", options->keep_best, "Keep the best so many by a metric")->type_name("N");
  add_metric(sub, options->metric, options->maximize);
  sub->add_flag("-n,--dry-run", options->dry_run, kDryRun);
  sub->add_flag("--without-lock", options->without_lock, kWithoutLock);
  sub->footer(
      "Without any --keep option the run's own rules are used. Pinned checkpoints and the newest always stay; the "
      "newest\n"
      "is read back whole before anything is removed. A run that is being written is left alone (exit status 3).\n"
      "Examples:\n  torchkeep prune --dry-run --keep-last 2 runs/a\n  torchkeep prune --keep-best 1 --metric loss "
      "runs/a");
}

void describe_pins(Builder& builder) {
  auto [pin, pins] = builder.verb<PinOptions>("pin", "Keep checkpoints of a run for ever, while it runs too", run_pin);
  builder.argument(pin, "RUN", pins->directory, kRun)->required();
  builder.argument(pin, "STEP", pins->checkpoints, kWhich)->required();
  pin->add_flag("-n,--dry-run", pins->dry_run, kDryRun);
  pin->footer("Examples:\n  torchkeep pin runs/a 4000\n  torchkeep pin runs/a best");
  auto [unpin, unpins] = builder.verb<PinOptions>("unpin", "Let the rules decide about checkpoints again", run_unpin);
  builder.argument(unpin, "RUN", unpins->directory, kRun)->required();
  builder.argument(unpin, "STEP", unpins->checkpoints, kWhich)->required();
  unpin->add_flag("-n,--dry-run", unpins->dry_run, kDryRun);
  unpin->footer("Example:\n  torchkeep unpin runs/a 4000");
}

void describe_rm(Builder& builder) {
  auto [sub, options] = builder.verb<RmOptions>("rm", "Remove checkpoints of a run", run_rm);
  builder.argument(sub, "RUN", options->directory, kRun)->required();
  builder.argument(sub, "STEP", options->checkpoints, kWhich);
  sub->add_flag("--broken", options->broken, "The damaged checkpoints that a resume set aside");
  sub->add_flag("-f,--force", options->force, "Remove the newest and pinned ones too");
  sub->add_flag("-n,--dry-run", options->dry_run, kDryRun);
  sub->add_flag("--without-lock", options->without_lock, kWithoutLock);
  sub->footer(
      "A run that is being written is left alone (exit status 3).\n"
      "Examples:\n  torchkeep rm --dry-run runs/a 1000 2000\n  torchkeep rm runs/a --broken");
}

void describe_path(Builder& builder) {
  auto [sub, options] = builder.verb<PathOptions>("path", "Print the path of one checkpoint of a run", run_path);
  builder.argument(sub, "RUN", options->directory, kRun)->required();
  builder.argument(sub, "WHICH", options->checkpoint, "last, best, or a step; last if left out");
  add_metric(sub, options->metric, options->maximize);
  sub->footer("Example:\n  cp \"$(torchkeep path runs/a best)\" model.pt");
}

void describe_plot(Builder& builder) {
  auto [sub, options] = builder.verb<PlotOptions>(
      "plot", "Draw loss and learning rate of a run over its steps, with the points where it resumed", run_plot);
  builder.argument(sub, "RUN", options->directory, kRun)->required();
  sub->add_option("-o,--output", options->output,
                  "Write an SVG to this file (- for standard output); else the terminal")
      ->type_name("OUT.svg");
  builder.repeated(sub, "-m,--metric", options->metrics, "NAME",
                   "Draw this metric instead of losses and learning rates; may be repeated");
  sub->add_flag("-f,--force", options->force, "Replace OUT.svg if it exists");
  sub->footer("Examples:\n  torchkeep plot runs/a\n  torchkeep plot runs/a -o curves.svg");
}

}  // namespace

void describe_run_verbs(Builder& builder) {
  describe_path(builder);
  describe_pins(builder);
  describe_rm(builder);
  describe_prune(builder);
  describe_plot(builder);
}

}  // namespace torchkeep::cli
