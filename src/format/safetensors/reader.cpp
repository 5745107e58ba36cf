// SPDX-License-Identifier: BSD-3-Clause
// Opens a safetensors file: the header, and tensors as views of the bytes behind it.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>

#include <torchkeep/base/checked.h>
#include <torchkeep/format/safetensors.h>

#include "dtypes.h"
#include "header.h"

namespace torchkeep {
namespace {

using safetensors::Entry;
using safetensors::FileType;
using safetensors::kLengthSize;

// Bytes [begin, begin + nbytes) of a file.
class RangeStorage final : public Storage {
 public:
  RangeStorage(std::shared_ptr<const ReadAt> file, std::uint64_t begin, std::uint64_t nbytes)
      : file_(std::move(file)), begin_(begin), nbytes_(nbytes) {}
  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  void read(std::uint64_t offset, MutableBytes out) const override {
    if (offset > nbytes_ || out.size() > nbytes_ - offset) {
      throw Error(Code::invalid_argument,
                  fmt::format("bytes [{}, +{}) lie outside a storage of {} bytes", offset, out.size(), nbytes_));
    }
    file_->read_at(begin_ + offset, out);
  }

 private:
  std::shared_ptr<const ReadAt> file_;
  std::uint64_t begin_;
  std::uint64_t nbytes_;
};

class Opener {
 public:
  Opener(std::shared_ptr<const ReadAt> file, const SafetensorsReadOptions& options)
      : file_(std::move(file)), options_(options) {}

  SafetensorsFile run() {
    const std::string json = read_header();
    safetensors::Header header = safetensors::parse_header(json, file_->name(), options_);
    data_ = kLengthSize + json.size();
    std::stable_sort(header.entries.begin(), header.entries.end(), [](const Entry& a, const Entry& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    check_coverage(header.entries);
    std::vector<torchkeep::Entry> tensors;
    tensors.reserve(header.entries.size());
    for (Entry& entry : header.entries) {
      Tensor tensor = make_tensor(entry);
      tensors.push_back({Value::string(std::move(entry.name)), Value(tensor)});
    }
    return {Value::mapping(Kind::dict, std::move(tensors)).from_file(file_->name()), std::move(header.metadata)};
  }

 private:
  [[noreturn]] void fail(std::uint64_t offset, std::string message, Code code = Code::corrupt,
                         std::string key = {}) const {
    throw Error(code, std::move(message),
                {.file = file_->name(), .record = {}, .offset = offset, .key = std::move(key)});
  }
  [[noreturn]] void fail(const Entry& entry, std::string message, Code code = Code::corrupt) const {
    fail(entry.place, std::move(message), code, entry.name);
  }

  std::string read_header() const {
    if (file_->size() < kLengthSize) fail(0, fmt::format("{} bytes are no safetensors file", file_->size()));
    std::uint64_t length = 0;
    file_->read_at(0, std::as_writable_bytes(std::span(&length, 1)));
    if (length > options_.max_header_bytes) {
      fail(0, fmt::format("a header of {} bytes, more than the limit of {}", length, options_.max_header_bytes),
           Code::refused);
    }
    if (length > file_->size() - kLengthSize) {
      fail(0, fmt::format("a header of {} bytes in a file of {}: cut off, or not a safetensors file", length,
                          file_->size()));
    }
    std::string json(static_cast<std::size_t>(length), '\0');
    file_->read_at(kLengthSize, std::as_writable_bytes(std::span(json)));
    return json;
  }

  // Tensors follow one another without a hole, and end where the file does.
  void check_coverage(const std::vector<Entry>& entries) const {
    std::uint64_t end = 0;
    for (const Entry& entry : entries) {
      if (entry.begin != end) {
        fail(entry,
             fmt::format("data_offsets begin at {}, expected {} where the tensor before it ends", entry.begin, end));
      }
      if (entry.end < entry.begin) fail(entry, fmt::format("data_offsets end at {}, before they begin", entry.end));
      end = entry.end;
    }
    const std::uint64_t available = file_->size() - data_;
    if (end == available) return;
    fail(data_, fmt::format("the header describes {} bytes of tensors, the file has {}: {}", end, available,
                            end > available ? "it is cut off" : "something follows them"));
  }

  Tensor make_tensor(const Entry& entry) const {
    const FileType* type = safetensors::find_type(entry.dtype);
    if (type == nullptr) fail(entry, fmt::format("dtype '{}' is not one of the format", entry.dtype));
    check_size(entry, *type);
    if (!type->dtype) fail(entry, fmt::format("PyTorch has no dtype for {}", entry.dtype), Code::unsupported);
    Tensor tensor;
    tensor.dtype = *type->dtype;
    tensor.sizes.assign(entry.shape.begin(), entry.shape.end());
    if (type->bits == 4) {  // two numbers per byte in PyTorch
      if (tensor.sizes.empty() || tensor.sizes.back() % 2 != 0) {
        fail(entry, fmt::format("shape [{}]: F4 needs an even last size", fmt::join(entry.shape, ", ")));
      }
      tensor.sizes.back() /= 2;
    }
    tensor.strides = contiguous_strides(tensor.sizes);
    tensor.storage = std::make_shared<RangeStorage>(file_, data_ + entry.begin, entry.end - entry.begin);
    return tensor;
  }

  void check_size(const Entry& entry, const FileType& type) const {
    std::optional<std::uint64_t> bits = type.bits;
    for (const std::uint64_t size : entry.shape) {
      if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) bits = std::nullopt;
      if (bits) bits = checked_mul(*bits, size);
    }
    const auto shape = [&] { return fmt::format("{} of shape [{}]", type.name, fmt::join(entry.shape, ", ")); };
    if (!bits) fail(entry, shape() + " overflows 64 bits");
    if (*bits % 8 != 0) fail(entry, shape() + " is not a whole number of bytes");
    if (*bits / 8 != entry.end - entry.begin) {
      fail(entry, fmt::format("{} takes {} bytes, data_offsets give {}", shape(), *bits / 8, entry.end - entry.begin));
    }
  }

  std::shared_ptr<const ReadAt> file_;
  const SafetensorsReadOptions& options_;
  std::uint64_t data_ = 0;  // where the tensors' bytes begin
};

}  // namespace

bool looks_like_safetensors(const ReadAt& file) {
  constexpr std::size_t kSniffed = 64;
  if (file.size() < kLengthSize + 2) return false;
  std::uint64_t length = 0;
  file.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length < 2 || length > file.size() - kLengthSize) return false;
  std::string start(static_cast<std::size_t>(std::min<std::uint64_t>(length, kSniffed)), '\0');
  file.read_at(kLengthSize, std::as_writable_bytes(std::span(start)));
  const auto first = start.find_first_not_of(" \t\r\n");
  return first != std::string::npos && start[first] == '{';
}

SafetensorsFile open_safetensors(std::shared_ptr<const ReadAt> file, const SafetensorsReadOptions& options) {
  return Opener(std::move(file), options).run();
}

}  // namespace torchkeep
