// SPDX-License-Identifier: BSD-3-Clause
// Reads the metrics log line by line, and the learning rates out of the checkpoints.
#include <algorithm>
#include <cerrno>
#include <fmt/format.h>
#include <map>
#include <optional>

#include <torchkeep/checkpoint/sections.h>
#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/curves.h>
#include <torchkeep/run/names.h>
#include <torchkeep/run/schema.h>

#include "places.h"

namespace torchkeep {
namespace {

constexpr std::uint64_t kBlock = std::uint64_t{1} << 20;
constexpr std::size_t kLongestLine = std::size_t{16} << 20;  // what is longer is no line of ours

/// Curves by name, in the order of their first point.
class Collector {
 public:
  explicit Collector(std::vector<Curve>& curves) : curves_(curves) {}

  void add(const std::string& name, std::int64_t step, double value) {
    const auto [entry, is_new] = index_.emplace(name, curves_.size());
    if (is_new) curves_.push_back({name, {}, {}});
    Curve& curve = curves_[entry->second];
    curve.steps.push_back(step);
    curve.values.push_back(value);
  }

 private:
  std::vector<Curve>& curves_;
  std::map<std::string, std::size_t> index_;
};

bool add_line(std::string_view line, Collector& metrics) {
  const auto parsed = schema::parse_metrics_line(line);
  if (!parsed) return false;
  for (const auto& [name, number] : parsed->numbers) metrics.add(name, parsed->step, number);
  return true;
}

void read_log(const ReadAt& file, RunCurves& curves) {
  Collector metrics(curves.metrics);
  std::string rest;
  const auto take = [&](std::string_view line) {
    if (!line.empty() && !add_line(line, metrics)) ++curves.bad_lines;
  };
  for (std::uint64_t done = 0; done < file.size();) {
    const std::uint64_t size = std::min(kBlock, file.size() - done);
    const std::size_t kept = rest.size();
    rest.resize(kept + static_cast<std::size_t>(size));
    file.read_at(done, std::as_writable_bytes(std::span(rest)).subspan(kept));
    done += size;
    std::size_t begin = 0;
    for (std::size_t end; (end = rest.find('\n', begin)) != std::string::npos; begin = end + 1) {
      take(std::string_view(rest).substr(begin, end - begin));
    }
    rest.erase(0, begin);
    if (rest.size() > kLongestLine) {
      throw Error(Code::refused, fmt::format("a line of more than {} bytes", kLongestLine), at_file(file.name()));
    }
  }
  // A last line without its end is being written just now, or was when its process was killed.
}

std::optional<double> rate_in(const Value& group) {
  const auto rate = group.is_mapping() ? group.find("lr") : std::nullopt;
  if (!rate) return std::nullopt;
  if (rate->is(Kind::real) || rate->is(Kind::integer)) return rate->to<double>();
  if (!rate->is(Kind::tensor) || rate->as_tensor().numel() != 1) return std::nullopt;
  if (rate->as_tensor().dtype == DType::float32) return rate->as_tensor().to_vector<float>().front();
  if (rate->as_tensor().dtype == DType::float64) return rate->as_tensor().to_vector<double>().front();
  return std::nullopt;
}

void add_rates(const Value& checkpoint, std::int64_t step, Collector& rates) {
  for (const SectionEntry& entry : sections_of(checkpoint)) {
    const auto groups = entry.section == Section::optimizer && entry.value.is_mapping()
                            ? entry.value.find("param_groups")
                            : std::nullopt;
    if (!groups || !groups->is(Kind::list)) continue;
    for (std::size_t i = 0; i < groups->size(); ++i) {
      const auto rate = rate_in(groups->elements()[i]);
      const std::string group = groups->size() == 1 ? "" : fmt::format(" group {}", i);
      if (rate) rates.add(fmt::format("lr of {}{}", entry.key, group), step, *rate);
    }
  }
}

}  // namespace

RunCurves read_curves(const std::string& directory, Fs& fs) {
  if (!fs.status(directory)) throw Error(Code::not_found, "no such folder", at_file(directory)).with_errno(ENOENT);
  RunCurves curves;
  const std::string log = in_directory(directory, names::kMetrics);
  if (fs.status(log)) read_log(*fs.open_read(log), curves);
  Collector rates(curves.learning_rates);
  const CheckpointStore store(fs, directory);
  for (const CheckpointInfo& one : store.list()) {
    try {
      const Value checkpoint = store.structure(one.path);
      add_rates(checkpoint, one.step, rates);
      if (checkpoint.is_mapping()) curves.resumed_at = schema::provenance_of(checkpoint).resumed_at;
    } catch (const Error& error) {
      if (error.code() == Code::io) throw;  // a damaged one has no point
    }
  }
  return curves;
}

}  // namespace torchkeep
