// SPDX-License-Identifier: BSD-3-Clause
// Storages over memory that PyTorch owns.
#pragma once

#include <string>
#include <vector>

#include <torchkeep/state/watched.h>

#include "address_map.h"
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

/// What is known of a torch.UntypedStorage.
struct TorchMemory {
  std::shared_ptr<const Keep> keep;  ///< keeps it alive
  const void* identity = nullptr;    ///< the address of the StorageImpl
  const std::byte* data = nullptr;   ///< of a copy, where the CPU cannot read it
  std::uint64_t nbytes = 0;
  std::shared_ptr<const std::string> location;  ///< null: "cpu"
  bool writable = false;
  bool is_copy = false;  ///< of a device's memory: nobody else has it
};

/// Copies bytes out of it; throws Error when they lie outside.
void read_memory(const TorchMemory& memory, std::uint64_t offset, MutableBytes out);

/// The memory of a torch.UntypedStorage; Base is Storage or WatchedStorage.
template <class Base>
class TorchStorageOver : public Base {
 public:
  explicit TorchStorageOver(TorchMemory memory) : memory_(std::move(memory)) {}

  std::uint64_t nbytes() const noexcept override { return memory_.nbytes; }
  void read(std::uint64_t offset, MutableBytes out) const override { read_memory(memory_, offset, out); }
  const std::byte* data() const noexcept override { return memory_.data; }
  std::byte* writable() const noexcept override {
    return memory_.writable ? const_cast<std::byte*>(memory_.data) : nullptr;
  }
  bool is_private() const noexcept override { return memory_.is_copy; }
  const void* identity() const noexcept override { return memory_.identity; }
  const std::string& location() const noexcept override {
    return memory_.location ? *memory_.location : Storage::location();
  }

 private:
  TorchMemory memory_;
};

using TorchStorage = TorchStorageOver<Storage>;

/// The same, with the version counter of the tensor that training writes to.
class CountedStorage final : public TorchStorageOver<WatchedStorage> {
 public:
  /// `memory.keep` keeps `tensor` alive too.
  CountedStorage(TorchMemory memory, PyObject* tensor, bool trained)
      : TorchStorageOver(std::move(memory)), tensor_(tensor), trained_(trained) {}

  /// With or without the GIL.
  Mark mark() const override;
  std::shared_ptr<void> marking() const override;
  bool is_trained() const noexcept override { return trained_; }

 private:
  PyObject* tensor_;
  bool trained_;
};

/// The tensors whose counters tell of writes to their storages, by the address of the StorageImpl.
class Watches {
 public:
  struct Watch {
    PyObject* tensor = nullptr;
    bool trained = false;
  };
  /// A list of tensors. Those that need a gradient are trained; with `all_trained` the others too. Those that have no
  /// storage of their own are left out.
  void add(nb::handle tensors, bool all_trained);
  /// The storages of these tensors are written to in ways that the counters do not show.
  void remove(nb::handle tensors);
  /// Null when nobody watches it.
  const Watch* find(const void* identity) const;

 private:
  AddressMap<Watch> watches_;
  Keep keep_;
};

}  // namespace torchkeep::python
