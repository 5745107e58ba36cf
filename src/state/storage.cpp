// SPDX-License-Identifier: BSD-3-Clause
// Owned tensor memory.
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>

#include <torchkeep/state/storage.h>

namespace torchkeep {
namespace {

constexpr std::uint64_t kAlignment = 64;  // a cache line, and what PyTorch's CPU allocator gives

std::byte* allocate(std::uint64_t nbytes) {
  if (nbytes == 0) return nullptr;
  const std::uint64_t rounded = (nbytes + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = nullptr;
  if (rounded < nbytes || ::posix_memalign(&memory, kAlignment, static_cast<std::size_t>(rounded)) != 0) {
    throw Error(Code::refused, fmt::format("cannot get {} bytes of memory for a storage", nbytes));
  }
  // From the heap, which may have memory that is touched already. Large pages are not asked for: on a virtual machine
  // whose free ones went back to the host they cost several times what small ones do (docs/performance.md).
  return static_cast<std::byte*>(memory);
}

void copy_from(Bytes memory, std::uint64_t offset, MutableBytes out) {
  if (offset > memory.size() || out.size() > memory.size() - offset) {
    throw Error(Code::invalid_argument,
                fmt::format("bytes [{}, +{}) lie outside a storage of {} bytes", offset, out.size(), memory.size()));
  }
  if (!out.empty()) std::memcpy(out.data(), memory.data() + offset, out.size());
}

}  // namespace

const std::string& Storage::location() const noexcept {
  static const std::string cpu = "cpu";
  return cpu;
}

void OwnedStorage::Free::operator()(std::byte* memory) const noexcept {
  std::free(memory);
}

OwnedStorage::OwnedStorage(std::uint64_t nbytes, std::string location)
    : data_(allocate(nbytes)), nbytes_(nbytes), location_(std::move(location)) {}

OwnedStorage::OwnedStorage(Bytes bytes, std::string location) : OwnedStorage(bytes.size(), std::move(location)) {
  if (!bytes.empty()) std::memcpy(data_.get(), bytes.data(), bytes.size());
}

void OwnedStorage::read(std::uint64_t offset, MutableBytes out) const {
  copy_from({data_.get(), static_cast<std::size_t>(nbytes_)}, offset, out);
}

void BorrowedStorage::read(std::uint64_t offset, MutableBytes out) const {
  copy_from(memory_, offset, out);
}

void MetaStorage::read(std::uint64_t, MutableBytes) const {
  throw Error(Code::unsupported, "a meta tensor has no values");
}

const std::string& MetaStorage::location() const noexcept {
  static const std::string meta = "meta";
  return meta;
}

StoragePtr materialize(const Storage& storage) {
  if (!storage.has_bytes()) return std::make_shared<MetaStorage>();
  auto copy = std::make_shared<OwnedStorage>(storage.nbytes(), storage.location());
  storage.read(0, copy->mutable_bytes());
  return copy;
}

}  // namespace torchkeep
