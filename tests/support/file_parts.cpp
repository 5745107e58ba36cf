// SPDX-License-Identifier: BSD-3-Clause
// Files of every format that is read, put together by hand.
#include "support/file_parts.h"

#include <cstring>
#include <fmt/format.h>
#include <libdeflate.h>

#include <torchkeep/base/crc32.h>

namespace torchkeep::testing::parts {
namespace {

std::string little_endian(std::uint64_t value, std::size_t size) {
  return std::string(reinterpret_cast<const char*>(&value), 8).substr(0, size);
}

std::string deflated(std::string_view data) {
  libdeflate_compressor* compressor = libdeflate_alloc_compressor(6);
  std::string out(libdeflate_deflate_compress_bound(compressor, data.size()), '\0');
  out.resize(libdeflate_deflate_compress(compressor, data.data(), data.size(), out.data(), out.size()));
  libdeflate_free_compressor(compressor);
  return out;
}

// What both headers of a record say.
struct Facts {
  std::string stored;
  std::uint64_t method, flags, crc, stored_size, size;
};

Facts facts(const Record& record) {
  std::string stored = record.stored.value_or(record.deflate ? deflated(record.data) : record.data);
  const std::size_t stored_size = stored.size();
  return {std::move(stored),
          record.method.value_or(record.deflate ? 8 : 0),
          record.flags.value_or(0),
          record.crc.value_or(crc32(as_bytes(record.data))),
          record.stored_size.value_or(stored_size),
          record.size.value_or(record.data.size())};
}

std::string local_header(const Record& record, const Facts& f) {
  const std::string name = record.local_name.value_or(record.name);
  const std::uint16_t extra = record.local_extra.value_or(0);
  return "PK\3\4" + u16(20) + u16(record.local_flags.value_or(f.flags)) + u16(record.local_method.value_or(f.method)) +
         u32(0) + u32(record.local_crc.value_or(f.crc)) + u32(record.local_stored_size.value_or(f.stored_size)) +
         u32(record.local_size.value_or(f.size)) + u16(name.size()) + u16(extra) + name;
}

std::string central_entry(const Record& record, const Facts& f, std::size_t offset) {
  return "PK\1\2" + u16(20) + u16(20) + u16(f.flags) + u16(f.method) + u32(0) + u32(f.crc) + u32(f.stored_size) +
         u32(f.size) + u16(record.name.size()) + u16(record.central_extra.size()) + u16(0) + u16(0) + u16(0) + u32(0) +
         u32(record.offset.value_or(offset)) + record.name + record.central_extra;
}

}  // namespace

std::string u16(std::uint64_t value) {
  return little_endian(value, 2);
}
std::string u32(std::uint64_t value) {
  return little_endian(value, 4);
}
std::string u64(std::uint64_t value) {
  return little_endian(value, 8);
}

std::string pickle(std::string_view body) {
  return "\x80\x02" + std::string(body) + ".";
}
std::string text(std::string_view content) {
  return "X" + u32(content.size()) + std::string(content);
}
std::string number(std::int64_t value) {
  return "\x8a\x08" + u64(static_cast<std::uint64_t>(value));
}
std::string tuple(std::initializer_list<std::string_view> items) {
  std::string out = "(";
  for (const std::string_view item : items) out += item;
  return out + "t";
}
std::string numbers(std::initializer_list<std::int64_t> values) {
  std::string out = "(";
  for (const std::int64_t value : values) out += number(value);
  return out + "t";
}
std::string global(std::string_view module, std::string_view name) {
  return fmt::format("c{}\n{}\n", module, name);
}
std::string call(std::string_view callee, std::initializer_list<std::string_view> arguments) {
  return std::string(callee) + tuple(arguments) + "R";
}
std::string empty_dict() {
  return "}";
}
std::string entry(std::string_view key, std::string_view value) {
  return std::string(key) + std::string(value) + "s";
}
std::string storage(std::string_view key, std::int64_t numel, std::string_view storage_class) {
  return tuple({text("storage"), global("torch", storage_class), text(key), text("cpu"), number(numel)}) + "Q";
}
std::string tensor(std::string_view storage, std::int64_t offset, std::initializer_list<std::int64_t> sizes,
                   std::initializer_list<std::int64_t> strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"), {storage, number(offset), numbers(sizes), numbers(strides),
                                                             "\x89", global("collections", "OrderedDict") + ")R"});
}

