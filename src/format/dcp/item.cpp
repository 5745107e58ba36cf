// SPDX-License-Identifier: BSD-3-Clause
// Opening items and finding their elements.
#include "item.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/format/safetensors.h>

#include "open/open.h"

namespace torchkeep::dcp {
namespace {

OpenedFile open_item(const ItemSource& source, const ItemPlace& place) {
  if (place.transforms != 0) {
    throw Error(Code::unsupported, fmt::format("an item behind the extension {}, which torchkeep cannot undo",
                                               source.transforms[place.transforms - 1]));
  }
  auto slice = std::make_shared<Slice>(source.files, place.file, place.offset, place.length);
  if (place.offset == 0 && looks_like_safetensors(*source.files->open(place.file))) {
    throw Error(Code::unsupported, "a data file in the format safetensors: open it by itself");
  }
  PtReadOptions options = source.options;
  options.open_sibling = nullptr;
  options.map = false;
  return open::open_at_depth(std::move(slice), options, 0);
}

// Runs `work` with errors that say which item they are about.
template <class Work>
auto with_place(const ItemSource& source, const ItemPlace& place, const std::string& fqn, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    throw at_item(error, source, place, fqn);
  }
}

const Tensor& check_tensor(const Value& value, const MetaEntry& entry, std::size_t i) {
  if (!value.is(Kind::tensor)) {
    throw Error(Code::corrupt,
                fmt::format("the item holds a {}, .metadata promises a tensor", to_string(value.kind())));
  }
  const Tensor& tensor = value.as_tensor();
  const ShapeView size = entry.chunks[i].size;
  if (tensor.dtype != entry.dtype) {
    throw Error(Code::corrupt, fmt::format("the item holds a tensor of {}, .metadata promises {}",
                                           to_string(tensor.dtype), to_string(entry.dtype)));
  }
  if (!std::equal(size.begin(), size.end(), tensor.sizes.begin(), tensor.sizes.end())) {
    throw Error(Code::corrupt, fmt::format("the item holds a tensor of shape [{}], .metadata promises [{}]",
                                           fmt::join(tensor.sizes, ", "), fmt::join(size, ", ")));
  }
  if (tensor.quantizer != nullptr) throw Error(Code::unsupported, "a quantized tensor in chunks");
  if (tensor.is_conj || tensor.is_neg) throw Error(Code::unsupported, "a tensor with a conj or neg bit in chunks");
  return tensor;
}

}  // namespace

Error at_item(const Error& error, const ItemSource& source, const ItemPlace& place, const std::string& fqn) {
  const Where& inner = error.where();
  const std::string item = fmt::format("item at byte {}", place.offset);
  const bool has_place = inner.record.starts_with(item);
  Where where;
  where.file = source.files->path(place.file);
  where.record = has_place ? inner.record : inner.record.empty() ? item : fmt::format("{}: {}", item, inner.record);
  where.offset = inner.record.empty() ? std::nullopt : inner.offset;
  where.key = fqn;
  return Error(error.code(), error.message(), std::move(where)).with_errno(error.system_error());
}

std::shared_ptr<const ReadAt> open_data(const ItemSource& source, const ItemPlace& place, const std::string& fqn) {
  try {
    return source.files->open(place.file);
  } catch (const Error& error) {
    throw error.at({.file = source.files->path(place.file), .record = {}, .offset = {}, .key = fqn});
  }
}

Value read_value(const ItemSource& source, const ItemPlace& place, const std::string& fqn) {
  return with_place(source, place, fqn, [&] { return read_all(open_item(source, place), 1); });
}

ChunkBytes find_chunk(const ItemSource& source, const MetaEntry& entry, std::size_t i, const ItemPlace& place) {
  if (!entry.known.empty()) return {entry.known[i].offset, entry.known[i].crc, nullptr};
  return find_in_item(source, entry, i, place);
}

ChunkBytes find_in_item(const ItemSource& source, const MetaEntry& entry, std::size_t i, const ItemPlace& place) {
  return with_place(source, place, entry.fqn, [&] {
    const OpenedFile opened = open_item(source, place);
    const Tensor& tensor = check_tensor(opened.value, entry, i);
    ChunkBytes bytes;
    const auto* record = dynamic_cast<const RecordStorage*>(tensor.storage.get());
    const auto stored = record == nullptr ? std::nullopt : record->stored();
    // The CRC is of the whole record; torch writes no more into it than the chunk.
    if (stored && tensor.is_contiguous() && tensor.storage_offset == 0 && record->nbytes() == tensor.nbytes()) {
      bytes.begin = place.offset + stored->offset;
      bytes.crc = stored->crc;
    } else {
      bytes.memory = std::make_shared<const std::string>(tensor.contiguous_bytes());
    }
    return bytes;
  });
}

void check_crc(const ItemSource& source, const MetaEntry& entry, std::size_t i, const ChunkBytes& bytes,
               std::uint32_t crc) {
  if (bytes.memory != nullptr || (bytes.crc == 0 && entry.known.empty()) || bytes.crc == crc || !source.options.verify)
    return;
  throw at_item(Error(Code::corrupt,
                      fmt::format("CRC-32 is {:08x}, the {} says {:08x}: bytes of chunk {} have changed", crc,
                                  entry.known.empty() ? "item" : "manifest", bytes.crc, to_string(entry.chunks[i]))),
                source, entry.places[i], entry.fqn);
}

}  // namespace torchkeep::dcp
