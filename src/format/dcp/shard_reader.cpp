// SPDX-License-Identifier: BSD-3-Clause
// Reads what wanted boxes and chunks have in common, MiB by MiB.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unordered_map>

#include <torchkeep/base/crc32.h>
#include <torchkeep/base/parallel.h>
#include <torchkeep/format/shard_reader.h>

#include "chunk_blocks.h"
#include "folder.h"
#include "part_copy.h"
#include "show.h"

namespace torchkeep {
namespace {

using namespace dcp;

bool overlap(BoxView a, BoxView b) noexcept {
  for (std::size_t d = 0; d < a.offset.size(); ++d) {
    if (a.offset[d] >= b.offset[d] + b.size[d] || b.offset[d] >= a.offset[d] + a.size[d]) return false;
  }
  return !is_empty(a) && !is_empty(b);
}

// What is wanted of one chunk.
struct Task {
  const MetaEntry* entry;
  std::size_t chunk;
  const BoxRequest* request;
};

void copy_part(const OpenFolder& opened, const Task& task) {
  const MetaEntry& entry = *task.entry;
  const BoxView chunk = entry.chunks[task.chunk];
  const Tensor& target = task.request->target;
  const Box common = *intersect(chunk, task.request->box);
  const PartCopy part(common, chunk, task.request->box, target.strides, itemsize(entry.dtype));
  std::byte* const memory = target.writable_memory().data();
  ChunkBlocks blocks(opened, entry, task.chunk);
  for (std::uint64_t run = 0; run < part.count(); ++run)
    blocks.read(part.from(run), {memory + part.to(run), static_cast<std::size_t>(part.length())});
  blocks.finish();
}

}  // namespace

class ShardReader::Impl {
 public:
  Impl(const Folder& folder, const PtReadOptions& options) : opened_(open_folder(folder, options)) {
    structure_ = structure_of(folder, options, opened_);
    for (std::size_t i = 0; i < opened_.metadata.entries.size(); ++i) {
      if (opened_.metadata.entries[i].is_tensor) tensors_.emplace(opened_.metadata.entries[i].fqn, i);
    }
  }

  const OpenFolder& opened() const noexcept { return opened_; }
  const Value& structure() const noexcept { return structure_; }

  const MetaEntry* find(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &opened_.metadata.entries[found->second];
  }

  void read(std::span<const BoxRequest> requests, unsigned threads) const {
    check(requests);
    std::vector<Task> tasks;
    for (const BoxRequest& request : requests) {
      const MetaEntry& entry = *find(request.name);
      for (std::size_t i = 0; i < entry.chunks.size(); ++i) {
        if (overlap(entry.chunks[i], request.box)) tasks.push_back({&entry, i, &request});
      }
    }
    const auto place = [](const Task& task) -> const ItemPlace& { return task.entry->places[task.chunk]; };
    std::sort(tasks.begin(), tasks.end(), [&](const Task& a, const Task& b) {
      return std::pair(place(a).file, place(a).offset) < std::pair(place(b).file, place(b).offset);
    });
    parallel_for(tasks.size(), threads, [&](std::uint64_t i) { copy_part(opened_, tasks[i]); });
  }

 private:
  // Nothing when the request can be read.
  std::string obstacle(const BoxRequest& request) const {
    const MetaEntry* const entry = find(request.name);
    if (entry == nullptr) return "no tensor of this name is in the folder";
    if (!is_inside(request.box, entry->shape))
      return fmt::format("{} of a tensor of shape [{}]", to_string(request.box), fmt::join(entry->shape, ", "));
    const Tensor& target = request.target;
    if (target.dtype != entry->dtype)
      return fmt::format("{} in the folder, and the target is {}", to_string(entry->dtype), to_string(target.dtype));
    if (target.sizes != request.box.size)
      return fmt::format("{} for a target of shape [{}]", to_string(request.box), fmt::join(target.sizes, ", "));
    if (target.numel() > 0 && target.writable_memory().data() == nullptr)
      return "a target that is not in memory that may be overwritten";
    return {};
  }

  void check(std::span<const BoxRequest> requests) const {
    std::vector<std::string> bad;
    for (const BoxRequest& request : requests) {
      if (const std::string why = obstacle(request); !why.empty())
        bad.push_back(fmt::format("'{}': {}", detail::show(request.name), why));
    }
    if (bad.empty()) return;
    throw Error(Code::mismatch, fmt::format("{}", fmt::join(bad, "; ")),
                {.file = opened_.path, .record = {}, .offset = {}, .key = {}});
  }

  OpenFolder opened_;
  Value structure_;
  std::unordered_map<std::string, std::size_t> tensors_;  // index of the entry
};

ShardReader::ShardReader(const Folder& folder, const PtReadOptions& options)
    : impl_(std::make_unique<const Impl>(folder, options)) {}
ShardReader::~ShardReader() = default;
ShardReader::ShardReader(ShardReader&&) noexcept = default;
ShardReader& ShardReader::operator=(ShardReader&&) noexcept = default;

const Value& ShardReader::structure() const noexcept {
  return impl_->structure();
}

Value ShardReader::own(std::uint32_t rank) const {
  if (!impl_->opened().manifest) return {};
  for (const auto& [owner, value] : impl_->opened().manifest->own) {
    if (owner == rank) return value;
  }
  return {};
}

std::optional<std::uint32_t> ShardReader::world() const noexcept {
  const auto& manifest = impl_->opened().manifest;
  return manifest ? std::optional(manifest->world) : std::nullopt;
}

std::optional<std::string> ShardReader::save() const {
  const auto& manifest = impl_->opened().manifest;
  return manifest ? std::optional(manifest->save) : std::nullopt;
}

std::optional<ShardReader::Found> ShardReader::find(const std::string& name) const {
  const MetaEntry* const entry = impl_->find(name);
  return entry == nullptr ? std::nullopt : std::optional(Found{entry->dtype, entry->shape});
}

void ShardReader::read(std::span<const BoxRequest> requests, unsigned threads) const {
  impl_->read(requests, threads);
}

}  // namespace torchkeep
