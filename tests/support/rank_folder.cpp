// SPDX-License-Identifier: BSD-3-Clause
#include "support/rank_folder.h"

#include <cstring>

#include <torchkeep/checkpoint/export.h>
#include <torchkeep/checkpoint/sharded.h>

#include "support/dcp_folder.h"

namespace torchkeep::testing {
namespace {

class StringFile final : public File {
 public:
  void write_at(std::uint64_t offset, Bytes bytes) override {
    if (bytes_.size() < offset + bytes.size()) bytes_.resize(static_cast<std::size_t>(offset) + bytes.size());
    if (!bytes.empty()) std::memcpy(bytes_.data() + offset, bytes.data(), bytes.size());
  }
  bool reserve(std::uint64_t) override { return false; }
  void sync() override {}
  void close() override {}
  const std::string& path() const noexcept override { return path_; }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
  std::string path_ = "<memory>";
};

class CountedReadAt final : public ReadAt {
 public:
  CountedReadAt(const std::string& bytes, std::string name,
                std::shared_ptr<std::map<std::string, std::uint64_t>> counts, std::string key)
      : bytes_(bytes), name_(std::move(name)), counts_(std::move(counts)), key_(std::move(key)) {}
  std::uint64_t size() const override { return bytes_.size(); }
  void read_at(std::uint64_t offset, MutableBytes out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      throw Error(Code::corrupt, "the file ends before these bytes",
                  {.file = name_, .record = {}, .offset = offset, .key = {}});
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    (*counts_)[key_] += out.size();
  }
  const std::string& name() const override { return name_; }

 private:
  const std::string& bytes_;
  std::string name_;
  std::shared_ptr<std::map<std::string, std::uint64_t>> counts_;
  std::string key_;
};

}  // namespace

std::string write(RankFile& file) {
  StringFile out;
  write_rank_file(file, out);
  return out.take();
}

std::string write(Plan plan) {
  std::string out;
  stream_plan(std::move(plan), [&](Bytes bytes) { out += as_text(bytes); });
  return out;
}

Folder RankFolder::folder() const {
  Folder folder;
  folder.name = "ckpt";
  for (const auto& [name, bytes] : files) folder.files.push_back(name);
  folder.open = [this](const std::string& name) -> std::shared_ptr<const ReadAt> {
    const auto found = files.find(name);
    if (found == files.end())
      throw Error(Code::not_found, "no such file", {.file = "ckpt/" + name, .record = {}, .offset = {}, .key = {}});
    return std::make_shared<CountedReadAt>(found->second, "ckpt/" + name, bytes_read, name);
  };
  return folder;
}

void RankFolder::set_manifest(Manifest manifest) {
  const auto shared = std::make_shared<const Manifest>(std::move(manifest));
  files[std::string(kManifestName)] = write(plan_manifest(shared));
  std::string& metadata = files[".metadata"];
  metadata.clear();
  write_dcp_metadata(*shared, [&](Bytes bytes) { metadata += as_text(bytes); });
}

Manifest RankFolder::manifest() const {
  const std::string name(kManifestName);
  return read_manifest(std::make_shared<MemoryReadAt>(files.at(name), "ckpt/" + name));
}

RankFolder save_ranks(const std::vector<RankState>& ranks, const std::string& save) {
  RankFolder folder;
  const auto world = static_cast<std::uint32_t>(ranks.size());
  ManifestBuilder builder({save, 0, world});
  for (std::uint32_t rank = 0; rank < world; ++rank) {
    RankFile file = plan_rank_file(ranks[rank], {save, rank, world});
    std::string bytes = write(file);
    if (!file.list.file.name.empty()) folder.files[file.list.file.name] = std::move(bytes);
    builder.add(rank_list_from(to_bytes(file.list)));
  }
  folder.set_manifest(std::move(builder).finish());
  return folder;
}

Tensor part_of(const Tensor& whole, const Box& box, std::vector<std::int64_t> replicas) {
  Tensor part = whole;
  part.sizes = box.size;
  if (part.numel() > 0) {
    for (std::size_t d = 0; d < box.offset.size(); ++d) part.storage_offset += box.offset[d] * whole.strides[d];
  }
  part.shard = std::make_shared<const Shard>(Shard{whole.sizes, box.offset, std::move(replicas)});
  return part;
}

RankFolder sample_rank_folder(const std::string& save, float first) {
  Tensor whole = box_of_numbers(Box({0, 0}, {6, 4}), Shape{6, 4});
  if (first != 0) whole = Tensor::of<float>({6, 4}, std::vector<float>(24, first));
  const Tensor bias = Tensor::of<float>({3}, {1, 2, first});
  std::vector<RankState> ranks;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Box box = rank == 0 ? Box({0, 0}, {4, 4}) : Box({4, 0}, {2, 4});
    const auto number = static_cast<std::uint8_t>(rank);
    ranks.push_back({Value{{"w", part_of(whole, box)}, {"bias", bias}, {"n", 7}},
                     Value{{"seed", rank}, {"rng", Tensor::of<std::uint8_t>({3}, {number, 5, 6})}}});
  }
  return save_ranks(ranks, save);
}

}  // namespace torchkeep::testing
