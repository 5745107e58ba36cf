// SPDX-License-Identifier: BSD-3-Clause
// A range of row-major numbers is cut into boxes of the index space. A box is read at once when the bytes it spans in
// the storage are few, or mostly its own; otherwise it is halved along its longest side and both halves are tried.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/state/elements.h>

namespace torchkeep {
namespace {

constexpr std::uint64_t kBlockBytes = std::uint64_t{256} << 10;  // two of them stay in the L2 cache
constexpr std::uint64_t kGatherBytes = std::uint64_t{1} << 25;
constexpr std::uint64_t kMaxSpan = std::uint64_t{1} << 20;  // bytes read at once for one box
constexpr std::uint64_t kPage = 4096;                       // below this, reading too much costs nothing
constexpr std::uint64_t kMaxWaste = 8;                      // bytes read per byte used
constexpr std::uint64_t kFreeRepetition = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxRepetition = 64;

void check_repetition(const Tensor& tensor) {
  const std::uint64_t nbytes = tensor.nbytes();
  const std::uint64_t stored = tensor.storage->nbytes();
  if (nbytes > kFreeRepetition && nbytes / kMaxRepetition > stored) {
    throw Error(Code::refused, fmt::format("a view of shape [{}] repeats the {} bytes of its storage to {} bytes",
                                           fmt::join(tensor.sizes, ", "), stored, nbytes));
  }
}

template <std::size_t item>
void copy_items(std::byte* to, const std::byte* from, std::uint64_t count, std::size_t stride) {
  for (std::uint64_t i = 0; i < count; ++i) std::memcpy(to + i * item, from + i * stride, item);
}

// Copies `count` items that lie `stride` bytes apart.
void copy_row(std::byte* to, const std::byte* from, std::uint64_t count, std::size_t stride, std::size_t item) {
  if (stride == item) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * item);
    return;
  }
  switch (item) {  // a constant size makes each copy one move
    case 1:
      return copy_items<1>(to, from, count, stride);
    case 2:
      return copy_items<2>(to, from, count, stride);
    case 4:
      return copy_items<4>(to, from, count, stride);
    case 8:
      return copy_items<8>(to, from, count, stride);
    default:
      for (std::uint64_t i = 0; i < count; ++i) std::memcpy(to + i * item, from + i * stride, item);
  }
}

// Bytes of a tensor in row-major order, gathered when they are asked for.
class ContiguousStorage final : public Storage {
 public:
  explicit ContiguousStorage(const Tensor& tensor) : elements_(tensor), location_(tensor.storage->location()) {}
  std::uint64_t nbytes() const noexcept override { return elements_.nbytes(); }
  const std::byte* data() const noexcept override { return elements_.in_place(); }
  const std::string& location() const noexcept override { return location_; }

  void read(std::uint64_t offset, MutableBytes out) const override {
    if (offset > nbytes() || out.size() > nbytes() - offset) {
      throw Error(Code::invalid_argument,
                  fmt::format("bytes [{}, +{}) lie outside a tensor of {} bytes", offset, out.size(), nbytes()));
    }
    if (out.empty()) return;
    const std::size_t item = elements_.item();
    const std::uint64_t first = offset / item;
    const std::uint64_t last = (offset + out.size() + item - 1) / item;
    if (offset % item == 0 && out.size() % item == 0) return elements_.read(first, out);
    std::vector<std::byte> whole(static_cast<std::size_t>(last - first) * item);
    elements_.read(first, whole);
    std::memcpy(out.data(), whole.data() + offset % item, out.size());
  }

 private:
  Elements elements_;
  std::string location_;
};

}  // namespace

Elements::Elements(const Tensor& tensor) : storage_(tensor.storage), item_(itemsize(tensor.dtype)) {
  tensor.validate();
  // A meta tensor has a shape, but no elements.
  count_ = tensor.is_meta() ? 0 : static_cast<std::uint64_t>(tensor.numel());
  offset_ = static_cast<std::uint64_t>(tensor.storage_offset);
  if (count_ == 0) return;
  check_repetition(tensor);
  std::uint64_t step = 1;
  for (std::size_t i = tensor.sizes.size(); i-- > 0;) {
    const auto size = static_cast<std::uint64_t>(tensor.sizes[i]);
    const auto stride = static_cast<std::uint64_t>(tensor.strides[i]);
    if (size == 1) continue;
    if (!dimensions_.empty() && stride == dimensions_.back().stride * dimensions_.back().size) {
      dimensions_.back().size *= size;
    } else {
      dimensions_.push_back({size, stride, step});
    }
    step *= size;
  }
  std::reverse(dimensions_.begin(), dimensions_.end());
  const bool in_order = dimensions_.empty() || (dimensions_.size() == 1 && dimensions_[0].stride == 1);
  if (in_order) dimensions_.clear();
  memory_ = tensor.memory();
}

std::uint64_t Elements::block() const noexcept {
  const bool gathers_from_file = !dimensions_.empty() && memory_.empty();
  return std::max<std::uint64_t>((gathers_from_file ? kGatherBytes : kBlockBytes) / item_, 1);
}

