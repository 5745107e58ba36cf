// SPDX-License-Identifier: BSD-3-Clause
// Writing and reading what a run keeps.
#define JSON_ASSERT(condition) static_cast<void>(0)  // the library never ends the program
#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <nlohmann/json.hpp>

#include <torchkeep/run/schema.h>

namespace torchkeep::schema {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 4> kReserved = {kStep, kLayout, kMetrics, kProvenance};

// ---- Values

std::optional<Value> find(const Value& mapping, const char* key) {
  return mapping.is_mapping() ? mapping.find(key) : std::nullopt;
}

std::string string_at(const Value& mapping, const char* key) {
  const auto value = find(mapping, key);
  return value && value->is(Kind::string) ? value->as_string() : std::string();
}

std::optional<std::int64_t> integer_at(const Value& mapping, const char* key) {
  const auto value = find(mapping, key);
  return value && value->is(Kind::integer) ? value->as_integer().to_int64() : std::nullopt;
}

std::optional<BestBy> best_by_in(const Value& provenance) {
  const auto by = find(provenance, "best_by");
  const auto metric = by ? find(*by, "metric") : std::nullopt;
  if (!metric || !metric->is(Kind::string)) return std::nullopt;
  return BestBy{metric->as_string(), string_at(*by, "best") == "max" ? Best::max : Best::min};
}

std::optional<KeepRules> rules_in(const Value& provenance) {
  const auto keep = find(provenance, "keep");
  if (!keep || !keep->is_mapping()) return std::nullopt;
  return KeepRules{.last = integer_at(*keep, "last").value_or(0),
                   .every = integer_at(*keep, "every").value_or(0),
                   .best = integer_at(*keep, "best").value_or(0),
                   .by = best_by_in(provenance)};
}

std::vector<std::int64_t> resumes_in(const Value& provenance) {
  std::vector<std::int64_t> steps;
  const auto recorded = find(provenance, "resumed_at");
  if (!recorded || !recorded->is(Kind::list)) return steps;
  for (const Value& step : recorded->elements()) {
    if (step.is(Kind::integer)) steps.push_back(step.as_integer().to_int64().value_or(0));
  }
  return steps;
}

// ---- JSON

Json to_json(double number) {
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
  return number;
}

Json to_json(const Value& value) {
  switch (value.kind()) {
    case Kind::boolean:
      return value.as_boolean();
    case Kind::integer:
      if (const auto small = value.as_integer().to_int64()) return *small;
      return value.as_integer().to_decimal();
    case Kind::real:
      return to_json(value.as_real());
    case Kind::string:
      return value.as_string();
    default:
      return nullptr;
  }
}

std::optional<double> number_in(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const std::string& string = value.get_ref<const std::string&>();
  if (string == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (string == "Infinity") return std::numeric_limits<double>::infinity();
  if (string == "-Infinity") return -std::numeric_limits<double>::infinity();
  return std::nullopt;
}

/// The object of a line, when it has a step.
std::optional<Json> parse_line(std::string_view line) {
  Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const auto step = json.find(kStep);
  if (step == json.end() || !step->is_number_integer()) return std::nullopt;
  // A number that no step can be would be taken for another.
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (step->is_number_unsigned() && step->get<std::uint64_t>() > kMost) return std::nullopt;
  return json;
}

template <class Number>
bool take(const Json& json, const char* key, Number& number) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number()) return false;
  number = found->get<Number>();
  return true;
}

}  // namespace

bool is_reserved(std::string_view name) noexcept {
  return std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end();
}

Value to_value(const Provenance& provenance, const Value& extra) {
  Value value{{"torchkeep", Value::string(provenance.torchkeep)},
              {"host", Value::string(provenance.host)},
              {"pid", provenance.pid},
              {"time", Value::string(provenance.time)},
              {"parent_step", provenance.parent_step ? Value(*provenance.parent_step) : Value()},
              {"resumed_at", Value(provenance.resumed_at)}};
  if (const auto& keep = provenance.keep) {
    value.set("keep", Value{{"last", keep->last}, {"every", keep->every}, {"best", keep->best}});
  }
  if (const auto& by = provenance.best_by) {
    const char* const best = by->best == Best::min ? "min" : "max";
    value.set("best_by", Value{{"metric", Value::string(by->metric)}, {"best", best}});
  }
  for (const Entry& entry : extra.items()) value.set(entry.key, entry.value);
  return value;
}

