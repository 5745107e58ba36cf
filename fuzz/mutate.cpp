// SPDX-License-Identifier: BSD-3-Clause
// Changes files as what they are, so that changes get past lengths and checksums.
#include <algorithm>
#include <cstring>
#include <random>

#include "pickle/allow_list.h"
#include "pickle/opcodes.h"
#include "support/file_parts.h"
#include "support/pt_files.h"
#include "targets.h"
#include "zip/zip.h"

namespace torchkeep::fuzz {
namespace {

using namespace testing;
using pickle::Op;
using Change = std::string (*)(std::string);

class Mutator {
 public:
  Mutator(unsigned seed, Change change) : random_(seed), change_(change) {}

  std::string any(std::string_view target, std::string bytes) {
    if (below(4) == 0) return change_(std::move(bytes));
    if (target == "pickle" || (target == "dcp" && !bytes.starts_with("PK"))) return change_pickle(bytes);
    if (target == "plot" || target == "run_directory") return change_log(std::move(bytes));
    if (bytes.starts_with("PK\3\4")) return change_zip(bytes);
    if (bytes.size() > 512 && bytes.substr(257, 5) == "ustar") return change_tar(bytes);
    if (bytes.size() > 9 && (bytes[8] == '{' || target == "safetensors")) return change_safetensors(bytes);
    return change_pickles(bytes);
  }

 private:
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  template <class T>
  const T& pick(const std::vector<T>& items) {
    return items[below(items.size())];
  }

  // --- Pickles

  // Bytes of the instruction at `i`; up to the end when it does not fit.
  static std::size_t instruction_size(std::string_view text, std::size_t i) {
    const std::size_t rest = text.size() - i;
    const auto sized = [&](std::size_t field) {
      std::uint64_t length = 0;
      if (rest < 1 + field) return rest;
      std::memcpy(&length, text.data() + i + 1, field);
      return length > rest - 1 - field ? rest : static_cast<std::size_t>(1 + field + length);
    };
    const auto lines = [&](int count) {
      std::size_t end = i;
      for (; count > 0 && end != std::string_view::npos; --count) end = text.find('\n', end + 1);
      return end == std::string_view::npos ? rest : end + 1 - i;
    };
    switch (static_cast<Op>(text[i])) {
      case Op::proto:
      case Op::bin_int1:
      case Op::bin_get:
      case Op::bin_put:
        return std::min<std::size_t>(rest, 2);
      case Op::bin_int2:
        return std::min<std::size_t>(rest, 3);
      case Op::bin_int:
      case Op::long_bin_get:
      case Op::long_bin_put:
        return std::min<std::size_t>(rest, 5);
      case Op::bin_float:
      case Op::frame:
        return std::min<std::size_t>(rest, 9);
      case Op::global:
      case Op::inst:
        return lines(2);
      case Op::int_text:
      case Op::long_text:
      case Op::float_text:
      case Op::string:
      case Op::unicode:
      case Op::pers_id:
      case Op::get:
      case Op::put:
        return lines(1);
      case Op::long1:
      case Op::short_bin_string:
      case Op::short_bin_unicode:
      case Op::short_bin_bytes:
        return sized(1);
      case Op::long4:
      case Op::bin_string:
      case Op::bin_unicode:
      case Op::bin_bytes:
        return sized(4);
      case Op::bin_unicode8:
      case Op::bin_bytes8:
      case Op::byte_array8:
        return sized(8);
      default:
        return 1;
    }
  }

  static std::vector<std::string> instructions(std::string_view text) {
    std::vector<std::string> all;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t size = instruction_size(text, i);
      all.emplace_back(text.substr(i, size));
      i += size;
    }
    return all;
  }

