// SPDX-License-Identifier: BSD-3-Clause
// A storage under an identity of its own, on the CPU: of what is written once more, or by itself.
#pragma once

#include <torchkeep/state/storage.h>

namespace torchkeep::dcp {

/// The bytes of another storage. Two of the same one are written twice, and torch.load has no need of a device.
class PartStorage final : public Storage {
 public:
  explicit PartStorage(StoragePtr inner) : inner_(std::move(inner)) {}

  std::uint64_t nbytes() const noexcept override { return inner_->nbytes(); }
  void read(std::uint64_t offset, MutableBytes out) const override { inner_->read(offset, out); }
  std::unique_ptr<StorageReader> reader() const override { return inner_->reader(); }
  void settle() const override { inner_->settle(); }
  const std::byte* data() const noexcept override { return inner_->data(); }
  bool is_private() const noexcept override { return inner_->is_private(); }

 private:
  StoragePtr inner_;
};

}  // namespace torchkeep::dcp
