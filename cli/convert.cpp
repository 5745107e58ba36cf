// SPDX-License-Identifier: BSD-3-Clause
// torchkeep convert: another format, other dtypes, other names, or a part only.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/base/checked.h>
#include <torchkeep/checkpoint/convert.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/format/safetensors.h>
#include <torchkeep/state/walk.h>

#include "input.h"
#include "json.h"
#include "target.h"
#include "text.h"
#include "verbs.h"

namespace torchkeep::cli {
namespace {

[[noreturn]] void usage(std::string message) {
  throw Error(Code::invalid_argument, std::move(message));
}

// "bf16", "fp16", "float32" ...
DType parse_dtype(const std::string& name) {
  constexpr std::pair<std::string_view, DType> kShort[] = {
      {"bf16", DType::bfloat16},          {"fp16", DType::float16},        {"half", DType::float16},
      {"fp32", DType::float32},           {"float", DType::float32},       {"fp64", DType::float64},
      {"fp8_e4m3", DType::float8_e4m3fn}, {"fp8_e5m2", DType::float8_e5m2}};
  for (const auto& [text, dtype] : kShort) {
    if (text == name) return dtype;
  }
  if (const auto dtype = dtype_from_name(name)) return *dtype;
  usage(fmt::format("--dtype {}: no such dtype", name));
}

std::pair<std::string, std::string> split_pair(const std::string& option, const std::string& text) {
  const auto equals = text.find('=');
  if (equals == std::string::npos) usage(fmt::format("{} {}: expected OLD=NEW", option, text));
  return {text.substr(0, equals), text.substr(equals + 1)};
}

// What was done, for the report.
struct Conversion {
  Value value;
  SafetensorsMetadata metadata;       ///< of the input, without what it says about tied tensors
  std::vector<std::string> left_out;  ///< what the output does not hold
  std::vector<std::string> notes;     ///< what is there in another form
  std::uint64_t file_size = 0;
};

Value change_contents(const Value& value, const ConvertOptions& options, FileFormat format,
                      std::vector<std::string>& left_out) {
  Value result = value;
  if (!options.only.empty()) result = select_parts(result, options.only);
  if (format == FileFormat::torch_script) result = flatten_module(result, left_out);
  if (options.flatten_modules) result = flatten_modules(result);
  std::vector<Renaming> renamings;
  for (const std::string& prefix : options.strip_prefixes) renamings.push_back({prefix, ""});
  for (const std::string& renaming : options.renamings) {
    auto [from, to] = split_pair("--rename", renaming);
    renamings.push_back({std::move(from), std::move(to)});
  }
  if (!renamings.empty()) result = rename_parameters(result, renamings);
  if (!options.dtype.empty()) result = cast_model(result, parse_dtype(options.dtype));
  return result;
}

bool has_module(const Value& value) {
  bool found = false;
  walk(value, [&found](const Visit& visit) {
    found = found || is_module(visit.value);
    return found ? Next::stop : Next::inside;
  });
  return found;
}

// What to do about a whole pickled module, where there is one.
std::string_view module_advice(const Value& value) {
  return has_module(value) ? "; --flatten-modules turns the whole modules among them into state dicts" : "";
}

// Objects that a .pt file for PyTorch's safe loader cannot hold: left out when that was asked for, else an error.
void remove_objects(Conversion& conversion, bool drop) {
  Value without = conversion.value;
  const std::vector<std::string> objects = drop_objects(without);
  if (objects.empty()) return;
  if (!drop) {
    throw Error(Code::unsupported,
                fmt::format("PyTorch's safe loader could not read: {}; --drop-objects leaves them out{}",
                            fmt::join(objects, ", "), module_advice(conversion.value)));
  }
  conversion.value = without;
  conversion.left_out.insert(conversion.left_out.end(), objects.begin(), objects.end());
}

void prepare_for_torch(Conversion& conversion, const ConvertOptions& options) {
  remove_objects(conversion, options.drop_objects);
  for (const auto& [name, text] : conversion.metadata) {
    conversion.left_out.push_back(fmt::format("metadata {} ({})", name, one_line(Value(text))));
  }
}

SafetensorsMetadata make_metadata(const Conversion& conversion, const ConvertOptions& options) {
  SafetensorsMetadata metadata = conversion.metadata;
  const auto set = [&](std::string name, std::string text) {
    std::erase_if(metadata, [&](const auto& entry) { return entry.first == name; });
    if (!text.empty()) metadata.emplace_back(std::move(name), std::move(text));
  };
  // Hugging Face's loaders refuse a file without it.
  if (std::none_of(metadata.begin(), metadata.end(), [](const auto& entry) { return entry.first == "format"; }))
    set("format", "pt");
  for (const std::string& entry : options.metadata) {
    auto [name, text] = split_pair("--metadata", entry);
    set(std::move(name), std::move(text));
  }
  return metadata;
}

// The tensors of the conversion by their paths.
Value flat_tensors(Conversion& conversion) {
  FlatTensors flat = flatten_for_safetensors(conversion.value);
  conversion.left_out.insert(conversion.left_out.end(), flat.left_out.begin(), flat.left_out.end());
  if (flat.tensors.empty()) {
    throw Error(Code::unsupported, fmt::format("there is no tensor to write; left out: {}{}",
                                               fmt::join(conversion.left_out, ", "), module_advice(conversion.value)));
  }
  return flat.tensors;
}

SafetensorsPlan plan_tensors(Conversion& conversion, const Value& tensors, const ConvertOptions& options) {
  SafetensorsPlan planned = plan_safetensors(tensors, make_metadata(conversion, options));
  for (const auto& [name, kept] : planned.tied)
    conversion.notes.push_back(fmt::format("{} is tied to {}: recorded in the metadata", name, kept));
  for (const std::string& name : planned.copied)
    conversion.notes.push_back(fmt::format("{} shared memory with other tensors: it is a copy now", name));
  return planned;
}

// "5GB", "500MB", "2GiB", as transformers has it.
std::uint64_t parse_size(const std::string& text) {
  constexpr std::pair<std::string_view, std::uint64_t> kUnits[] = {{"KiB", 1ULL << 10}, {"MiB", 1ULL << 20},
                                                                   {"GiB", 1ULL << 30}, {"KB", 1000},
                                                                   {"MB", 1'000'000},   {"GB", 1'000'000'000}};
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(parsed.ptr, static_cast<std::size_t>(text.data() + text.size() - parsed.ptr));
  for (const auto& [name, bytes] : kUnits) {
    const auto size = checked_mul(number, bytes);
    if (parsed.ec == std::errc() && number > 0 && unit == name && size) return *size;
  }
  usage(fmt::format("--max-shard-size {}: expected a size such as 5GB or 500MB", text));
}

// Files of tensors in a folder of their own, and the index that says which tensor is where; it comes last.
void write_shards(Conversion& conversion, const Value& tensors, const ConvertOptions& options, bool shows_progress) {
  const std::string folder = options.output.substr(0, options.output.find_last_not_of('/') + 1);
  const std::vector<Value> parts = split_tensors(tensors, parse_size(options.max_shard_size));
  std::vector<std::pair<std::string, std::string>> files;
  std::uint64_t total = 0;
  make_directories(posix_fs(), folder);
  if (!options.force && !posix_fs().list(folder).empty())
    throw Error(Code::invalid_argument, "the folder is not empty; --force writes into it all the same",
                {.file = folder, .record = {}, .offset = {}, .key = {}});
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string name = safetensors_shard_name(i + 1, parts.size());
    SafetensorsPlan planned = plan_tensors(conversion, parts[i], options);
    for (const Entry& entry : parts[i].items()) {
      const std::string& tensor = entry.key.as_string();
      const bool is_tied = std::any_of(planned.tied.begin(), planned.tied.end(),
                                       [&tensor](const auto& names) { return names.first == tensor; });
      if (!is_tied) files.emplace_back(tensor, name);
    }
    for (const Extent& extent : planned.plan.extents) total += extent.is_payload ? extent.size : 0;
    conversion.file_size += planned.plan.file_size;
    Target(folder + "/" + name, options.force).write(std::move(planned.plan), shows_progress);
  }
  if (parts.size() == 1) return;
  Target(folder + "/model.safetensors.index.json", options.force).write(safetensors_index(total, files));
}

enum class OutputFormat : std::uint8_t { torch, safetensors, folder };

OutputFormat output_format(const ConvertOptions& options) {
  if (options.to == "safetensors") return OutputFormat::safetensors;
  if (options.to == "pt") return OutputFormat::torch;
  if (options.to == "folder") return OutputFormat::folder;
  if (options.output == "-") usage("the output has no name to tell its format: --to pt or --to safetensors");
  if (options.output.ends_with('/')) return OutputFormat::folder;
  return options.output.ends_with(".safetensors") ? OutputFormat::safetensors : OutputFormat::torch;
}

std::string_view name_of(OutputFormat format) {
  switch (format) {
    case OutputFormat::torch:
      return "torch.save zip";
    case OutputFormat::safetensors:
      return "safetensors";
    default:
      return to_string(FileFormat::dcp);
  }
}

// What the output has no place for, with --strict.
void check_strict(const Conversion& conversion, const ConvertOptions& options, OutputFormat format,
                  const std::string& input) {
  if (!options.strict || conversion.left_out.empty()) return;
  throw Error(Code::unsupported,
              fmt::format("{} has no place for: {}", format == OutputFormat::safetensors ? "safetensors" : "a .pt file",
                          fmt::join(conversion.left_out, ", ")),
              {.file = input, .record = {}, .offset = {}, .key = {}});
}

void report(Session& session, const ConvertOptions& options, const OpenedCheckpoint& opened,
            const Conversion& conversion, OutputFormat format) {
  if (session.json) {
    JsonWriter json(session.out);
    json.begin_document("torchkeep.convert/1");
    json.member("input", opened.path);
    json.member("input_format", opened.format);
    json.member("output", options.output);
    json.member("output_format", name_of(format));
    json.member("file_size", conversion.file_size);
    json.member("left_out", conversion.left_out);
    json.member("notes", conversion.notes);
    json.end_document();
    return;
  }
  if (session.quiet) return;
  Output& out = session.out;
  out.line(fmt::format("{}: {}, {}", printable(options.output), name_of(format), human_size(conversion.file_size)));
  for (const std::string& note : conversion.notes) out.line("  " + printable(note));
  if (conversion.left_out.empty()) return;
  out.line(out.styled(Style::warning, fmt::format("left out, for the format has no place for it ({}):",
                                                  counted(conversion.left_out.size(), "part"))));
  for (const std::string& part : conversion.left_out) out.line("  " + printable(part));
}

void write_file(Conversion& conversion, const Target& target, Plan plan, const Session& session) {
  conversion.file_size = plan.file_size;
  target.write(std::move(plan), session.progress());
}

// Says in an error which file cannot be converted.
template <class Make>
auto made_of(const OpenedCheckpoint& opened, Make make) -> decltype(make()) {
  try {
    return make();
  } catch (const Error& error) {
    throw error.at({.file = opened.path, .record = {}, .offset = {}, .key = {}});
  }
}

}  // namespace

int run_convert(Session& session, const ConvertOptions& options) {
  const OutputFormat format = output_format(options);
  const bool has_shards = format == OutputFormat::safetensors && options.output.ends_with('/');
  const Target target(options.output, options.force || format == OutputFormat::folder || has_shards);
  const OpenedCheckpoint opened = open_to_look(options.input);
  Conversion conversion;
  conversion.metadata = opened.metadata;
  Value value = opened.value;
  for (const std::string& name : restore_tied(value, opened.metadata)) {
    conversion.notes.push_back(fmt::format("{} shares its memory again", name));
    std::erase_if(conversion.metadata, [&](const auto& entry) { return entry.first == name; });
  }
  conversion.value = change_contents(value, options, opened.kind, conversion.left_out);
  if (format == OutputFormat::safetensors) {
    const Value tensors = made_of(opened, [&] { return flat_tensors(conversion); });
    check_strict(conversion, options, format, opened.path);
    if (has_shards)
      write_shards(conversion, tensors, options, session.progress());
    else
      write_file(conversion, target, made_of(opened, [&] { return plan_tensors(conversion, tensors, options).plan; }),
                 session);
  } else {
    prepare_for_torch(conversion, options);
    check_strict(conversion, options, format, opened.path);
    if (format == OutputFormat::folder)
      conversion.file_size = target.write_folder(conversion.value, session.progress());
    else
      write_file(conversion, target, made_of(opened, [&] { return plan_pt(conversion.value); }), session);
  }
  if (!target.is_stream()) report(session, options, opened, conversion, format);
  return kGood;
}

}  // namespace torchkeep::cli
