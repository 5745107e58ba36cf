// SPDX-License-Identifier: BSD-3-Clause
// torchkeep diff: what differs between two checkpoints, section by section.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <fnmatch.h>
#include <map>

#include <torchkeep/checkpoint/sections.h>
#include <torchkeep/state/diff.h>

#include "input.h"
#include "json.h"
#include "text.h"
#include "verbs.h"

namespace torchkeep::cli {
namespace {

constexpr std::string_view kProvenance = "provenance";

// The names of optimizer parameters by their numbers, as param_names gives them.
class ParameterNames {
 public:
  explicit ParameterNames(const Value& checkpoint) {
    for (const SectionEntry& entry : sections_of(checkpoint)) {
      if (entry.section == Section::optimizer) collect(entry);
    }
  }

  // The name of the parameter whose state a path leads into; empty when it is not known.
  std::string of(std::string_view path) const {
    for (const auto& [prefix, names] : names_) {
      if (!path.starts_with(prefix)) continue;
      std::int64_t number = -1;
      const std::string_view rest = path.substr(prefix.size());
      std::from_chars(rest.data(), rest.data() + rest.size(), number);
      if (const auto name = names.find(number); name != names.end()) return name->second;
    }
    return {};
  }

 private:
  void collect(const SectionEntry& entry) {
    const auto groups = entry.value.is_mapping() ? entry.value.find("param_groups") : std::nullopt;
    if (!groups || !groups->is(Kind::list)) return;
    auto& names = names_[(entry.key.empty() ? "" : entry.key + ".") + "state."];
    const auto listed = entry.value.find("param_names");
    std::size_t place = 0;
    for (const Value& group : groups->elements()) {
      const auto numbers = group.is_mapping() ? group.find("params") : std::nullopt;
      auto texts = group.is_mapping() ? group.find("param_names") : std::nullopt;
      if (listed && listed->is(Kind::list) && place < listed->size()) texts = listed->elements()[place];
      ++place;
      if (!numbers || !texts || !numbers->is_sequence() || !texts->is_sequence() || numbers->size() != texts->size())
        continue;
      for (std::size_t i = 0; i < numbers->size(); ++i) {
        const Value& number = numbers->elements()[i];
        const Value& text = texts->elements()[i];
        if (number.is(Kind::integer) && text.is(Kind::string))
          names[number.as_integer().to_int64().value_or(-1)] = text.as_string();
      }
    }
  }

