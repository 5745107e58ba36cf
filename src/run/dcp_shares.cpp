// SPDX-License-Identifier: BSD-3-Clause
#include "dcp_shares.h"

#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/base/crc32.h>
#include <torchkeep/files/publish.h>

namespace torchkeep {
namespace {

/// CRC-32 of a range of a file.
std::uint32_t crc_of(const ReadAt& file, std::uint64_t offset, std::uint64_t size) {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
  std::vector<std::byte> memory(static_cast<std::size_t>(std::min(size, kPiece)));
  std::uint32_t crc = 0;
  while (size > 0) {
    const std::span<std::byte> piece(memory.data(), static_cast<std::size_t>(std::min(size, kPiece)));
    file.read_at(offset, piece);
    crc = crc32(piece, crc);
    offset += piece.size();
    size -= piece.size();
  }
  return crc;
}

/// Reads a rank's file and compares each chunk and the tail with what was written.
void read_back(const ReadAt& file, const RankList& list) {
  const auto require = [&](std::uint32_t found, std::uint32_t expected, std::uint64_t offset, std::string_view name) {
    if (found == expected) return;
    throw Error(Code::corrupt,
                fmt::format("read back after it was written, CRC-32 is {:08x}, expected {:08x}", found, expected),
                {.file = file.name(), .record = {}, .offset = offset, .key = std::string(name)});
  };
  for (ChunkCursor chunk(list.tensors, list.chunks.tensor, list.chunks.boxes); !chunk.at_end(); chunk.next()) {
    const std::uint64_t offset = list.chunks.offset[chunk.chunk()];
    const auto count = static_cast<std::uint64_t>(element_count(chunk.box().size).value_or(0));
    const std::uint64_t size = count * itemsize(list.tensors.dtype(chunk.tensor()));
    require(crc_of(file, offset, size), list.chunks.crc[chunk.chunk()], offset, list.tensors.name(chunk.tensor()));
  }
  const FileTail& tail = list.file;
  require(crc_of(file, tail.begin, tail.size - tail.begin), tail.crc, tail.begin, {});
}

}  // namespace

DcpShares::DcpShares(Fs& fs, std::size_t rank, std::size_t world, FolderOptions options)
    : fs_(fs), rank_(rank), world_(world), options_(std::move(options)) {
  options_.save.fs = &fs_;
}

RankOfSave DcpShares::of(const CheckpointId& checkpoint) const {
  return {
      .save = checkpoint.token, .rank = static_cast<std::uint32_t>(rank_), .world = static_cast<std::uint32_t>(world_)};
}

std::string DcpShares::write_share(const std::string& folder, const CheckpointId& checkpoint) {
  RankFile file = plan_rank_file(*state, of(checkpoint));
  SaveOptions options = options_.save;
  options.read_back = false;  // it is no file of save(), and read back as what it is
  save_rank_file(file, folder, options);
  const std::string& name = file.list.file.name;
  if (options_.save.read_back && !name.empty()) read_back(*fs_.open_read(folder + "/" + name), file.list);
  return to_bytes(file.list);
}

void DcpShares::confirm_share() {
  if (confirm) confirm();
}

void DcpShares::take_report(const CheckpointId& checkpoint, const RankReport& report) {
  if (report.rank == 0) builder_.emplace(of(checkpoint));
  builder_->add(rank_list_from(report.list));
}

void DcpShares::write_index(const std::string& folder, const CheckpointId&) {
  ManifestBuilder builder = std::move(*builder_);
  builder_.reset();
  const auto manifest = std::make_shared<const Manifest>(std::move(builder).finish());
  save_manifest(manifest, folder, options_.save);
  if (options_.dcp) save_dcp_metadata(*manifest, folder, options_.save);
}

std::string DcpShares::token_of(const std::string& folder) {
  const Where where{.file = folder, .record = {}, .offset = {}, .key = {}};
  const auto there = fs_.status(folder);
  if (!there) throw Error(Code::not_found, "there is no such checkpoint", where);
  const std::string path = folder + "/" + std::string(kManifestName);
  if (!fs_.status(path)) throw Error(Code::corrupt, "a checkpoint of several ranks without its manifest.pt", where);
  return read_manifest(fs_.open_read(path)).save;
}

void DcpShares::load(const std::string& folder, const CheckpointId& checkpoint) {
  if (token_of(folder) != checkpoint.token) {
    throw Error(Code::not_found, "the folder is of another save than the one that the leader sees",
                {.file = folder, .record = {}, .offset = {}, .key = {}});
  }
  if (read) read(folder);
}

}  // namespace torchkeep
