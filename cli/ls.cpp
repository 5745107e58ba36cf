// SPDX-License-Identifier: BSD-3-Clause
// torchkeep ls: what a checkpoint holds, as a table; a run directory's checkpoints (ls_run.cpp).
#include "ls.h"

#include <algorithm>
#include <fmt/format.h>
#include <fnmatch.h>
#include <unordered_map>

#include <torchkeep/checkpoint/listing.h>

#include "input.h"
#include "json.h"
#include "text.h"
#include "verbs.h"

namespace torchkeep::cli {
namespace {

bool matches(const std::vector<std::string>& globs, const std::string& path) {
  return std::any_of(globs.begin(), globs.end(),
                     [&](const std::string& glob) { return fnmatch(glob.c_str(), path.c_str(), 0) == 0; });
}

bool is_wanted(const Listed& row, const LsOptions& options) {
  const bool is_tensor = row.value.is(Kind::tensor);
  if (options.tensors_only && !is_tensor) return false;
  if (options.values_only && is_tensor) return false;
  return options.filters.empty() || matches(options.filters, row.path);
}

std::vector<const Listed*> choose(const Listing& listing, const LsOptions& options) {
  std::vector<const Listed*> rows;
  rows.reserve(listing.rows.size());
  for (const Listed& row : listing.rows) {
    if (is_wanted(row, options)) rows.push_back(&row);
  }
  const auto sort_by = [&](auto&& before) { std::stable_sort(rows.begin(), rows.end(), before); };
  if (options.sort == "path") sort_by([](const Listed* a, const Listed* b) { return a->path < b->path; });
  if (options.sort == "size") {
    sort_by([](const Listed* a, const Listed* b) { return a->totals.nbytes > b->totals.nbytes; });
  }
  if (options.sort == "type") {
    sort_by([](const Listed* a, const Listed* b) { return type_text(a->value) < type_text(b->value); });
  }
  if (options.reverse) std::reverse(rows.begin(), rows.end());
  return rows;
}

// What stands in the third column: a tensor's shape, a value, what is in a container.
std::string content_text(const Listed& row) {
  if (row.value.is(Kind::tensor)) return shape_text(row.value.as_tensor().sizes);
  if (row.repeated) return "(listed above)";
  if (row.totals.tensors == 0) return one_line(row.value);
  return fmt::format("{{{}}}", row.totals.values == 0 ? counted(row.totals.tensors, "tensor")
                                                      : fmt::format("{}, {}", counted(row.totals.tensors, "tensor"),
                                                                    counted(row.totals.values, "value")));
}

std::string flags_text(const Tensor& tensor) {
  std::string text = fmt::format("strides {}", shape_text(tensor.strides));
  if (tensor.storage_offset != 0) text += fmt::format(" offset {}", tensor.storage_offset);
  if (tensor.is_parameter) text += " parameter";
  if (tensor.requires_grad) text += " requires_grad";
  if (tensor.storage->location() != "cpu") text += " " + printable(tensor.storage->location());
  if (tensor.storage->nbytes() != tensor.nbytes()) text += fmt::format(" of {}", human_size(tensor.storage->nbytes()));
  return text;
}

void write_rows(Output& out, const std::vector<const Listed*>& rows, bool wide) {
  Table table({Table::Align::left, Table::Align::left, Table::Align::left, Table::Align::right, Table::Align::left});
  table.reserve(rows.size());
  for (const Listed* row : rows) {
    const bool has_bytes = row->totals.tensors > 0;
    if (is_plain_ascii(row->path) && !row->path.empty())
      table.cell(row->path, Style::key);
    else
      table.cell(row->path.empty() ? "." : printable(row->path), Style::key);
    table.cell(type_text(row->value));
    table.cell(content_text(*row));
    if (has_bytes) table.cell(human_size(row->totals.nbytes), Style::number);
    if (wide && row->value.is(Kind::tensor)) table.cell(flags_text(row->value.as_tensor()), Style::faint);
    table.end_row();
  }
  table.write(out);
}

void write_totals(Output& out, const Listing& listing, const OpenedCheckpoint& opened) {
  if (!listing.rows.empty()) out.line();
  Table table({Table::Align::left, Table::Align::right, Table::Align::right, Table::Align::left});
  const auto add = [&](std::string name, const Totals& totals, std::string remark) {
    table.add({{std::move(name)},
               {counted(totals.tensors, "tensor")},
               {human_size(totals.nbytes), Style::number},
               {std::move(remark), Style::faint}});
  };
  for (const auto& [entry, totals] : listing.by_key) {
    const std::string section(to_string(entry.section));
    if (totals.tensors > 0 && !entry.key.empty())
      add(printable(entry.key), totals, section == entry.key ? "" : section);
  }
  for (const auto& [dtype, totals] : listing.by_dtype) add(std::string(to_string(dtype)), totals, "");
  const bool is_shared = listing.stored != listing.totals.nbytes;
  add("total", listing.totals,
      fmt::format("{}{}, file {}", is_shared ? human_size(listing.stored) + " of storage, " : "",
                  counted(listing.totals.values, "value"), human_size(opened.file_size)));
  table.write(out);
  for (const auto& [name, text] : opened.metadata)
    out.line(fmt::format("metadata {}: {}", printable(name), one_line(Value(text), 100)));
  out.line(out.styled(Style::faint, opened.format));
  for (const std::string& note : opened.notes) out.line(out.styled(Style::warning, printable(note)));
}

void write_totals_json(JsonWriter& json, const Totals& totals) {
  json.member("tensors", totals.tensors);
  json.member("nbytes", totals.nbytes);
  json.member("values", totals.values);
}

/// What rows of one text have in common.
struct RowState {
  NodeIds ids;
  std::unordered_map<const void*, const Listed*> long_values;  // by Value::id(): the first row that has it
};

// The row before this one that has the same long list or text, which is not written again.
const Listed* same_row(const Listed& row, RowState& state) {
  constexpr std::size_t kMostElements = 16;
  const Value& value = row.value;
  const bool is_list = has_elements(value) && (value.size() > kMostElements ||
                                               std::any_of(value.elements().begin(), value.elements().end(), is_long));
  if (!is_list && !is_long(value)) return nullptr;
  const auto [known, is_new] = state.long_values.emplace(value.id(), &row);
  return is_new ? nullptr : known->second;
}

void write_row_json(JsonWriter& json, const Listed& row, RowState& state) {
  json.begin_object();
  json.member("path", row.path);
  json.member("section", to_string(row.section));
  json.member("type", type_text(row.value));
  if (row.value.is(Kind::tensor)) {
    const Tensor& tensor = row.value.as_tensor();
    json.member("dtype", to_string(tensor.dtype));
    json.member("shape", tensor.sizes);
    json.member("nbytes", tensor.nbytes());
    json.member("stride", tensor.strides);
    json.member("offset", tensor.storage_offset);
    json.member("storage_nbytes", tensor.storage->nbytes());
    json.member("location", tensor.storage->location());
    json.member("requires_grad", tensor.requires_grad);
    json.member("parameter", tensor.is_parameter);
  } else if (row.totals.tensors > 0) {
    write_totals_json(json, row.totals);
  } else {
    const Listed* same = same_row(row, state);
    const bool is_written = same == nullptr && !row.value.is_mapping() && !row.value.is(Kind::opaque) && !row.repeated;
    json.key("value");
    is_written ? write_plain(json, row.value, &state.ids) : json.null();
    if (same != nullptr) json.member("same_as", same->path);
  }
  json.end_object();
}

void write_json(Output& out, const std::vector<const Listed*>& rows, const Listing& listing,
                const OpenedCheckpoint& opened) {
  JsonWriter json(out);
  json.begin_document("torchkeep.ls/1");
  json.member("file", opened.path);
  json.member("format", opened.format);
  json.member("file_size", opened.file_size);
  json.key("rows"), json.begin_array();
  RowState state;
  for (const Listed* row : rows) write_row_json(json, *row, state);
  json.end_array();
  json.key("totals"), json.begin_object();
  write_totals_json(json, listing.totals);
  json.member("stored", listing.stored);
  json.key("by_dtype"), json.begin_object();
  for (const auto& [dtype, totals] : listing.by_dtype) {
    json.key(to_string(dtype)), json.begin_object(), write_totals_json(json, totals), json.end_object();
  }
  json.end_object();
  json.key("by_key"), json.begin_array();
  for (const auto& [entry, totals] : listing.by_key) {
    json.begin_object(), json.member("key", entry.key), json.member("section", to_string(entry.section));
    write_totals_json(json, totals), json.end_object();
  }
  json.end_array();
  json.end_object();
  json.key("metadata"), json.begin_object();
  for (const auto& [name, text] : opened.metadata) json.member(name, text);
  json.end_object();
  json.member("notes", opened.notes);
  json.end_document();
}

void list_file(Session& session, const std::string& path, const LsOptions& options) {
  const OpenedCheckpoint& opened = session.keep(open_to_look(path, options.inspect));
  const Listing& listing = session.keep(list_contents(opened.value, {.depth = options.depth}));
  const std::vector<const Listed*> rows = choose(listing, options);
  if (session.json) return write_json(session.out, rows, listing, opened);
  if (options.names) {
    for (const Listed* row : rows) session.out.line(printable(row->path));
    return;
  }
  write_rows(session.out, rows, options.wide);
  if (!session.quiet) write_totals(session.out, listing, opened);
}

}  // namespace

int run_ls(Session& session, const LsOptions& options) {
  const bool several = options.paths.size() > 1 && !session.json && !options.names;
  for (const std::string& path : options.paths) {
    if (several) session.out.line(session.out.styled(Style::heading, printable(path) + ":"));
    session.attempt(options.paths.size() == 1,
                    [&] { is_run(path) ? list_run(session, path, options) : list_file(session, path, options); });
    if (several && path != options.paths.back()) session.out.line();
  }
  return session.failed;
}

}  // namespace torchkeep::cli