  // Instructions that push something, or do something to what is there.
  std::string new_instruction() {
    static const std::vector<std::string> kOnes = {
        "N", "]", "}", ")", "(",    "t",    "l",    "d",    "\x85", "\x86", "\x87", "0",    "1",    "2", "a", "e",
        "s", "u", "b", "R", "\x81", "\x88", "\x89", "\x8f", "\x90", "\x91", "\x92", "\x93", "\x94", "Q", "o"};
    static const std::vector<std::int64_t> kNumbers = {0,
                                                       1,
                                                       2,
                                                       4,
                                                       16,
                                                       -1,
                                                       255,
                                                       65536,
                                                       1ll << 31,
                                                       1ll << 62,
                                                       std::numeric_limits<std::int64_t>::max(),
                                                       std::numeric_limits<std::int64_t>::min()};
    switch (below(6)) {
      case 0:
        return parts::number(pick(kNumbers));
      case 1: {
        const auto& known = pickle::kAllowed[below(std::size(pickle::kAllowed))];
        return parts::global(known.module, known.name);
      }
      case 2:
        return std::string("q") + static_cast<char>(below(8));
      case 3:
        return std::string("h") + static_cast<char>(below(8));
      case 4:
        return parts::tensor(parts::storage("0", 4), 0, {static_cast<std::int64_t>(below(5))}, {1});
      default:
        return pick(kOnes);
    }
  }

  // An instruction with its text changed and its length right again.
  std::string change_operand(const std::string& instruction) {
    const auto op = static_cast<Op>(instruction[0]);
    if (op == Op::bin_unicode && instruction.size() >= 5) return parts::text(change_(instruction.substr(5)));
    if (op == Op::long1 && instruction.size() >= 2) {
      const std::string bytes = change_(instruction.substr(2)).substr(0, 255);
      return instruction.substr(0, 1) + static_cast<char>(bytes.size()) + bytes;
    }
    return instruction.substr(0, 1) + change_(instruction.substr(1));
  }

  std::string change_pickle(std::string_view bytes) {
    std::vector<std::string> all = instructions(bytes);
    for (std::size_t n = 1 + below(3); n > 0; --n) {
      const std::size_t i = below(all.size() + 1);
      const bool inside = i < all.size();
      switch (below(6)) {
        case 0:
          if (inside) all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
          break;
        case 1:
          if (inside) all.insert(all.begin() + static_cast<std::ptrdiff_t>(below(all.size())), std::string(all[i]));
          break;
        case 2:
          if (inside) std::swap(all[i], all[below(all.size())]);
          break;
        case 3:
          if (inside) all[i] = change_operand(all[i]);
          break;
        case 4:
          if (inside) all[i] = new_instruction();
          break;
        default:
          all.insert(all.begin() + static_cast<std::ptrdiff_t>(i), new_instruction());
      }
    }
    std::string out;
    for (const std::string& instruction : all) out += instruction;
    return out;
  }

  // One of the pickles that follow one another, up to STOP each.
  std::string change_pickles(const std::string& bytes) {
    std::vector<std::pair<std::size_t, std::size_t>> places;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < bytes.size();) {
      const std::size_t size = instruction_size(bytes, i);
      i += size;
      if (bytes[i - size] == '.') places.emplace_back(begin, i), begin = i;
    }
    places.emplace_back(begin, bytes.size());
    const auto [from, to] = pick(places);
    return bytes.substr(0, from) + change_pickle(std::string_view(bytes).substr(from, to - from)) + bytes.substr(to);
  }

  // --- Containers

  std::string change_zip(const std::string& bytes) {
    std::vector<parts::Record> records;
    try {
      const zip::Reader zip(as_file(bytes), {});
      for (const zip::Record& record : zip.records()) {
        records.push_back(
            {.name = zip.name(record), .data = zip.read(record, false, 1 << 20), .deflate = record.method != 0});
      }
    } catch (const Error&) {
      return change_(bytes);
    }
    const std::size_t i = below(records.size());
    parts::Record& record = records[i];
    const auto some = [&] { return static_cast<std::uint32_t>(random_()); };
    switch (below(12)) {
      case 0:
        record.deflate = !record.deflate;
        break;
      case 1:
        record.name = change_(record.name);
        break;
      case 2:
        std::swap(record, records[below(records.size())]);
        break;
      case 3:
        records.push_back(parts::Record(record));
        break;
      case 4:
        records.erase(records.begin() + static_cast<std::ptrdiff_t>(i));
        break;
      case 5:
        record.size = some(), record.stored_size = below(2) == 0 ? record.size : std::nullopt;
        break;
      case 6:
        record.offset = some() % static_cast<std::uint32_t>(bytes.size());
        break;
      case 7:
        record.flags = static_cast<std::uint16_t>(below(2) == 0 ? 8 : some());
        break;
      case 8:
        record.central_extra = change_(record.central_extra);
        break;
      default: {
        const auto found = std::find_if(records.begin(), records.end(),
                                        [](const parts::Record& r) { return r.name.ends_with("data.pkl"); });
        parts::Record& changed = found != records.end() && below(4) != 0 ? *found : record;
        changed.data = changed.name.ends_with(".pkl") ? change_pickle(changed.data) : change_(changed.data);
      }
    }
    return parts::zip(records);
  }

