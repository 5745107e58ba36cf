// SPDX-License-Identifier: BSD-3-Clause
// Files of every format that is read, put together by hand from parts that a test can get wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace torchkeep::testing::parts {

// Numbers, little-endian.
std::string u16(std::uint64_t value);
std::string u32(std::uint64_t value);
std::string u64(std::uint64_t value);

// --- Pickles: each of these is instructions that push one object.

/// "\x80\x02" + body + "."
std::string pickle(std::string_view body);
std::string text(std::string_view content);
std::string number(std::int64_t value);
/// ( items t
std::string tuple(std::initializer_list<std::string_view> items);
std::string numbers(std::initializer_list<std::int64_t> values);
std::string global(std::string_view module, std::string_view name);
/// callee, arguments as a tuple, REDUCE
std::string call(std::string_view callee, std::initializer_list<std::string_view> arguments);
std::string empty_dict();
/// One entry added to the dict on top of the stack.
std::string entry(std::string_view key, std::string_view value);
/// The persistent id of a storage of float32 numbers, or of another class.
std::string storage(std::string_view key, std::int64_t numel, std::string_view storage_class = "FloatStorage");
/// _rebuild_tensor_v2 of a storage.
std::string tensor(std::string_view storage, std::int64_t offset, std::initializer_list<std::int64_t> sizes,
                   std::initializer_list<std::int64_t> strides);

// --- Zips

/// A record, and what its headers say instead of the truth.
struct Record {
  std::string name;
  std::string data;
  bool deflate = false;
  std::optional<std::string> stored = {};  ///< the bytes in the file, whatever `data` is
  std::optional<std::uint32_t> crc = {}, size = {}, stored_size = {}, offset = {};  ///< in the directory
  std::optional<std::uint16_t> method = {}, flags = {};                             ///< in both headers
  std::optional<std::string> local_name = {};
  std::optional<std::uint16_t> local_method = {}, local_flags = {}, local_extra = {};
  std::optional<std::uint32_t> local_crc = {}, local_size = {}, local_stored_size = {};
  std::string central_extra = {};
};

/// What the end record says instead of the truth.
struct End {
  std::optional<std::uint16_t> count = {}, disk = {}, comment_size = {};
  std::optional<std::uint32_t> directory_size = {}, directory_offset = {};
  std::string comment = {};
};

/// A zip as other programs make them: no padding, no zip64, no descriptors.
std::string zip(const std::vector<Record>& records, const End& end = {});

/// The records of a file of torch.save: data.pkl, byteorder, data/0 (16 bytes) and version, under "archive/".
std::vector<Record> torch_records(std::string_view pickle, std::string_view byte_order = "little");
/// zip(torch_records(pickle))
std::string torch_zip(std::string_view pickle);

// --- Other formats

/// A stream of torch.save before PyTorch 1.6, of these five pickles and the bytes behind them.
struct Stream {
  std::string magic, version, machine, object, keys;
  std::string storages;
  std::string bytes() const { return magic + version + machine + object + keys + storages; }
};
/// One of a float32 tensor of four numbers in storage "7".
Stream stream();

/// The members of a tar archive in order.
std::string tar(const std::vector<std::pair<std::string, std::string>>& members);
/// One header and the bytes behind it.
std::string tar_member(std::string_view name, std::string_view bytes, char type = '0');
/// The three members of torch.save's tar, holding a float32 tensor of 2 x 2 with key 2 over storage 1.
struct Tar {
  std::string storages, tensors, object;
  std::string bytes() const { return tar({{"storages", storages}, {"tensors", tensors}, {"pickle", object}}); }
};
Tar torch_tar();

/// u64 length, header, data.
std::string safetensors(std::string_view header, std::string_view data);

}  // namespace torchkeep::testing::parts
