// SPDX-License-Identifier: BSD-3-Clause
// Reads the list of items in the tail of a rank's file.
#include "items.h"

#include "columns.h"

namespace torchkeep {

std::vector<ByteRange> rank_file_items(const std::shared_ptr<const ReadAt>& file, const Limits& limits) {
  std::vector<ByteRange> items;
  try {
    PtReadOptions options;
    options.limits = limits;
    const Value about = dcp::field(read_pt(file, options), "torchkeep");
    if (dcp::text_field(about, "format") != "rank file") return {};
    const Value table = dcp::field(about, "items");
    if (!table.is(Kind::tensor) || table.as_tensor().dtype != DType::int64) return {};
    const std::vector<std::int64_t> numbers = table.as_tensor().to_vector<std::int64_t>();
    std::uint64_t at = 0;
    for (std::size_t i = 0; i + 1 < numbers.size(); i += 2) {
      const auto begin = static_cast<std::uint64_t>(numbers[i]), size = static_cast<std::uint64_t>(numbers[i + 1]);
      if (numbers[i] < 0 || numbers[i + 1] < 0 || begin < at || begin > file->size() || size > file->size() - begin)
        return {};
      items.push_back({begin, size});
      at = begin + size;
    }
  } catch (const Error& error) {
    if (error.code() == Code::io) throw;
    return {};
  }
  return items;
}

}  // namespace torchkeep