  std::string change_tar(const std::string& bytes) {
    constexpr std::size_t kBlock = 512;
    std::vector<std::pair<std::string, std::string>> members;
    for (std::size_t i = 0; i + kBlock <= bytes.size() && bytes[i] != '\0';) {
      const std::size_t size = std::strtoull(bytes.substr(i + 124, 11).c_str(), nullptr, 8);
      const std::string name = bytes.substr(i, 100).c_str();
      i += kBlock;
      if (size > bytes.size() - i) break;
      members.emplace_back(name, bytes.substr(i, size));
      i += (size + kBlock - 1) / kBlock * kBlock;
      if (i > bytes.size()) break;
    }
    if (members.empty()) return change_(bytes);
    auto& [name, data] = members[below(members.size())];
    if (below(10) == 0)
      name = change_(name).substr(0, 99);
    else
      data = below(3) == 0 ? change_(data) : change_pickles(data);
    return parts::tar(members);
  }

  std::string change_safetensors(const std::string& bytes) {
    static const std::vector<std::string> kWords = {"\"a\":",
                                                    "\"dtype\":",
                                                    "\"F32\"",
                                                    "\"BF16\"",
                                                    "\"F4\"",
                                                    "\"BOOL\"",
                                                    "\"shape\":",
                                                    "\"data_offsets\":",
                                                    "[0,8]",
                                                    "[]",
                                                    "[",
                                                    "]",
                                                    "{",
                                                    "}",
                                                    ",",
                                                    "0",
                                                    "8",
                                                    "18446744073709551615",
                                                    "-1",
                                                    "1e3",
                                                    "\"__metadata__\":",
                                                    "\"\\ud800\"",
                                                    "null",
                                                    " "};
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    if (length > bytes.size() - 8) return change_(bytes);
    std::string header = bytes.substr(8, length);
    std::string data = bytes.substr(8 + length);
    if (below(8) == 0)
      data = change_(data);
    else if (below(2) == 0)
      header.insert(below(header.size() + 1), pick(kWords));
    else
      header = change_(header);
    return parts::safetensors(header, data);
  }

  // A run's logs are lines of JSON.
  std::string change_log(std::string bytes) {
    static const std::vector<std::string> kWords = {"1.7e308",
                                                    "-1.7e308",
                                                    "5e-324",
                                                    "1e999",
                                                    "NaN",
                                                    "-Infinity",
                                                    "0",
                                                    "-",
                                                    "9223372036854775807",
                                                    "1e18",
                                                    "null",
                                                    "\"step\": ",
                                                    "\"loss\": ",
                                                    "\"lr\": ",
                                                    ", ",
                                                    "}\n{",
                                                    "\n",
                                                    "{\"step\": 7, \"loss\": -1e308}\n",
                                                    "{\"step\": -9223372036854775808, \"loss\": 1}\n"};
    if (below(2) == 0) return change_(std::move(bytes));
    const std::size_t at = below(bytes.size() + 1);
    return bytes.replace(at, std::min<std::size_t>(below(12), bytes.size() - at), pick(kWords));
  }

  std::mt19937 random_;
  Change change_;
};

}  // namespace

std::string mutate(std::string_view target, std::string_view bytes, unsigned seed,
                   std::string (*change)(std::string bytes)) {
  return Mutator(seed, change).any(target, std::string(bytes));
}

}  // namespace torchkeep::fuzz
