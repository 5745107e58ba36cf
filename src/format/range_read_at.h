// SPDX-License-Identifier: BSD-3-Clause
// A range of a file as a file of its own.
#pragma once

#include <memory>

#include <torchkeep/base/bytes.h>

namespace torchkeep {

class RangeReadAt final : public ReadAt {
 public:
  /// The range lies inside the file.
  RangeReadAt(std::shared_ptr<const ReadAt> file, std::uint64_t begin, std::uint64_t size)
      : file_(std::move(file)), begin_(begin), size_(size) {}

  std::uint64_t size() const override { return size_; }
  void read_at(std::uint64_t offset, MutableBytes out) const override {
    if (offset > size_ || out.size() > size_ - offset) {
      throw Error(Code::corrupt, "the item ends before these bytes",
                  {.file = name(), .record = {}, .offset = begin_ + offset, .key = {}});
    }
    file_->read_at(begin_ + offset, out);
  }
  const std::string& name() const override { return file_->name(); }
  bool is_cold(std::uint64_t offset, std::uint64_t size) const override {
    return file_->is_cold(begin_ + offset, size);
  }

 private:
  std::shared_ptr<const ReadAt> file_;
  std::uint64_t begin_;
  std::uint64_t size_;
};

}  // namespace torchkeep