Provenance provenance_of(const Value& checkpoint) {
  const auto said = find(checkpoint, kProvenance);
  if (!said) return {};
  return {.torchkeep = string_at(*said, "torchkeep"),
          .host = string_at(*said, "host"),
          .pid = integer_at(*said, "pid").value_or(0),
          .time = string_at(*said, "time"),
          .parent_step = integer_at(*said, "parent_step"),
          .resumed_at = resumes_in(*said),
          .keep = rules_in(*said),
          .best_by = best_by_in(*said)};
}

std::int64_t layout_of(const Value& checkpoint) {
  if (!checkpoint.is_mapping()) {
    throw Error(Code::corrupt, "expected the checkpoint of a run, a dict with a step; found another file",
                checkpoint.where());
  }
  const auto layout = checkpoint.find(kLayout);
  if (!layout) return 1;
  // More than an int64 holds is a later layout, too.
  const bool is_integer = layout->is(Kind::integer);
  const auto small = is_integer ? layout->as_integer().to_int64() : std::nullopt;
  if (!is_integer || (small ? *small < 1 : layout->as_integer().is_negative())) {
    throw Error(Code::corrupt, "expected layout_version to be an integer from 1 on", layout->where());
  }
  if (small && *small <= kLayoutVersion) return *small;
  const std::string writer = provenance_of(checkpoint).torchkeep;
  throw Error(Code::unsupported,
              fmt::format("layout_version {} was written by {}; this is torchkeep {}, which reads layouts up to {}: "
                          "resume with {}",
                          layout->as_integer().to_decimal(),
                          writer.empty() ? "a later torchkeep" : "torchkeep " + writer, TORCHKEEP_VERSION,
                          kLayoutVersion, writer.empty() ? "that version" : "torchkeep " + writer + " or later"),
              layout->where());
}

std::int64_t step_of(const Value& checkpoint) {
  layout_of(checkpoint);
  const auto step = integer_at(checkpoint, kStep);
  if (step) return *step;
  throw Error(Code::corrupt, "expected the checkpoint of a run, a dict with a step; found another file",
              checkpoint.where());
}

Value metrics_of(const Value& checkpoint) {
  return find(checkpoint, kMetrics).value_or(Value());
}

std::optional<double> metric_in(const Value& metrics, std::string_view name) {
  const auto metric = metrics.is_mapping() ? metrics.find(Value::string(std::string(name))) : std::nullopt;
  if (!metric) return std::nullopt;
  switch (metric->kind()) {
    case Kind::boolean:
      return metric->as_boolean() ? 1 : 0;
    case Kind::integer:
    case Kind::real:
      return metric->to<double>();
    default:
      return std::nullopt;
  }
}

std::string metrics_line(std::int64_t step, const Value& metrics) {
  Json line = {{kStep, step}};
  for (const Entry& entry : metrics.items()) line[entry.key.as_string()] = to_json(entry.value);
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<MetricsLine> parse_metrics_line(std::string_view line) {
  const auto json = parse_line(line);
  if (!json) return std::nullopt;
  MetricsLine parsed{(*json)[kStep].get<std::int64_t>(), {}};
  for (const auto& [name, value] : json->items()) {
    const auto number = name == kStep ? std::nullopt : number_in(value);
    if (number) parsed.numbers.emplace_back(name, *number);
  }
  return parsed;
}

std::string save_line(const SaveMetrics& save) {
  return fmt::format(
      R"({{"step":{},"bytes":{},"seconds":{:.6f},"gb_per_s":{:.3f},"blocked_seconds":{:.6f},"staged_bytes":{},"background":{}}})"
      "\n",
      save.step, save.bytes, save.seconds, save.bytes_per_second() / 1e9, save.blocked_seconds, save.staged_bytes,
      save.background);
}

std::optional<SaveMetrics> parse_save_line(std::string_view line) {
  const auto json = parse_line(line);
  if (!json) return std::nullopt;
  SaveMetrics save{.step = (*json)[kStep].get<std::int64_t>()};
  const bool is_whole = take(*json, "bytes", save.bytes) && take(*json, "seconds", save.seconds) &&
                        take(*json, "blocked_seconds", save.blocked_seconds) &&
                        take(*json, "staged_bytes", save.staged_bytes);
  const auto background = json->find("background");
  if (!is_whole || background == json->end() || !background->is_boolean()) return std::nullopt;
  save.background = background->get<bool>();
  return save;
}

}  // namespace torchkeep::schema
