// SPDX-License-Identifier: BSD-3-Clause
// Writing and parsing the names in a run directory.
#include <charconv>
#include <fmt/format.h>

#include <torchkeep/run/names.h>

namespace torchkeep::names {
namespace {

constexpr std::size_t kDigits = 8;

/// The step between `prefix` and `suffix`; only the way it is written here, so that no step has two names.
std::optional<std::int64_t> parse(std::string_view name, std::string_view prefix, std::string_view suffix) noexcept {
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return std::nullopt;
  if (name.size() < prefix.size() + kDigits + suffix.size()) return std::nullopt;
  const std::string_view digits = name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
  if (digits.front() == '-' || (digits.size() > kDigits && digits.front() == '0')) return std::nullopt;
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return step;
}

}  // namespace

std::string checkpoint(std::int64_t step) {
  return fmt::format("step-{:08}.pt", step);
}
std::optional<std::int64_t> parse_checkpoint(std::string_view name) noexcept {
  return parse(name, "step-", ".pt");
}

std::string pin(std::int64_t step) {
  return fmt::format("pin-{:08}", step);
}
std::optional<std::int64_t> parse_pin(std::string_view name) noexcept {
  return parse(name, "pin-", "");
}

std::string finished(std::int64_t step) {
  return fmt::format("finished-{:08}", step);
}
std::optional<std::int64_t> parse_finished(std::string_view name) noexcept {
  return parse(name, "finished-", "");
}

std::string broken(std::int64_t step, int number) {
  return number == 1 ? checkpoint(step) + ".broken" : fmt::format("{}.broken-{}", checkpoint(step), number);
}
std::optional<std::int64_t> parse_broken(std::string_view name) noexcept {
  const std::size_t mark = name.rfind(".broken");
  return mark == std::string_view::npos ? std::nullopt : parse_checkpoint(name.substr(0, mark));
}

std::string doomed(std::int64_t step) {
  return fmt::format(".{}.doomed", checkpoint(step));
}
std::optional<std::int64_t> parse_doomed(std::string_view name) noexcept {
  return parse(name, ".step-", ".pt.doomed");
}

}  // namespace torchkeep::names
