// SPDX-License-Identifier: BSD-3-Clause
// A file system whose new files are written through a ring of blocks, as with WritePath::direct, onto another one: what
// holds for the other must hold for this one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "support/fault_fs.h"

namespace torchkeep::testing {

/// The ring, and what goes wrong in it. Writes that are under way happen late and in an order drawn by the seed.
struct RingSettings {
  std::size_t blocks = 3;
  std::size_t block_size = 8;
  std::size_t alignment = 4;
  std::uint64_t seed = 1;
  std::size_t refuse_from = ~std::size_t{0};  ///< this write and all later ones are refused with EINVAL, counted from 0
  std::size_t short_write = ~std::size_t{0};  ///< this write stops after half of its bytes
};

class RingFs final : public FaultFs {
 public:
  explicit RingFs(Fs& inner, const RingSettings& settings = {})
      : FaultFs(inner, {}), inner_(inner), settings_(settings) {}

  std::unique_ptr<File> create(const std::string& path, const CreateOptions& options) override;

  /// Writes that went through the ring, of all files.
  std::size_t ring_writes() const noexcept { return *writes_; }

 private:
  Fs& inner_;
  RingSettings settings_;
  std::shared_ptr<std::size_t> writes_ = std::make_shared<std::size_t>(0);
};

}  // namespace torchkeep::testing