  std::map<std::string, std::map<std::int64_t, std::string>> names_;
};

std::string numbers_text(const TensorDifference& found) {
  if (found.equal_bits()) return "equal values";
  std::string text =
      fmt::format("{} of {} differ, max |a-b| {} (relative {})", grouped(found.differing), grouped(found.count),
                  short_number(found.max_absolute), short_number(found.max_relative));
  if (found.max_ulps) text += fmt::format(", {} ULP", grouped(*found.max_ulps));
  text += fmt::format(", cosine {}", fmt::format("{:.9g}", found.cosine));
  if (found.nan > 0) text += fmt::format(", {} with NaN", grouped(found.nan));
  return text;
}

std::string flags_text(const Tensor& tensor) {
  return fmt::format("{}{}{}{}", tensor.is_parameter ? "parameter " : "tensor ",
                     tensor.requires_grad ? "requires_grad" : "", tensor.is_conj ? " conj" : "",
                     tensor.is_neg ? " neg" : "");
}

std::string change_text(Change change, const Difference& difference) {
  const auto both = [&](auto&& text) {
    const std::string before = text(difference.before.as_tensor()), after = text(difference.after.as_tensor());
    return fmt::format("{} -> {}", before, after);
  };
  switch (change) {
    case Change::dtype:
      return both([](const Tensor& tensor) { return std::string(to_string(tensor.dtype)); });
    case Change::shape:
      return both([](const Tensor& tensor) { return shape_text(tensor.sizes); });
    case Change::strides:
      return "strides " + both([](const Tensor& tensor) {
               return fmt::format("{}+{}", shape_text(tensor.strides), tensor.storage_offset);
             });
    case Change::location:
      return both([](const Tensor& tensor) { return printable(tensor.storage->location()); });
    case Change::flags:
      return both(flags_text);
    case Change::elements:
      return difference.numbers ? numbers_text(*difference.numbers) : "other elements";
    case Change::sharing:
      return "shares its memory with other tensors than before";
    case Change::order:
      return "the same keys in another order";
    case Change::quantizer:
      return "another quantizer";
    default:
      return fmt::format("{} -> {}", one_line(difference.before), one_line(difference.after));
  }
}

void write_difference(Output& out, const Difference& difference, const ParameterNames& names) {
  std::string path = difference.path.empty() ? "." : printable(difference.path);
  if (const std::string name = names.of(difference.path); !name.empty()) path += fmt::format(" ({})", printable(name));
  path = out.styled(Style::key, path);
  if (difference.has(Change::added))
    return out.line(fmt::format("  {} {}: {}", out.styled(Style::good, "+"), path, one_line(difference.after)));
  if (difference.has(Change::removed))
    return out.line(fmt::format("  {} {}: {}", out.styled(Style::bad, "-"), path, one_line(difference.before)));
  std::string text;
  for (const Change change : difference.changes) text += (text.empty() ? "" : "; ") + change_text(change, difference);
  out.line(fmt::format("  {} {}: {}", out.styled(Style::warning, "~"), path, text));
}

std::string amounts(const DiffPart& part) {
  std::string text;
  if (part.tensors > 0) text = counted(part.tensors, "tensor");
  if (part.leaves > 0) text += (text.empty() ? "" : ", ") + counted(part.leaves, "value");
  return text;
}

std::string verdict(const Output& out, const DiffPart& part) {
  if (part.differences == 0) return out.styled(Style::good, "equal");
  if (part.tensors_differing == part.differences) {
    return out.styled(Style::bad,
                      fmt::format("{} of {} tensors differ", grouped(part.tensors_differing), grouped(part.tensors)));
  }
  return out.styled(Style::bad, counted(part.differences, "difference"));
}

std::map<std::string, Section> sections_by_key(const OpenedCheckpoint& a, const OpenedCheckpoint& b) {
  std::map<std::string, Section> sections;
  for (const OpenedCheckpoint* side : {&a, &b}) {
    for (const SectionEntry& entry : sections_of(side->value)) sections.emplace(entry.key, entry.section);
  }
  return sections;
}

bool is_one_section(const Value& checkpoint) {
  const std::vector<SectionEntry> sections = sections_of(checkpoint);
  return sections.size() == 1 && sections[0].key.empty();
}

// What was compared by section: by key at the top, or all in one when both files are one section (weights alone).
std::vector<DiffPart> parts_of(const OpenedCheckpoint& a, const OpenedCheckpoint& b, const Diff& diff) {
  if (!is_one_section(a.value) || !is_one_section(b.value)) return diff.parts;
  DiffPart all;
  for (const DiffPart& part : diff.parts) {
    all.tensors += part.tensors, all.leaves += part.leaves, all.differences += part.differences;
    all.tensors_differing += part.tensors_differing;
  }
  return {all};
}

class Report {
 public:
  Report(Session& session, const DiffCommand& options, const OpenedCheckpoint& a, const OpenedCheckpoint& b,
         const Diff& diff)
      : session_(session),
        options_(options),
        a_(a),
        b_(b),
        diff_(diff),
        sections_(sections_by_key(a, b)),
        parts_(parts_of(a, b, diff)) {}

  void write() {
    Output& out = session_.out;
    const ParameterNames names(a_.value);
    std::size_t next = 0;
    for (const DiffPart& part : parts_) {
      const bool is_root = part.key.empty() && parts_.size() > 1;
      if (!is_root || part.differences > 0) write_heading(part, is_root);
      std::size_t shown = 0;
      for (; next < diff_.differences.size() && (parts_.size() == 1 || diff_.differences[next].top == part.key);
           ++next) {
        if (options_.limit == 0 || shown < options_.limit)
          write_difference(out, diff_.differences[next], names), ++shown;
      }
      if (shown < part.differences)
        out.line(out.styled(Style::faint,
                            fmt::format("  ... and {} more (--limit 0 shows all)", grouped(part.differences - shown))));
    }
    write_provenance();
    std::uint64_t tensors = 0, leaves = 0;
    for (const DiffPart& part : diff_.parts) tensors += part.tensors, leaves += part.leaves;
    if (diff_.equal()) {
      out.line(out.styled(Style::good,
                          fmt::format("equal in {}: {} ({}), {}", options_.content_only ? "content" : "every bit",
                                      counted(tensors, "tensor"), human_size(diff_.bytes), counted(leaves, "value"))));
    } else {
      out.line(out.styled(Style::bad, fmt::format("different in {}", counted(diff_.found, "place"))));
    }
  }

  void write_json() {
    JsonWriter json(session_.out);
    json.begin_document("torchkeep.diff/1");
    json.member("a", a_.path);
    json.member("b", b_.path);
    json.member("equal", diff_.equal());
    json.member("content_only", options_.content_only);
    json.member("found", diff_.found);
    json.member("bytes", diff_.bytes);
    json.key("parts"), json.begin_array();
    for (const DiffPart& part : parts_) {
      if (part.key.empty() && part.differences == 0 && parts_.size() > 1) continue;
      json.begin_object();
      json.member("key", part.key);
      json.member("section", to_string(section_at(part.key)));
      json.member("tensors", part.tensors);
      json.member("values", part.leaves);
      json.member("differences", part.differences);
      json.member("tensors_differing", part.tensors_differing);
      json.end_object();
    }
    json.end_array();
    json.key("differences"), json.begin_array();
    const ParameterNames names(a_.value);
    for (const Difference& difference : diff_.differences) write_difference_json(json, difference, names);
    json.end_array();
    json.end_document();
  }

