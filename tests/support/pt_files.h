// SPDX-License-Identifier: BSD-3-Clause
// Small .pt and zip files in memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <torchkeep/format/pt.h>

namespace torchkeep::testing {

/// The file a Plan describes, made the slow and obvious way.
std::string assemble(const Plan& plan);

/// The file of plan_pt(value).
std::string pt_bytes(const Value& value);

/// Opens bytes as a file called "test.pt".
std::shared_ptr<const ReadAt> as_file(std::string bytes);

/// Reads a .pt file whole, as load() does.
Value read_all(std::string bytes, const PtReadOptions& options = {});

/// Passes reads on and counts them. Safe to use from one thread.
class CountingReadAt final : public ReadAt {
 public:
  explicit CountingReadAt(std::shared_ptr<const ReadAt> inner) : inner_(std::move(inner)) {}
  std::uint64_t size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }
  void read_at(std::uint64_t offset, MutableBytes out) const override {
    ++reads_;
    bytes_ += out.size();
    inner_->read_at(offset, out);
  }
  std::uint64_t reads() const noexcept { return reads_; }
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  std::shared_ptr<const ReadAt> inner_;
  mutable std::uint64_t reads_ = 0;
  mutable std::uint64_t bytes_ = 0;
};

/// A storage of zeros that needs no memory, as large as one likes.
class ZeroStorage final : public Storage {
 public:
  explicit ZeroStorage(std::uint64_t nbytes) : nbytes_(nbytes) {}
  std::uint64_t nbytes() const noexcept override { return nbytes_; }
  void read(std::uint64_t offset, MutableBytes out) const override;

 private:
  std::uint64_t nbytes_;
};

/// The file a Plan describes, without the memory it would take: payloads are read as zeros, CRCs are left 0.
class PlanReadAt final : public ReadAt {
 public:
  explicit PlanReadAt(Plan plan) : plan_(std::move(plan)) {}
  std::uint64_t size() const override { return plan_.file_size; }
  const std::string& name() const override { return name_; }
  void read_at(std::uint64_t offset, MutableBytes out) const override;

 private:
  Plan plan_;
  std::string name_ = "plan.pt";
};

}  // namespace torchkeep::testing
