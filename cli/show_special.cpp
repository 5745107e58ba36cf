// SPDX-License-Identifier: BSD-3-Clause
// Forms of their own: param_groups as a table, the states of random generators.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <span>

#include <torchkeep/state/walk.h>

#include "show.h"
#include "text.h"

namespace torchkeep::cli {
namespace {

// torch.get_rng_state(): CPUGeneratorImplState, which begins with the old format's seed (u64), left (i32), seeded
// (i32), next (u64) and the 624 words of the Mersenne twister as u64.
constexpr std::uint64_t kMersenneBytes = 5056;
// torch.cuda.get_rng_state(): seed (u64) and Philox offset (i64).
constexpr std::uint64_t kPhiloxBytes = 16;
constexpr std::uint64_t kMersenneWords = 624;

template <class T>
T field(const std::string& bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

std::vector<std::string> generator_lines(const Tensor& tensor) {
  if (tensor.dtype != DType::uint8 || tensor.dim() != 1) return {};
  if (tensor.nbytes() != kMersenneBytes && tensor.nbytes() != kPhiloxBytes) return {};
  const std::string bytes = tensor.contiguous_bytes();
  const auto seed = field<std::uint64_t>(bytes, 0);
  if (tensor.nbytes() == kPhiloxBytes) {
    return {fmt::format("a CUDA generator (Philox): seed {}, offset {}", seed, field<std::int64_t>(bytes, 8))};
  }
  const auto left = field<std::int32_t>(bytes, 8);
  const auto seeded = field<std::int32_t>(bytes, 12);
  if (left < 0 || static_cast<std::uint64_t>(left) > kMersenneWords || seeded < 0 || seeded > 1) return {};
  return {fmt::format("torch's CPU generator (Mersenne twister): seed {}, {} of {} words left", seed, left,
                      kMersenneWords)};
}

// random.getstate(): (3, 625 integers, None or a float). numpy.random.get_state(): ('MT19937', words, position, ...).
std::vector<std::string> python_generator_lines(const Value& value) {
  if (!value.is(Kind::tuple) || value.size() < 3) return {};
  const Value first = value[0], second = value[1];
  const bool is_python =
      first.is(Kind::integer) && first == Value(3) && second.is(Kind::tuple) && second.size() == kMersenneWords + 1;
  if (is_python) {
    return {fmt::format("Python's random (Mersenne twister): position {}",
                        one_line(second[static_cast<std::int64_t>(kMersenneWords)]))};
  }
  if (first.is(Kind::string) && first.as_string() == "MT19937") {
    return {fmt::format("NumPy's random (Mersenne twister): position {}", one_line(value[2]))};
  }
  return {};
}

constexpr std::size_t kMostGroups = 8;  // side by side

// All keys of the mappings, in the order of their first use.
std::vector<Value> keys_of(std::span<const Value> mappings) {
  std::vector<Value> keys;
  Value known = Value::mapping(Kind::dict);
  for (const Value& mapping : mappings) {
    for (const Entry& entry : mapping.items()) {
      if (known.contains(entry.key)) continue;
      known.set(entry.key, {});
      keys.push_back(entry.key);
    }
  }
  return keys;
}

// One row per option, one column per group.
std::vector<std::string> group_lines(const Session& session, const Value& groups) {
  if (!groups.is(Kind::list) || groups.empty()) return {};
  const auto all = groups.elements();
  const bool are_groups = std::all_of(
      all.begin(), all.end(), [](const Value& group) { return group.is_mapping() && group.contains("params"); });
  if (!are_groups) return {};
  const auto shown = all.first(std::min(all.size(), kMostGroups));
  const std::size_t room = static_cast<std::size_t>(std::max(session.out.width() - 24, 24)) / shown.size();
  Table table(std::vector<Table::Align>(shown.size() + 1, Table::Align::left));
  std::vector<Table::Cell> head = {{""}};
  for (std::size_t i = 0; i < shown.size(); ++i) head.emplace_back(fmt::format("group {}", i), Style::heading);
  table.add(std::move(head));
  for (const Value& option : keys_of(shown)) {
    std::vector<Table::Cell> row = {{printable(Step{Step::Kind::key, option, 0, {}}.shown()), Style::key}};
    for (const Value& group : shown) {
      const auto value = group.find(option);
      row.emplace_back(value ? one_line(*value, std::max<std::size_t>(room, 12)) : "");
    }
    table.add(std::move(row));
  }
  std::vector<std::string> lines = table.lines(session.out);
  if (all.size() > shown.size()) lines.push_back(fmt::format("... {} groups in all", grouped(all.size())));
  return lines;
}

}  // namespace

std::vector<std::string> special_lines(const Session& session, std::string_view key, const Value& value) {
  if (value.is(Kind::tensor)) return generator_lines(value.as_tensor());
  if (value.is(Kind::tuple)) return python_generator_lines(value);
  const bool is_groups = key == "param_groups" || key.ends_with(".param_groups");
  return is_groups ? group_lines(session, value) : std::vector<std::string>();
}

}  // namespace torchkeep::cli