void Elements::read(std::uint64_t first, MutableBytes out) const {
  const std::uint64_t wanted = out.size() / item_;
  if (out.size() % item_ != 0 || first > count_ || wanted > count_ - first) {
    throw Error(Code::invalid_argument, fmt::format("{} bytes from element {} on asked of {} elements of {} bytes",
                                                    out.size(), first, count_, item_));
  }
  if (wanted == 0) return;
  if (dimensions_.empty()) return storage_->read((offset_ + first) * item_, out);
  for (std::uint64_t number = first; number < first + wanted;) {
    Box box = box_at(number, first + wanted);
    std::uint64_t inside = 1;
    for (const std::uint64_t size : box.sizes) inside *= size;
    read_box(std::move(box), first, out);
    number += inside;
  }
}

// The largest box that begins with element `first` and ends before element `limit`.
Elements::Box Elements::box_at(std::uint64_t first, std::uint64_t limit) const {
  Box box{std::vector<std::uint64_t>(dimensions_.size(), 1), offset_, first};
  std::uint64_t rest = first;
  bool found = false;
  for (std::size_t d = 0; d < dimensions_.size(); ++d) {
    const Dimension& dimension = dimensions_[d];
    const std::uint64_t index = rest / dimension.step;
    rest %= dimension.step;
    box.position += index * dimension.stride;
    if (found) {
      box.sizes[d] = dimension.size;
    } else if (rest == 0 && dimension.step <= limit - first) {
      found = true;
      box.sizes[d] = std::min((limit - first) / dimension.step, dimension.size - index);
    }
  }
  return box;
}

// Storage elements from the first to the last one of a box.
std::uint64_t Elements::span(const Box& box) const noexcept {
  std::uint64_t last = 0;
  for (std::size_t d = 0; d < box.sizes.size(); ++d) last += (box.sizes[d] - 1) * dimensions_[d].stride;
  return last + 1;
}

// Halves the box along the side that is longest in the storage; the second half goes to `pending`.
void Elements::split(Box& box, std::vector<Box>& pending) const {
  std::size_t longest = 0;
  const auto length = [&](std::size_t d) { return (box.sizes[d] - 1) * dimensions_[d].stride; };
  for (std::size_t d = 1; d < box.sizes.size(); ++d) {
    if (length(d) > length(longest)) longest = d;
  }
  const std::uint64_t half = box.sizes[longest] / 2;
  Box second = box;
  second.sizes[longest] -= half;
  second.position += half * dimensions_[longest].stride;
  second.number += half * dimensions_[longest].step;
  pending.push_back(std::move(second));
  box.sizes[longest] = half;
}

// Copies the elements of a box. `from` is its first element's place, `out` that of its lowest row-major number.
void Elements::gather(const Box& box, const std::byte* from, std::byte* out) const {
  const std::size_t inner = box.sizes.size() - 1;
  const std::uint64_t row = box.sizes[inner];
  const std::size_t stride = static_cast<std::size_t>(dimensions_[inner].stride) * item_;
  std::vector<std::uint64_t> index(box.sizes.size(), 0);
  std::uint64_t position = 0;
  std::uint64_t number = 0;
  for (;;) {
    const std::byte* source = from + position * item_;
    std::byte* target = out + number * item_;
    copy_row(target, source, row, stride, item_);
    std::size_t d = inner;
    while (d-- > 0) {
      position += dimensions_[d].stride;
      number += dimensions_[d].step;
      if (++index[d] < box.sizes[d]) break;
      position -= dimensions_[d].stride * box.sizes[d];
      number -= dimensions_[d].step * box.sizes[d];
      index[d] = 0;
    }
    if (d == static_cast<std::size_t>(-1)) return;
  }
}

void Elements::read_box(Box box, std::uint64_t first, MutableBytes out) const {
  if (!memory_.empty()) {
    const Bytes from = memory_.subspan((box.position - offset_) * item_);
    return gather(box, from.data(), out.data() + (box.number - first) * item_);
  }
  std::vector<std::byte> buffer;
  std::vector<Box> pending;
  pending.push_back(std::move(box));
  while (!pending.empty()) {
    Box part = std::move(pending.back());
    pending.pop_back();
    for (;;) {
      std::uint64_t useful = item_;
      for (const std::uint64_t size : part.sizes) useful *= size;
      const std::uint64_t bytes = span(part) * item_;
      if (bytes <= kPage || (bytes <= kMaxSpan && bytes / kMaxWaste <= useful)) {
        buffer.resize(static_cast<std::size_t>(bytes));
        storage_->read(part.position * item_, buffer);
        gather(part, buffer.data(), out.data() + (part.number - first) * item_);
        break;
      }
      split(part, pending);
    }
  }
}

StoragePtr contiguous_storage(const Tensor& tensor) {
  if (tensor.is_meta()) return tensor.storage;
  const bool is_all = tensor.storage_offset == 0 && tensor.is_contiguous();
  if (is_all && tensor.storage && tensor.nbytes() == tensor.storage->nbytes()) {
    tensor.validate();
    return tensor.storage;
  }
  return std::make_shared<ContiguousStorage>(tensor);
}

}  // namespace torchkeep
