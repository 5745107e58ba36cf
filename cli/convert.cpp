// SPDX-License-Identifier: BSD-3-Clause
// torchkeep convert: another format, other dtypes, other names, or a part only.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/checkpoint/convert.h>
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

Plan plan_torch(Conversion& conversion, const ConvertOptions& options) {
  prepare_for_torch(conversion, options);
  return plan_pt(conversion.value);
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

Plan plan_tensors(Conversion& conversion, const ConvertOptions& options) {
  FlatTensors flat = flatten_for_safetensors(conversion.value);
  conversion.left_out.insert(conversion.left_out.end(), flat.left_out.begin(), flat.left_out.end());
  if (flat.tensors.empty()) {
    throw Error(Code::unsupported, fmt::format("there is no tensor to write; left out: {}{}",
                                               fmt::join(conversion.left_out, ", "), module_advice(conversion.value)));
  }
  SafetensorsPlan planned = plan_safetensors(flat.tensors, make_metadata(conversion, options));
  for (const auto& [name, kept] : planned.tied)
    conversion.notes.push_back(fmt::format("{} is tied to {}: recorded in the metadata", name, kept));
  for (const std::string& name : planned.copied)
    conversion.notes.push_back(fmt::format("{} shared memory with other tensors: it is a copy now", name));
  return std::move(planned.plan);
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

}  // namespace

int run_convert(Session& session, const ConvertOptions& options) {
  const OutputFormat format = output_format(options);
  const Target target(options.output, options.force || format == OutputFormat::folder);
  const OpenedCheckpoint opened = open_to_look(options.input);
  Conversion conversion;
  conversion.metadata = opened.metadata;
  Value value = opened.value;
  for (const std::string& name : restore_tied(value, opened.metadata)) {
    conversion.notes.push_back(fmt::format("{} shares its memory again", name));
    std::erase_if(conversion.metadata, [&](const auto& entry) { return entry.first == name; });
  }
  conversion.value = change_contents(value, options, opened.kind, conversion.left_out);
  if (format == OutputFormat::folder) {
    prepare_for_torch(conversion, options);
    check_strict(conversion, options, format, opened.path);
    conversion.file_size = target.write_folder(conversion.value, session.progress());
  } else {
    Plan plan =
        format == OutputFormat::safetensors ? plan_tensors(conversion, options) : plan_torch(conversion, options);
    check_strict(conversion, options, format, opened.path);
    conversion.file_size = plan.file_size;
    target.write(std::move(plan), session.progress());
  }
  if (!target.is_stream()) report(session, options, opened, conversion, format);
  return kGood;
}

}  // namespace torchkeep::cli
