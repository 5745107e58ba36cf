// SPDX-License-Identifier: BSD-3-Clause
// Writes single pickle instructions of protocol 2.
#include "emitter.h"

#include <bit>
#include <cstring>
#include <limits>

namespace torchkeep::pickle {
namespace {

// "module\nname\n", as GLOBAL wants it
constexpr std::string_view kNames[] = {
    "collections\nOrderedDict\n",
    "collections\nCounter\n",
    "__builtin__\nset\n",
    "__builtin__\ncomplex\n",
    "__builtin__\nbytearray\n",
    "_codecs\nencode\n",
    "torch\nSize\n",
    "torch\ndevice\n",
    "torch.serialization\n_get_layout\n",
    "torch.storage\nUntypedStorage\n",
    "torch\nTensor\n",
    "torch._utils\n_rebuild_tensor_v2\n",
    "torch._utils\n_rebuild_tensor_v3\n",
    "torch._utils\n_rebuild_parameter\n",
    "torch._utils\n_rebuild_parameter_with_state\n",
    "torch._utils\n_rebuild_qtensor\n",
    "torch._utils\n_rebuild_sparse_tensor\n",
    "torch._utils\n_rebuild_nested_tensor\n",
    "torch._utils\n_rebuild_meta_tensor_no_storage\n",
    "torch._tensor\n_rebuild_from_type_v2\n",
    "torch\nper_tensor_affine\n",
    "torch\nper_tensor_symmetric\n",
    "torch\nper_channel_affine\n",
    "torch\nper_channel_symmetric\n",
    "torch\nper_channel_affine_float_qparams\n",
    "torch.distributed.checkpoint.metadata\nMetadata\n",
    "torch.distributed.checkpoint.metadata\nTensorStorageMetadata\n",
    "torch.distributed.checkpoint.metadata\nTensorProperties\n",
    "torch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\n",
    "torch.distributed.checkpoint.metadata\nChunkStorageMetadata\n",
    "torch.distributed.checkpoint.metadata\nBytesStorageMetadata\n",
    "torch.distributed.checkpoint.metadata\nMetadataIndex\n",
    "torch.distributed.checkpoint.filesystem\n_StorageInfo\n",
    "torch.distributed.checkpoint.metadata\nStorageMeta\n",
};
static_assert(std::size(kNames) == static_cast<std::size_t>(Name::count));

// Longer texts are rarely repeated, and finding that out costs a pass over them.

}  // namespace

std::string_view Emitter::text_of(Name name) noexcept {
  return kNames[static_cast<std::size_t>(name)];
}

template <class T>
void Emitter::little_endian(T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out_.append(bytes, sizeof(T));
}

void Emitter::integer(std::int64_t value) {
  if (value >= 0 && value <= 0xff) {
    op(Op::bin_int1), raw(static_cast<std::uint8_t>(value));
  } else if (value >= 0 && value <= 0xffff) {
    op(Op::bin_int2), little_endian(static_cast<std::uint16_t>(value));
  } else if (value >= std::numeric_limits<std::int32_t>::min() && value <= std::numeric_limits<std::int32_t>::max()) {
    op(Op::bin_int), little_endian(static_cast<std::int32_t>(value));
  } else {
    integer(Integer(value));
  }
}

bool Emitter::integer(const Integer& value) {
  if (const auto small = value.to_int64(); small && *small == static_cast<std::int32_t>(*small)) {
    integer(*small);
    return true;
  }
  const std::string bytes = value.to_twos_complement();
  if (bytes.size() > 0xff) return false;
  op(Op::long1), raw(static_cast<std::uint8_t>(bytes.size()));
  out_ += bytes;
  return true;
}

void Emitter::real(double value) {
  op(Op::bin_float);
  little_endian(__builtin_bswap64(std::bit_cast<std::uint64_t>(value)));
}

void Emitter::text_once(std::string_view text) {
  op(Op::bin_unicode), little_endian(static_cast<std::uint32_t>(text.size()));
  out_ += text;
}

void Emitter::text(std::string_view text) {
  if (text.size() > kMaxSharedText) return text_once(text);
  if (const auto* number = texts_.find(text)) return get(*number);
  text_once(text);
  texts_.add(text, put());
}

void Emitter::fixed_text(std::uint32_t& memo, std::string_view text) {
  if (memo != 0) return get(memo - 1);
  text_once(text);
  memo = 1 + put();
}

void Emitter::location(const std::string& name) {
  if (name == "cpu") return fixed_text(cpu_word_, name);
  text(name);
}

void Emitter::tuple(std::size_t count) {
  constexpr Op kOps[] = {Op::empty_tuple, Op::tuple1, Op::tuple2, Op::tuple3};
  op(count > 3 ? Op::tuple : kOps[count]);
}

void Emitter::global(std::uint32_t& memo, std::string_view module, std::string_view name, std::string_view suffix) {
  if (memo != 0) return get(memo - 1);
  op(Op::global);
  out_.append(module).append(name).append(suffix);
  memo = 1 + put();
}

void Emitter::global(DType dtype) {
  global(dtypes_[static_cast<std::size_t>(dtype)], "torch\n", to_string(dtype), "\n");
}

void Emitter::storage_class(DType dtype) {
  global(storages_[static_cast<std::size_t>(dtype)], "torch\n", info(dtype).storage_class, "\n");
}

bool Emitter::scheme(std::string_view name) {
  constexpr std::size_t kPrefix = sizeof("torch\n") - 1;
  for (auto i = static_cast<std::size_t>(Name::per_tensor_affine); i < static_cast<std::size_t>(Name::count); ++i) {
    if (kNames[i].substr(kPrefix, kNames[i].size() - kPrefix - 1) != name) continue;
    global(static_cast<Name>(i));
    return true;
  }
  return false;
}

void Emitter::empty_ordered_dict() {
  global(Name::ordered_dict);
  op(Op::empty_tuple);
  op(Op::reduce);
}

std::uint32_t Emitter::put() {
  if (memo_size_ <= 0xff)
    op(Op::bin_put), raw(static_cast<std::uint8_t>(memo_size_));
  else
    op(Op::long_bin_put), little_endian(memo_size_);
  return memo_size_++;
}

void Emitter::get(std::uint32_t number) {
  if (number <= 0xff)
    op(Op::bin_get), raw(static_cast<std::uint8_t>(number));
  else
    op(Op::long_bin_get), little_endian(number);
}

}  // namespace torchkeep::pickle
