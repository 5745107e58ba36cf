// SPDX-License-Identifier: BSD-3-Clause
// A Value without the bytes that none of its tensors looks at: first what is looked at, then the cut.
#include <algorithm>
#include <map>

#include <torchkeep/state/compact.h>

#include "rebuild.h"

namespace torchkeep {
namespace {

constexpr std::uint64_t kLargestItem = 16;  // complex128: a cut at multiples of it suits every dtype

/// A part of another storage.
class PartStorage final : public Storage {
 public:
  PartStorage(StoragePtr whole, std::uint64_t begin, std::uint64_t nbytes)
      : whole_(std::move(whole)), begin_(begin), nbytes_(nbytes) {}

  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  const std::byte* data() const noexcept override {
    const std::byte* data = nbytes_ > 0 ? whole_->data() : nullptr;
    return data != nullptr ? data + begin_ : nullptr;
  }
  const std::string& location() const noexcept override { return whole_->location(); }
  void read(std::uint64_t offset, MutableBytes out) const override {
    if (offset > nbytes_ || out.size() > nbytes_ - offset) {
      throw Error(Code::invalid_argument, "these bytes lie outside the part of the storage");
    }
    whole_->read(begin_ + offset, out);
  }

 private:
  StoragePtr whole_;
  std::uint64_t begin_;
  std::uint64_t nbytes_;
};

/// What is looked at of a storage, in bytes.
struct Use {
  std::uint64_t begin = ~std::uint64_t{0};
  std::uint64_t end = 0;
  std::size_t views = 0;
  StoragePtr part;  // made when first wanted
};

bool can_be_cut(const Tensor& tensor) {
  return tensor.storage != nullptr && !tensor.is_meta();
}

class Compactor {
 public:
  Value run(const Value& value) {
    detail::rebuild(value, [this](Tensor& tensor) { look(tensor); });
    return detail::rebuild(value, [this](Tensor& tensor) { cut(tensor); });
  }

 private:
  void look(const Tensor& tensor) {
    if (!can_be_cut(tensor)) return;
    const ByteRange extent = tensor.extent();
    Use& use = uses_[tensor.storage->identity()];
    ++use.views;
    if (extent.size == 0) return;
    use.begin = std::min(use.begin, extent.begin / kLargestItem * kLargestItem);
    use.end = std::max(use.end, extent.begin + extent.size);
  }

  void cut(Tensor& tensor) {
    if (!can_be_cut(tensor)) return;
    Use& use = uses_.at(tensor.storage->identity());
    const std::uint64_t begin = std::min(use.begin, use.end);
    if (use.views == 1 && tensor.numel() > 0 && use.end - begin >= tensor.nbytes() + kLargestItem) {
      return copy(tensor);
    }
    if (begin == 0 && use.end == tensor.storage->nbytes()) return;
    if (use.part == nullptr) use.part = std::make_shared<PartStorage>(tensor.storage, begin, use.end - begin);
    const auto skipped = static_cast<std::int64_t>(begin / itemsize(tensor.dtype));
    tensor.storage_offset = tensor.numel() == 0 ? 0 : tensor.storage_offset - skipped;
    tensor.storage = use.part;
  }

  static void copy(Tensor& tensor) {
    const std::string elements = tensor.contiguous_bytes();
    tensor.storage = std::make_shared<OwnedStorage>(as_bytes(elements), tensor.storage->location());
    tensor.strides = contiguous_strides(tensor.sizes);
    tensor.storage_offset = 0;
  }

  std::map<const void*, Use> uses_;
};

}  // namespace

Value compact(const Value& value) {
  return Compactor().run(value);
}

}  // namespace torchkeep
