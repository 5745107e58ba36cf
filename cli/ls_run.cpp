// SPDX-License-Identifier: BSD-3-Clause
// torchkeep ls DIRECTORY: the checkpoints of a run, and why each is kept.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/run/overview.h>

#include "json.h"
#include "ls.h"
#include "text.h"

namespace torchkeep::cli {
namespace {

// "loss 1.23, accuracy 0.9": numbers in short, in the order of the run.
std::string metrics_text(const Value& metrics) {
  std::string text;
  if (!metrics.is_mapping()) return text;
  for (const Entry& entry : metrics.items()) {
    const std::string value =
        entry.value.is(Kind::real) ? short_number(entry.value.as_real()) : one_line(entry.value, 20);
    const std::string name = entry.key.is(Kind::string) ? printable(entry.key.as_string()) : one_line(entry.key);
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, value);
  }
  return text;
}

std::string rules_text(const RunOverview& run) {
  if (!run.rules) return "";
  std::string text = run.rules->last == 0 ? "keeps all" : fmt::format("keeps the {} newest", run.rules->last);
  if (run.rules->every > 0) text += fmt::format(", every {}", grouped(static_cast<std::uint64_t>(run.rules->every)));
  if (run.rules->by && run.rules->best > 0) text += fmt::format(", the {} best", run.rules->best);
  if (run.rules->by) {
    text += fmt::format("; best is the {} {}", run.rules->by->best == Best::min ? "smallest" : "largest",
                        printable(run.rules->by->metric));
  }
  return text;
}

void write_checkpoints(Output& out, const RunOverview& run) {
  using Align = Table::Align;
  Table table({Align::right, Align::left, Align::right, Align::left, Align::left});
  table.add({{"step", Style::faint},
             {"written (UTC)", Style::faint},
             {"size", Style::faint},
             {"kept because", Style::faint},
             {"metrics", Style::faint}});
  for (const CheckpointOverview& one : run.checkpoints) {
    const std::string why = !one.problem.empty()  ? "damaged: " + printable(one.problem)
                            : one.kept_by.empty() ? "no rule keeps it"
                                                  : fmt::format("{}", fmt::join(one.kept_by, ", "));
    const Style style = !one.problem.empty() ? Style::bad : one.best || one.last ? Style::good : Style::plain;
    table.add({{grouped(static_cast<std::uint64_t>(one.step)), Style::key},
               {printable(one.time)},
               {human_size(one.size), Style::number},
               {printable(why), style},
               {metrics_text(one.metrics)}});
  }
  table.write(out);
}

void write_rest(Output& out, const RunOverview& run) {
  for (const SetAside& one : run.broken) {
    out.line(out.styled(Style::bad, fmt::format("broken: {}, {}", printable(one.path), human_size(one.size))));
  }
  for (const SetAside& one : run.leftovers) {
    out.line(out.styled(Style::warning, fmt::format("left by a process that was killed, or being written: {}, {}",
                                                    printable(one.path), human_size(one.size))));
  }
  for (const std::int64_t step : run.dangling_pins) {
    out.line(out.styled(Style::warning, fmt::format("a pin of step {}, which has no checkpoint", step)));
  }
  for (const std::string& entry : run.odd) {
    out.line(out.styled(Style::warning, fmt::format("no file of a run, left alone: {}", printable(entry))));
  }
  std::uint64_t bytes = 0;
  for (const CheckpointOverview& one : run.checkpoints) bytes += one.size;
  out.line(out.styled(Style::faint,
                      fmt::format("{}, {}{}{}{}", counted(run.checkpoints.size(), "checkpoint"), human_size(bytes),
                                  run.finished ? fmt::format("; finished at step {}", *run.finished) : "",
                                  run.rules ? "; " : "", rules_text(run))));
}

void write_file_json(JsonWriter& json, const char* name, const std::vector<SetAside>& files) {
  json.key(name), json.begin_array();
  for (const SetAside& one : files) {
    json.begin_object();
    json.member("step", one.step), json.member("path", one.path), json.member("size", one.size);
    json.end_object();
  }
  json.end_array();
}

void write_checkpoint_json(JsonWriter& json, const CheckpointOverview& one) {
  json.begin_object();
  json.member("step", one.step), json.member("path", one.path), json.member("size", one.size);
  json.member("time", one.time), json.member("host", one.host);
  json.key("metrics"), json.begin_object();
  if (one.metrics.is_mapping()) {
    for (const Entry& entry : one.metrics.items()) {
      if (entry.key.is(Kind::string)) json.key(entry.key.as_string()), write_plain(json, entry.value);
    }
  }
  json.end_object();
  json.member("last", one.last), json.member("best", one.best), json.member("pinned", one.pinned);
  json.member("kept_by", one.kept_by), json.member("problem", one.problem);
  json.end_object();
}

void write_json(Output& out, const RunOverview& run) {
  JsonWriter json(out);
  json.begin_document("torchkeep.ls-run/1");
  json.member("directory", run.directory);
  json.key("checkpoints"), json.begin_array();
  for (const CheckpointOverview& one : run.checkpoints) write_checkpoint_json(json, one);
  json.end_array();
  write_file_json(json, "broken", run.broken);
  write_file_json(json, "leftovers", run.leftovers);
  json.member("dangling_pins", run.dangling_pins);
  json.member("odd", run.odd);
  json.key("finished"), run.finished ? json.number(*run.finished) : json.null();
  json.key("rules");
  if (run.rules) {
    json.begin_object();
    json.member("keep_last", run.rules->last), json.member("keep_every", run.rules->every);
    json.member("keep_best", run.rules->best);
    if (run.rules->by) {
      json.member("metric", run.rules->by->metric);
      json.member("best", run.rules->by->best == Best::min ? "min" : "max");
    }
    json.end_object();
  } else {
    json.null();
  }
  json.end_document();
}

}  // namespace

void list_run(Session& session, const std::string& directory, const LsOptions& options) {
  const RunOverview run = look_at_run(directory);
  if (session.json) return write_json(session.out, run);
  if (options.names) {
    for (const CheckpointOverview& one : run.checkpoints) session.out.line(printable(one.path));
    return;
  }
  if (!run.checkpoints.empty()) write_checkpoints(session.out, run);
  if (!session.quiet) write_rest(session.out, run);
}

}  // namespace torchkeep::cli
