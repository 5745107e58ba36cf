// SPDX-License-Identifier: BSD-3-Clause
// torchkeep verify: every byte of files and of whole run directories, checked.
#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/checkpoint/convert.h>
#include <torchkeep/format/check.h>
#include <torchkeep/format/safetensors.h>
#include <torchkeep/format/salvage.h>
#include <torchkeep/run/curves.h>
#include <torchkeep/run/overview.h>

#include "input.h"
#include "json.h"
#include "target.h"
#include "text.h"
#include "verbs.h"

namespace torchkeep::cli {
namespace {

using State = CheckedRecord::State;

constexpr std::size_t kShownTensors = 8;

// What was saved of a damaged file.
struct Repair {
  std::string output;
  Salvaged found;
};

struct Checked {
  std::string path;
  FileCheck check;
};

FileCheck check(Session& session, const std::string& path, const VerifyOptions& options) {
  ProgressLine progress(fmt::format("checking {}", printable(path)), session.progress());
  CheckOptions check;
  check.threads = options.threads;
  check.open_sibling = siblings_of(path);
  check.on_progress = [&](std::uint64_t done, std::uint64_t total) { progress.update(done, total); };
  if (const auto folder = dcp_folder(path)) return check_dcp(*folder, check);
  return check_file(open_input(path), check);
}

std::string tensors_text(const std::vector<std::string>& tensors) {
  std::string text;
  for (std::size_t i = 0; i < std::min(tensors.size(), kShownTensors); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", printable(tensors[i]));
  if (tensors.size() > kShownTensors) text += fmt::format(", ... {} in all", grouped(tensors.size()));
  return text;
}

void report(Session& session, const Checked& one) {
  Output& out = session.out;
  const FileCheck& check = one.check;
  const std::string verdict = check.good() ? out.styled(Style::good, "good   ") : out.styled(Style::bad, "damaged");
  out.line(fmt::format("{}  {}  {}, {}, {}", verdict, printable(one.path), human_size(check.file_size),
                       counted(check.tensors, "tensor"), counted(check.records.size(), "record")));
  for (const std::string& problem : check.problems) out.line(fmt::format("         {}", printable(problem)));
  for (const CheckedRecord& record : check.records) {
    if (record.state == State::damaged) {
      out.line(fmt::format("         {}: {}{}", printable(record.name), printable(record.problem),
                           record.tensors.empty() ? "" : "; lost: " + tensors_text(record.tensors)));
    } else if (session.verbose) {
      out.line(fmt::format("         {}: {}, {}", printable(record.name), human_size(record.size),
                           record.state == State::good ? "good" : "no checksum"));
    }
  }
  for (const std::string& note : check.notes)
    out.line(fmt::format("         {}", out.styled(Style::warning, printable(note))));
}

void report_repair(Session& session, const Repair& repair) {
  if (session.quiet || repair.output == "-") return;
  Output& out = session.out;
  out.line(fmt::format("{}: {}", printable(repair.output), counted(repair.found.tensors, "tensor") + " saved"));
  for (const std::string& note : repair.found.notes) out.line(out.styled(Style::warning, "  " + printable(note)));
  if (repair.found.lost.empty()) return out.line(out.styled(Style::good, "nothing is lost"));
  out.line(out.styled(Style::bad, fmt::format("lost ({}):", counted(repair.found.lost.size(), "part"))));
  for (const Lost& lost : repair.found.lost) {
    out.line(fmt::format("  {}: {}; {}", printable(lost.path), printable(lost.what), printable(lost.reason)));
  }
}

void write_repair_json(JsonWriter& json, const Repair& repair) {
  json.key("repaired"), json.begin_object();
  json.member("output", repair.output);
  json.member("tensors", repair.found.tensors);
  json.key("lost"), json.begin_array();
  for (const Lost& lost : repair.found.lost) {
    json.begin_object();
    json.member("path", lost.path), json.member("what", lost.what), json.member("reason", lost.reason);
    json.end_object();
  }
  json.end_array();
  json.member("notes", repair.found.notes);
  json.end_object();
}

std::string_view state_name(State state) {
  return state == State::good ? "good" : state == State::unprotected ? "unprotected" : "damaged";
}

void report_json(Session& session, const std::vector<Checked>& all, const std::vector<std::string>& problems,
                 const std::optional<Repair>& repaired) {
  JsonWriter json(session.out);
  json.begin_document("torchkeep.verify/1");
  json.member("good", problems.empty() && session.failed == kGood &&
                          std::all_of(all.begin(), all.end(), [](const Checked& one) { return one.check.good(); }));
  json.key("files"), json.begin_array();
  for (const auto& [path, check] : all) {
    json.begin_object();
    json.member("file", path);
    json.member("good", check.good());
    json.member("format", check.format);
    json.member("file_size", check.file_size);
    json.member("bytes_checked", check.bytes);
    json.member("tensors", check.tensors);
    json.member("records", check.records.size());
    json.member("unprotected", check.count(State::unprotected));
    json.key("damaged"), json.begin_array();
    for (const CheckedRecord& record : check.records) {
      if (record.state == State::good || (record.state == State::unprotected && !session.verbose)) continue;
      json.begin_object();
      json.member("record", record.name);
      json.member("state", state_name(record.state));
      json.member("size", record.size);
      json.member("problem", record.problem);
      json.member("tensors", record.tensors);
      json.end_object();
    }
    json.end_array();
    json.member("problems", check.problems);
    json.member("notes", check.notes);
    json.end_object();
  }
  json.end_array();
  json.member("run_problems", problems);
  if (repaired) write_repair_json(json, *repaired);
  json.end_document();
}

// What is wrong with a run directory beside its files; the files to check.
std::vector<std::string> check_run(Session& session, const std::string& directory, std::vector<std::string>& problems) {
  const RunOverview run = look_at_run(directory);
  if (run.checkpoints.empty()) {
    throw Error(Code::not_found, "no checkpoint in this folder",
                {.file = directory, .record = {}, .offset = {}, .key = {}});
  }
  const std::size_t before = problems.size();
  std::vector<std::string> files;
  for (const CheckpointOverview& one : run.checkpoints) {
    files.push_back(one.path);
    if (!one.problem.empty()) problems.push_back(fmt::format("{}: {}", one.path, one.problem));
  }
  for (const SetAside& one : run.broken)
    problems.push_back(fmt::format("{}: set aside as damaged by a resume", one.path));
  for (const std::int64_t step : run.dangling_pins)
    problems.push_back(fmt::format("{}: a pin of step {}, which has no checkpoint", directory, step));
  const std::uint64_t lines = read_curves(directory).bad_lines;
  if (lines > 0)
    problems.push_back(fmt::format("{}: {} of metrics.jsonl cannot be read", directory, counted(lines, "line")));
  for (std::size_t i = before; i < problems.size() && !session.json; ++i) {
    session.out.line(session.out.styled(Style::bad, printable(problems[i])));
  }
  return files;
}

// Writes what survives of the one damaged file.
Repair repair(Session& session, const std::string& path, const VerifyOptions& options) {
  const Target target(options.repair, options.force);
  if (target.is_stream() && session.json) throw Error(Code::invalid_argument, "standard output is either OUT or JSON");
  ProgressLine progress(fmt::format("saving what survives of {}", printable(path)), session.progress());
  SalvageOptions salvaging;
  salvaging.on_progress = [&](std::uint64_t done, std::uint64_t total) { progress.update(done, total); };
  Repair result{options.repair, salvage(open_input(path), salvaging)};
  Salvaged& found = result.found;
  if (found.format == FileFormat::safetensors) {
    target.write(plan_safetensors(found.value, found.metadata).plan, session.progress());
    return result;
  }
  for (const std::string& object : drop_objects(found.value))
    found.lost.push_back({object.substr(0, object.find(" (")),
                          object.substr(object.find(" (") + 2, object.size() - object.find(" (") - 3),
                          "a .pt file for PyTorch's safe loader cannot hold it"});
  target.write(plan_pt(found.value), session.progress());
  return result;
}

}  // namespace

int run_verify(Session& session, const VerifyOptions& options) {
  const bool one_file = options.paths.size() == 1 && options.paths[0] != "-" && !is_directory(options.paths[0]);
  if (!options.repair.empty() && !one_file) {
    throw Error(Code::invalid_argument, "--repair works on one file at a time, and not on standard input");
  }
  std::vector<Checked> all;
  std::vector<std::string> problems;
  const bool speaks = !session.json && options.repair != "-";
  for (const std::string& path : options.paths) {
    std::vector<std::string> files;
    const bool is_all = options.paths.size() == 1;
    if (is_run(path))
      session.attempt(is_all, [&] { files = check_run(session, path, problems); });
    else
      files = {path};
    for (const std::string& file : files) {
      session.attempt(is_all && files.size() == 1, [&] {
        all.push_back({file, check(session, file, options)});
        if (speaks && (!session.quiet || !all.back().check.good())) report(session, all.back());
      });
    }
  }
  const bool good = problems.empty() && session.failed == kGood &&
                    std::all_of(all.begin(), all.end(), [](const Checked& one) { return one.check.good(); });
  std::optional<Repair> repaired;
  if (!options.repair.empty() && !good) repaired = repair(session, options.paths[0], options);
  if (session.json) report_json(session, all, problems, repaired);
  if (!session.json && repaired) report_repair(session, *repaired);
  if (speaks && good && !options.repair.empty() && !session.quiet) session.out.line("nothing to repair");
  return good ? kGood : std::max<int>(kDifferent, session.failed);
}

}  // namespace torchkeep::cli
