// SPDX-License-Identifier: BSD-3-Clause
// Storages over memory that PyTorch owns.
#pragma once

#include <string>
#include <vector>

#include <torchkeep/state/storage.h>

#include "python.h"

namespace torchkeep::python {

/// Python objects kept alive together, and dropped together: one trip through the GIL for 100,000 storages.
class Keep {
 public:
  Keep() = default;
  Keep(const Keep&) = delete;
  Keep& operator=(const Keep&) = delete;
  ~Keep();
  void add(nb::object object) { objects_.push_back(object.release().ptr()); }

 private:
  std::vector<PyObject*> objects_;
};

/// The memory of a torch.UntypedStorage, which `keep` keeps alive.
class TorchStorage final : public Storage {
 public:
  TorchStorage(std::shared_ptr<const Keep> keep, const std::byte* data, std::uint64_t nbytes,
               std::shared_ptr<const std::string> location, bool writable)
      : keep_(std::move(keep)), data_(data), nbytes_(nbytes), location_(std::move(location)), writable_(writable) {}

  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  void read(std::uint64_t offset, MutableBytes out) const override;
  const std::byte* data() const noexcept override { return data_; }
  std::byte* writable() const noexcept override { return writable_ ? const_cast<std::byte*>(data_) : nullptr; }
  const std::string& location() const noexcept override { return location_ ? *location_ : Storage::location(); }

 private:
  std::shared_ptr<const Keep> keep_;
  const std::byte* data_;
  std::uint64_t nbytes_;
  std::shared_ptr<const std::string> location_;  ///< null: "cpu"
  bool writable_;
};

}  // namespace torchkeep::python
