// SPDX-License-Identifier: BSD-3-Clause
// From the tables of a manifest to the entries that all readers of folders work with.
#include "from_manifest.h"

#include <algorithm>

#include "block_numbers.h"

namespace torchkeep::dcp {

bool is_manifest(const Value& value) {
  if (!value.is_mapping()) return false;
  const auto about = value.find("torchkeep");
  if (!about || !about->is_mapping()) return false;
  const auto format = about->find("format");
  return format && format->is(Kind::string) && format->as_string() == "manifest";
}

std::optional<Manifest> find_manifest(const Folder& folder, const PtReadOptions& options) {
  const std::string name(kManifestName);
  if (std::find(folder.files.begin(), folder.files.end(), name) == folder.files.end()) return std::nullopt;
  const std::shared_ptr<const ReadAt> file = folder.open(name);
  PtReadOptions checked = options;
  checked.verify = true;
  if (!is_manifest(read_pt(file, checked))) return std::nullopt;
  return read_manifest(file, options);
}

Metadata to_metadata(const Manifest& manifest) {
  Metadata metadata;
  for (const Manifest::File& file : manifest.files) metadata.files.push_back(file.tail.name);
  for (std::size_t i = 0; i < manifest.tensors.size(); ++i) {
    MetaEntry entry;
    entry.fqn = manifest.tensors.name(i);
    entry.is_tensor = true;
    entry.dtype = manifest.tensors.dtype(i);
    const ShapeView shape = manifest.tensors.shape(i);
    entry.shape.assign(shape.begin(), shape.end());
    entry.chunks = BoxList(shape.size());
    metadata.entries.push_back(std::move(entry));
  }
  const ChunkTable& chunks = manifest.chunks;
  ChunkCursor at(manifest.tensors, chunks.tensor, chunks.boxes);
  for (std::uint32_t file = 0; file < manifest.files.size(); ++file) {
    BlockNumbers numbers;
    for (std::uint64_t i = 0; i < manifest.files[file].chunks; ++i, at.next()) {
      MetaEntry& entry = metadata.entries[at.tensor()];
      const std::uint64_t offset = chunks.offset[at.chunk()], nbytes = chunk_bytes(manifest.tensors, at);
      const std::uint64_t before = chunks.before[at.chunk()];
      entry.chunks.add(at.box());
      entry.places.push_back({file, 0, offset - before, before + nbytes + chunks.behind[at.chunk()]});
      entry.known.push_back({offset, chunks.crc[at.chunk()], numbers.add(offset, nbytes)});
    }
  }
  for (std::size_t i = 0; i < manifest.values.names.size(); ++i) {
    MetaEntry entry;
    entry.fqn = manifest.values.names[i];
    entry.places.push_back({manifest.value_file[i], 0, manifest.values.offset[i], manifest.values.length[i]});
    metadata.entries.push_back(std::move(entry));
  }
  return metadata;
}

}  // namespace torchkeep::dcp
