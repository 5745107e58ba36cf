// SPDX-License-Identifier: BSD-3-Clause
// The data files of a DCP folder: opened when they are read, and not more than a few at a time.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <torchkeep/format/dcp.h>

namespace torchkeep::dcp {

/// A folder has a file for every rank, or for every tensor: more than a process may hold open.
class DataFiles {
 public:
  using Check = std::function<void(std::uint32_t file, const ReadAt& bytes)>;

  /// Looks at every file once, for its size. `check` sees each file when it is opened for the first time, and throws
  /// what is wrong with it; null: nothing is checked.
  DataFiles(const Folder& folder, const std::vector<std::string>& names, Check check = nullptr);

  bool is_missing(std::uint32_t file) const noexcept { return missing_[file]; }
  std::uint64_t size(std::uint32_t file) const noexcept { return sizes_[file]; }
  const std::string& path(std::uint32_t file) const noexcept { return paths_[file]; }
  /// The open file. Throws Error (corrupt) when it has another size by now.
  std::shared_ptr<const ReadAt> open(std::uint32_t file) const;

 private:
  struct Open {
    std::uint32_t file;
    std::shared_ptr<const ReadAt> bytes;
  };

  std::function<std::shared_ptr<const ReadAt>(const std::string&)> open_;
  Check check_;
  mutable std::vector<bool> is_checked_;
  std::vector<std::string> names_;
  std::vector<std::string> paths_;
  std::vector<std::uint64_t> sizes_;
  std::vector<bool> missing_;
  mutable std::mutex mutex_;
  mutable std::list<Open> opened_;  // used last at the front
};

/// A range of a data file as a file of its own.
class Slice final : public ReadAt {
 public:
  Slice(std::shared_ptr<const DataFiles> files, std::uint32_t file, std::uint64_t offset, std::uint64_t size)
      : files_(std::move(files)), file_(file), offset_(offset), size_(size) {}

  std::uint64_t size() const override { return size_; }
  void read_at(std::uint64_t offset, MutableBytes out) const override;
  const std::string& name() const override { return files_->path(file_); }
  bool is_cold(std::uint64_t offset, std::uint64_t size) const override {
    return files_->open(file_)->is_cold(offset_ + offset, size);
  }

 private:
  std::shared_ptr<const DataFiles> files_;
  std::uint32_t file_;
  std::uint64_t offset_;
  std::uint64_t size_;
};

}  // namespace torchkeep::dcp