 private:
  Section section_at(const std::string& key) const {
    auto known = sections_.find(key);
    if (known == sections_.end()) known = sections_.find("");
    return known == sections_.end() ? Section::other : known->second;
  }

  void write_heading(const DiffPart& part, bool is_root) {
    Output& out = session_.out;
    const std::string section(to_string(section_at(part.key)));
    const std::string name = is_root               ? "the whole"
                             : part.key.empty()    ? section
                             : part.key == section ? section
                                                   : fmt::format("{} ({})", printable(part.key), section);
    const std::string amount = amounts(part);
    out.line(fmt::format("{}: {}{}", out.styled(Style::heading, name), amount.empty() ? "" : amount + ", ",
                         verdict(out, part)));
  }

  void write_provenance() {
    if (options_.with_provenance || !a_.value.is_mapping() || !b_.value.is_mapping()) return;
    const auto before = a_.value.find(Value::string(std::string(kProvenance)));
    const auto after = b_.value.find(Value::string(std::string(kProvenance)));
    if (!before && !after) return;
    const bool equal = before && after && *before == *after;
    session_.out.line(
        session_.out.styled(Style::faint, fmt::format("provenance: {} (not counted)", equal ? "equal" : "differs")));
  }

  static void write_side(JsonWriter& json, const char* name, const Value& value, bool exists) {
    json.key(name);
    if (!exists) return json.null();
    if (!value.is(Kind::tensor)) {
      const bool is_plain = value.kind() <= Kind::string && !value.is(Kind::complex);
      is_plain ? write_plain(json, value) : json.text(one_line(value, 200));
      return;
    }
    const Tensor& tensor = value.as_tensor();
    json.begin_object();
    json.member("dtype", to_string(tensor.dtype));
    json.member("shape", tensor.sizes);
    json.end_object();
  }

  void write_difference_json(JsonWriter& json, const Difference& difference, const ParameterNames& names) {
    json.begin_object();
    json.member("path", difference.path);
    json.member("section", to_string(section_at(difference.top)));
    if (const std::string name = names.of(difference.path); !name.empty()) json.member("parameter", name);
    json.key("changes"), json.begin_array();
    for (const Change change : difference.changes) json.text(to_string(change));
    json.end_array();
    write_side(json, "before", difference.before, !difference.has(Change::added));
    write_side(json, "after", difference.after, !difference.has(Change::removed));
    if (difference.numbers) {
      const TensorDifference& found = *difference.numbers;
      json.member("count", found.count);
      json.member("differing", found.differing);
      json.member("nan", found.nan);
      json.member("max_absolute", found.max_absolute);
      json.member("max_relative", found.max_relative);
      if (found.max_ulps) json.member("max_ulps", *found.max_ulps);
      json.member("cosine", found.cosine);
    }
    json.end_object();
  }

  Session& session_;
  const DiffCommand& options_;
  const OpenedCheckpoint& a_;
  const OpenedCheckpoint& b_;
  const Diff& diff_;
  std::map<std::string, Section> sections_;
  std::vector<DiffPart> parts_;
};

}  // namespace

int run_diff(Session& session, const DiffCommand& command) {
  const OpenedCheckpoint& a = session.keep(open_to_look(command.a));
  const OpenedCheckpoint& b = session.keep(open_to_look(command.b));
  ProgressLine progress("comparing", session.progress());
  DiffOptions options;
  options.content_only = command.content_only;
  options.threads = command.threads;
  options.on_progress = [&](std::uint64_t done, std::uint64_t total) { progress.update(done, total); };
  options.skip = [&](const Place& place) {
    if (!command.with_provenance && place.depth == 1 && place.step.text() == kProvenance) return true;
    if (command.ignore.empty()) return false;
    const std::string path = place.text();
    return std::any_of(command.ignore.begin(), command.ignore.end(),
                       [&](const std::string& glob) { return fnmatch(glob.c_str(), path.c_str(), 0) == 0; });
  };
  const Diff found = diff(a.value, b.value, options);
  Report report(session, command, a, b, found);
  if (session.json)
    report.write_json();
  else if (!session.quiet)
    report.write();
  return found.equal() ? kGood : kDifferent;
}

}  // namespace torchkeep::cli
