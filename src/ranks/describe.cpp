// SPDX-License-Identifier: BSD-3-Clause
// Ranks in the words of people.
#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/ranks/machine.h>

namespace torchkeep {
namespace {

constexpr std::size_t kRuns = 8;  // named; a job of 10,000 ranks would fill the screen

const std::string& host_of(std::size_t rank, std::span<const std::string> hosts) {
  static const std::string none;
  return rank < hosts.size() ? hosts[rank] : none;
}

}  // namespace

std::string describe_ranks(std::span<const std::size_t> ranks, std::span<const std::string> hosts) {
  std::vector<std::size_t> sorted(ranks.begin(), ranks.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::string list;
  std::size_t runs = 0;
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t end = i + 1;
    while (end < sorted.size() && sorted[end] == sorted[end - 1] + 1 &&
           host_of(sorted[end], hosts) == host_of(sorted[i], hosts)) {
      ++end;
    }
    if (++runs > kRuns) return fmt::format("ranks {} and {} more", list, sorted.size() - i);
    const std::string& host = host_of(sorted[i], hosts);
    list += list.empty() ? "" : ", ";
    list += end - i == 1 ? fmt::format("{}", sorted[i]) : fmt::format("{}-{}", sorted[i], sorted[end - 1]);
    if (!host.empty()) list += fmt::format(" ({})", host);
    i = end;
  }
  return fmt::format("{} {}", sorted.size() == 1 ? "rank" : "ranks", list);
}

}  // namespace torchkeep
