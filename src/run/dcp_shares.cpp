// SPDX-License-Identifier: BSD-3-Clause
#include "dcp_shares.h"

#include <torchkeep/files/publish.h>

namespace torchkeep {

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
  save_rank_file(file, folder, options_.save);
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
