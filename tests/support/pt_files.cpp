// SPDX-License-Identifier: BSD-3-Clause
// Small .pt and zip files in memory.
#include "support/pt_files.h"

#include <algorithm>
#include <cstring>

#include <torchkeep/base/crc32.h>

namespace torchkeep::testing {

std::string assemble(const Plan& plan) {
  std::vector<std::string> payloads;
  for (const StoragePtr& storage : plan.payloads) {
    std::string bytes(storage->nbytes(), '\0');
    storage->read(0, std::as_writable_bytes(std::span(bytes)));
    payloads.push_back(std::move(bytes));
  }
  std::string literals = plan.literals;
  for (const CrcPatch& patch : plan.patches) {
    const std::uint32_t crc = crc32(as_bytes(payloads[patch.payload]));
    std::memcpy(literals.data() + patch.literal_offset, &crc, sizeof(crc));
  }
  std::string file;
  for (const Extent& extent : plan.extents) {
    file += extent.is_payload ? payloads[extent.index] : literals.substr(extent.index, extent.size);
  }
  return file;
}

std::string pt_bytes(const Value& value) {
  return assemble(plan_pt(value));
}

std::shared_ptr<const ReadAt> as_file(std::string bytes) {
  return std::make_shared<MemoryReadAt>(std::move(bytes), "test.pt");
}

Value read_all(std::string bytes, const PtReadOptions& options) {
  const OpenedFile file = open_pt(as_file(std::move(bytes)), options);
  load_storages(file.records);
  return file.value;
}

void ZeroStorage::read(std::uint64_t, MutableBytes out) const {
  std::fill(out.begin(), out.end(), std::byte{0});
}

void PlanReadAt::read_at(std::uint64_t offset, MutableBytes out) const {
  std::fill(out.begin(), out.end(), std::byte{0});
  for (const Extent& extent : plan_.extents) {
    const std::uint64_t begin = std::max(offset, extent.file_offset);
    const std::uint64_t end = std::min(offset + out.size(), extent.file_offset + extent.size);
    if (extent.is_payload || begin >= end) continue;
    std::memcpy(out.data() + (begin - offset), plan_.literals.data() + extent.index + (begin - extent.file_offset),
                end - begin);
  }
}

}  // namespace torchkeep::testing