std::string zip(const std::vector<Record>& records, const End& end) {
  std::string file, directory;
  for (const Record& record : records) {
    const Facts f = facts(record);
    directory += central_entry(record, f, file.size());
    file += local_header(record, f) + f.stored;
  }
  const std::size_t offset = file.size();
  const auto count = end.count.value_or(static_cast<std::uint16_t>(records.size()));
  return file + directory + "PK\5\6" + u16(end.disk.value_or(0)) + u16(0) + u16(count) + u16(count) +
         u32(end.directory_size.value_or(static_cast<std::uint32_t>(directory.size()))) +
         u32(end.directory_offset.value_or(static_cast<std::uint32_t>(offset))) +
         u16(end.comment_size.value_or(static_cast<std::uint16_t>(end.comment.size()))) + end.comment;
}

std::vector<Record> torch_records(std::string_view pickle, std::string_view byte_order) {
  return {{.name = "archive/data.pkl", .data = std::string(pickle)},
          {.name = "archive/byteorder", .data = std::string(byte_order)},
          {.name = "archive/data/0", .data = "0123456789abcdef"},
          {.name = "archive/version", .data = "3\n"}};
}
std::string torch_zip(std::string_view pickle) {
  return zip(torch_records(pickle));
}

Stream stream() {
  const std::string id =
      tuple({text("storage"), global("torch", "FloatStorage"), text("7"), text("cpu"), number(4), "N"});
  return {.magic = pickle(std::string("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 12)),
          .version = pickle("M\xe9\x03"),
          .machine = pickle(empty_dict() + entry(text("little_endian"), "\x88")),
          .object = pickle(empty_dict() + entry(text("weight"), tensor(id + "Q", 0, {2, 2}, {2, 1}))),
          .keys = pickle("]" + text("7") + "a"),
          .storages = u64(4) + "0123456789abcdef"};
}

std::string tar_member(std::string_view name, std::string_view bytes, char type) {
  std::string header(512, '\0');
  const auto put = [&header](std::size_t at, std::string_view text) { header.replace(at, text.size(), text); };
  put(0, name);
  put(100, "0000644");
  put(124, fmt::format("{:011o}", bytes.size()));
  put(136, "00000000000");
  put(148, "        ");
  header[156] = type;
  put(257, std::string_view("ustar\0"
                            "00",
                            8));
  std::uint64_t sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  put(148, fmt::format("{:06o}", sum));
  header[154] = '\0';
  return header + std::string(bytes) + std::string((512 - bytes.size() % 512) % 512, '\0');
}

std::string tar(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string out;
  for (const auto& [name, bytes] : members) out += tar_member(name, bytes);
  return out + std::string(1024, '\0');
}

Tar torch_tar() {
  const auto type = [](const char* name) { return global("torch", name); };
  return {.storages = pickle(number(1)) + pickle(tuple({number(1), text("cpu"), type("FloatStorage")})) + u64(4) +
                      "0123456789abcdef" + pickle("]"),
          .tensors = pickle(number(1)) + pickle(tuple({number(2), number(1), type("FloatTensor")})) + u32(2) + u32(0) +
                     u64(2) + u64(2) + u64(2) + u64(1) + u64(0),
          .object = pickle(empty_dict() + entry(text("weight"), number(2) + "Q"))};
}

std::string safetensors(std::string_view header, std::string_view data) {
  return u64(header.size()) + std::string(header) + std::string(data);
}

}  // namespace torchkeep::testing::parts
