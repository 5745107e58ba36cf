// SPDX-License-Identifier: BSD-3-Clause
// Checkpoints of many ranks as folders of torch.distributed.checkpoint.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <torchkeep/checkpoint/sharded.h>
#include <torchkeep/ranks/folder.h>

namespace torchkeep {

/// One rank's part in the saves and loads of such folders.
class DcpShares final : public ShareFormat {
 public:
  DcpShares(Fs& fs, std::size_t rank, std::size_t world, FolderOptions options = {});

  const RankState* state = nullptr;    ///< of the save under way
  std::function<void()> confirm = {};  ///< throws when the state changed while it was written
  /// What a resume does with a folder that is the one of the leader.
  std::function<void(const std::string& folder)> read = {};

  std::string write_share(const std::string& folder, const CheckpointId& checkpoint) override;
  void confirm_share() override;
  void take_report(const CheckpointId& checkpoint, const RankReport& report) override;
  void write_index(const std::string& folder, const CheckpointId& checkpoint) override;
  std::string token_of(const std::string& folder) override;
  void load(const std::string& folder, const CheckpointId& checkpoint) override;

 private:
  RankOfSave of(const CheckpointId& checkpoint) const;

  Fs& fs_;
  std::size_t rank_;
  std::size_t world_;
  FolderOptions options_;
  std::optional<ManifestBuilder> builder_;
};

}  // namespace torchkeep
