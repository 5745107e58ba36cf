// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint as an indented tree.
#include <fmt/format.h>

#include <torchkeep/checkpoint/listing.h>
#include <torchkeep/checkpoint/sections.h>
#include <torchkeep/state/walk.h>

#include "show.h"
#include "text.h"

namespace torchkeep::cli {
namespace {

constexpr std::size_t kMaxIndent = 40;  // levels; what lies deeper is not moved further

std::string container_text(const Value& value) {
  if (value.is_mapping())
    return fmt::format("{} of {}", to_string(value.kind()), counted(value.size(), "entry", "entries"));
  if (value.is(Kind::opaque)) return fmt::format("object of {}", type_text(value));
  if (value.is(Kind::sparse_tensor)) return one_line(value);
  if (value.is(Kind::nested_tensor) || value.is(Kind::tensor)) return one_line(value);
  return fmt::format("{} of {}", to_string(value.kind()), counted(value.size(), "element"));
}

std::string tensor_text(const Tensor& tensor) {
  std::string text = fmt::format("{} {}", to_string(tensor.dtype), shape_text(tensor.sizes));
  if (tensor.is_parameter) text += " parameter";
  if (tensor.storage->location() != "cpu") text += " " + printable(tensor.storage->location());
  return text;
}

class Tree {
 public:
  Tree(Session& session, const ShowOptions& options) : session_(session), out_(session.out), options_(options) {}

  Next operator()(const Visit& visit) {
    const Value& value = visit.value;
    const Place& place = visit.place;
    if (place.depth == 0) return root(value);
    const std::string indent(2 * (std::min(place.depth, kMaxIndent) - 1), ' ');
    const std::string key = place.step.shown();
    const auto line = [&](std::string_view text) {
      out_.line(fmt::format("{}{}: {}", indent, out_.styled(Style::key, printable(key)), text));
    };
    const bool is_lines = write_special(place.depth, key, value, indent, line);
    if (is_lines) return Next::over;
    if (value.is(Kind::tensor)) {
      line(fmt::format("{}  {}", tensor_text(value.as_tensor()),
                       out_.styled(Style::number, human_size(value.as_tensor().nbytes()))));
      return Next::inside;
    }
    if (is_one_line(value)) {
      line(one_line(value, static_cast<std::size_t>(std::max(out_.width() - 20, 40))));
      return Next::over;
    }
    if (visit.repeated) {
      line(fmt::format("{} (shown above)", container_text(value)));
      return Next::over;
    }
    line(out_.styled(Style::faint, container_text(value)));
    return place.depth >= options_.depth ? Next::over : Next::inside;
  }

 private:
  // Containers of plain values only are shown in one line.
  bool is_one_line(const Value& value) {
    return has_elements(value) ? plain_.are_all_plain(value) : Parts(value).size() == 0;
  }

  Next root(const Value& value) {
    for (const std::string& line : special_lines(session_, options_.key, value)) out_.line(line);
    if (!is_one_line(value)) {
      out_.line(out_.styled(Style::faint, container_text(value)));
      return Next::inside;
    }
    out_.line(value.is_mapping() ? container_text(value) : one_line(value, std::string::npos / 8));
    return Next::over;
  }

  // Parts with a form of their own; true when nothing more is to be shown of them.
  template <class Line>
  bool write_special(std::size_t depth, const std::string& key, const Value& value, const std::string& indent,
                     Line&& line) {
    if (depth >= options_.depth) return false;
    const std::vector<std::string> lines = special_lines(session_, key, value);
    if (lines.empty()) return false;
    line(out_.styled(Style::faint, value.is(Kind::tensor) ? one_line(value) : container_text(value)));
    for (const std::string& each : lines) out_.line(fmt::format("{}  {}", indent, each));
    return true;
  }

  Session& session_;
  Output& out_;
  const ShowOptions& options_;
  PlainElements plain_;
};

}  // namespace

void show_tree(Session& session, const Value& part, const ShowOptions& options) {
  Tree tree(session, options);
  walk(part, [&](const Visit& visit) { return tree(visit); });
}

}  // namespace torchkeep::cli
