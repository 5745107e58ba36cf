// SPDX-License-Identifier: BSD-3-Clause
// From the lists of all ranks to one manifest: rows are appended rank by rank, and compared tensor by tensor at the
// end.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>
#include <unordered_map>

#include <torchkeep/base/hash.h>
#include <torchkeep/format/manifest.h>
#include <torchkeep/shard/cover.h>

#include "chunk_index.h"
#include "show.h"

namespace torchkeep {
namespace {

using detail::show;

constexpr std::size_t kNamed = 5;  // things that an error names

struct NameHash {
  std::uint64_t seed = detail::hash_seed();
  std::size_t operator()(std::string_view text) const noexcept { return detail::hash_text(text, seed); }
};

[[noreturn]] void fail(Code code, std::string message, std::string_view key = {}) {
  throw Error(code, std::move(message), {.file = {}, .record = {}, .offset = {}, .key = show(key)});
}

std::string join(std::vector<std::string> parts) {
  const std::size_t count = parts.size();
  if (count > kNamed) parts.resize(kNamed);
  return fmt::format("{}{}", fmt::join(parts, "; "), count > kNamed ? fmt::format("; {} in all", count) : "");
}

void append_boxes(std::vector<std::int64_t>& to, BoxView box) {
  to.insert(to.end(), box.offset.begin(), box.offset.end());
  to.insert(to.end(), box.size.begin(), box.size.end());
}

}  // namespace

class ManifestBuilder::Impl {
 public:
  explicit Impl(const RankOfSave& leader) {
    manifest_.save = leader.save;
    manifest_.world = leader.world;
  }

  void add(const RankList& list) {
    check_rank(list);
    if (list.of.rank == 0) {
      take_first(list);
    } else {
      map_tensors(list);
      map_values(list);
    }
    add_own(list);
    add_chunks(list);
    add_replicas(list);
    add_values(list);
    ++next_;
  }

  Manifest finish() {
    if (next_ != manifest_.world)
      fail(Code::invalid_argument, fmt::format("the lists of {} of {} ranks", next_, manifest_.world));
    const ChunkIndex index(manifest_.tensors, manifest_.chunks);
    check_cover(index);
    check_replicas(index);
    for (std::size_t i = 0; i < manifest_.values.names.size(); ++i) {
      if (manifest_.values.offset[i] == ValueTable::kNowhere)
        fail(Code::mismatch, "no rank wrote this value", manifest_.values.names[i]);
    }
    return std::move(manifest_);
  }

 private:
  void check_rank(const RankList& list) const {
    if (list.of.rank != next_)
      fail(Code::invalid_argument,
           fmt::format("the list of rank {} where that of rank {} comes next", list.of.rank, next_));
    if (list.of.save == manifest_.save && list.of.world == manifest_.world) return;
    fail(Code::mismatch,
         fmt::format("rank {} writes the save '{}' of {} ranks, and rank 0 the save '{}' of {}", list.of.rank,
                     show(list.of.save), list.of.world, show(manifest_.save), manifest_.world));
  }

  void take_first(const RankList& list) {
    manifest_.structure = list.structure;
    shared_tensors_ = list.tensors.size() - list.own_tensors;
    shared_values_ = list.values.names.size() - list.own_values;
    for (std::size_t i = 0; i < shared_tensors_; ++i)
      manifest_.tensors.add(list.tensors.name(i), list.tensors.dtype(i), list.tensors.shape(i));
    tensor_map_.resize(shared_tensors_);
    for (std::size_t i = 0; i < shared_tensors_; ++i) tensor_map_[i] = static_cast<std::uint32_t>(i);
    for (std::size_t i = 0; i < shared_values_; ++i) add_value(list.values.names[i], list.values.hash[i]);
    value_map_.resize(shared_values_);
    for (std::size_t i = 0; i < shared_values_; ++i) value_map_[i] = i;
  }

  // Which tensor of the manifest each of the list's is. Most ranks have the same in the same order.
  void map_tensors(const RankList& list) {
    const std::size_t count = list.tensors.size() - list.own_tensors;
    tensor_map_.assign(count, 0);
    bool is_same = count == shared_tensors_;
    for (std::size_t i = 0; i < count && is_same; ++i) {
      is_same = same_tensor(list, i, i);
      tensor_map_[i] = static_cast<std::uint32_t>(i);
    }
    if (is_same) return;
    if (tensor_names_.empty()) {
      for (std::size_t i = 0; i < shared_tensors_; ++i)
        tensor_names_.emplace(std::string(manifest_.tensors.name(i)), static_cast<std::uint32_t>(i));
    }
    std::vector<bool> found(shared_tensors_, false);
    for (std::size_t i = 0; i < count; ++i) {
      const auto known = tensor_names_.find(std::string(list.tensors.name(i)));
      if (known == tensor_names_.end()) fail_unknown(list, list.tensors.name(i), "tensor");
      if (!same_tensor(list, i, known->second)) fail_tensor(list, i, known->second);
      tensor_map_[i] = known->second;
      found[known->second] = true;
    }
    const auto missing = std::find(found.begin(), found.end(), false);
    if (missing != found.end()) {
      fail(Code::mismatch, fmt::format("rank 0 has this tensor, and rank {} does not", list.of.rank),
           manifest_.tensors.name(static_cast<std::size_t>(missing - found.begin())));
    }
  }

  bool same_tensor(const RankList& list, std::size_t theirs, std::size_t ours) const {
    const ShapeView a = list.tensors.shape(theirs), b = manifest_.tensors.shape(ours);
    return list.tensors.name(theirs) == manifest_.tensors.name(ours) &&
           list.tensors.dtype(theirs) == manifest_.tensors.dtype(ours) &&
           std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

  [[noreturn]] void fail_tensor(const RankList& list, std::size_t theirs, std::size_t ours) const {
    fail(Code::mismatch,
         fmt::format("{} [{}] on rank {}, and {} [{}] on rank 0", to_string(list.tensors.dtype(theirs)),
                     fmt::join(list.tensors.shape(theirs), ", "), list.of.rank,
                     to_string(manifest_.tensors.dtype(ours)), fmt::join(manifest_.tensors.shape(ours), ", ")),
         list.tensors.name(theirs));
  }

  [[noreturn]] static void fail_unknown(const RankList& list, std::string_view name, std::string_view what) {
    fail(Code::mismatch,
         fmt::format("rank {} has this {}, and rank 0 does not: what single ranks have is kept apart, as of this rank",
                     list.of.rank, what),
         name);
  }

  void map_values(const RankList& list) {
    const std::size_t count = list.values.names.size() - list.own_values;
    value_map_.assign(count, 0);
    std::vector<bool> found(shared_values_, false);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string_view name = list.values.names[i];
      std::size_t ours = i;
      if (ours >= shared_values_ || manifest_.values.names[ours] != name) {
        const auto known = value_names_.find(std::string(name));
        if (known == value_names_.end()) fail_unknown(list, name, "value");
        ours = known->second;
      }
      if (list.values.hash[i] != manifest_.values.hash[ours]) {
        fail(
            Code::mismatch,
            fmt::format("its value on rank {} is another one than on rank 0: what differs between ranks is kept apart, "
                        "as of this rank",
                        list.of.rank),
            name);
      }
      value_map_[i] = ours;
      found[ours] = true;
    }
    const auto missing = std::find(found.begin(), found.end(), false);
    if (missing != found.end()) {
      fail(Code::mismatch, fmt::format("rank 0 has this value, and rank {} does not", list.of.rank),
           manifest_.values.names[static_cast<std::size_t>(missing - found.begin())]);
    }
  }

  void add_own(const RankList& list) {
    const std::size_t first = list.tensors.size() - list.own_tensors;
    for (std::size_t i = first; i < list.tensors.size(); ++i) {
      check_own_name(list, list.tensors.name(i));
      tensor_map_.push_back(static_cast<std::uint32_t>(manifest_.tensors.size()));
      manifest_.tensors.add(list.tensors.name(i), list.tensors.dtype(i), list.tensors.shape(i));
    }
    for (std::size_t i = list.values.names.size() - list.own_values; i < list.values.names.size(); ++i) {
      check_own_name(list, list.values.names[i]);
      value_map_.push_back(manifest_.values.names.size());
      add_value(list.values.names[i], list.values.hash[i]);
    }
    if (!list.own.is_none()) manifest_.own.emplace_back(list.of.rank, list.own);
  }

  // Else it could take the place of another rank's, or of the state's.
  void check_own_name(const RankList& list, std::string_view name) const {
    const std::string prefix = fmt::format("rank.{}", list.of.rank);
    if (name == prefix || name.starts_with(prefix + ".")) return;
    fail(Code::corrupt, fmt::format("a name of rank {} alone that does not begin with {}", list.of.rank, prefix), name);
  }

  void add_value(std::string_view name, std::uint64_t hash) {
    if (!value_names_.emplace(std::string(name), manifest_.values.names.size()).second)
      fail(Code::corrupt, "two values of this name", name);
    manifest_.values.names.add(name);
    manifest_.values.hash.push_back(hash);
    manifest_.values.offset.push_back(ValueTable::kNowhere);
    manifest_.values.length.push_back(0);
    manifest_.value_file.push_back(0);
  }

  void add_chunks(const RankList& list) {
    if (list.file.name.empty()) {
      if (list.chunks.size() > 0) fail(Code::corrupt, fmt::format("rank {} has chunks and no file", list.of.rank));
      return;
    }
    ChunkTable& chunks = manifest_.chunks;
    const ChunkTable& theirs = list.chunks;
    for (ChunkCursor at(list.tensors, theirs.tensor, theirs.boxes); !at.at_end(); at.next())
      chunks.tensor.push_back(tensor_map_.at(at.tensor()));
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(chunks.boxes, theirs.boxes);
    append(chunks.offset, theirs.offset);
    append(chunks.crc, theirs.crc);
    append(chunks.before, theirs.before);
    append(chunks.behind, theirs.behind);
    manifest_.files.push_back({list.file, list.of.rank, theirs.size()});
  }

  void add_replicas(const RankList& list) {
    const ReplicaTable& theirs = list.replicas;
    for (ChunkCursor at(list.tensors, theirs.tensor, theirs.boxes); !at.at_end(); at.next()) {
      replicas_.tensor.push_back(tensor_map_.at(at.tensor()));
      append_boxes(replicas_.boxes, at.box());
      replicas_.crc.push_back(theirs.crc.at(at.chunk()));
      replica_ranks_.push_back(list.of.rank);
    }
  }

  void add_values(const RankList& list) {
    const auto file = static_cast<std::uint32_t>(manifest_.files.size() - 1);
    for (std::size_t i = 0; i < list.values.names.size(); ++i) {
      if (list.values.offset[i] == ValueTable::kNowhere) continue;
      const std::size_t ours = value_map_.at(i);
      manifest_.values.offset[ours] = list.values.offset[i];
      manifest_.values.length[ours] = list.values.length[i];
      manifest_.value_file[ours] = file;
    }
  }

  std::string ranks_of(std::span<const std::uint32_t> chunks) const {
    std::set<std::uint32_t> ranks;
    for (const std::uint32_t chunk : chunks) ranks.insert(rank_of(chunk));
    return fmt::format("{}", fmt::join(ranks, ", "));
  }
  std::uint32_t rank_of(std::uint32_t chunk) const {
    std::uint64_t first = 0;
    for (const Manifest::File& file : manifest_.files) {
      if (chunk < first + file.chunks) return file.rank;
      first += file.chunks;
    }
    return 0;
  }

  void check_cover(const ChunkIndex& index) const {
    std::vector<std::string> bad;
    for (std::size_t i = 0; i < manifest_.tensors.size(); ++i) {
      const BoxList boxes = index.boxes(i);
      const Cover cover = torchkeep::check_cover(manifest_.tensors.shape(i), boxes);
      if (cover.is_complete()) continue;
      std::string text = fmt::format("'{}': {}", show(manifest_.tensors.name(i)), cover.describe(boxes));
      if (cover.boxes) {
        const auto chunks = index.chunks(i);
        const std::uint32_t two[] = {chunks[cover.boxes->first], chunks[cover.boxes->second]};
        text += fmt::format(" (of ranks {})", ranks_of(two));
      }
      bad.push_back(std::move(text));
    }
    if (!bad.empty()) fail(Code::mismatch, fmt::format("the parts of the ranks are not the whole: {}", join(bad)));
  }

  // Each copy has the CRC of the chunk that was written of it.
  void check_replicas(const ChunkIndex& index) const {
    std::vector<std::string> bad;
    std::unordered_map<std::size_t, BoxIndex> by_tensor;
    for (ChunkCursor at(manifest_.tensors, replicas_.tensor, replicas_.boxes); !at.at_end(); at.next()) {
      const BoxIndex& boxes = by_tensor.try_emplace(at.tensor(), index, at.tensor()).first->second;
      const auto chunk = boxes.find(at.box());
      if (chunk && manifest_.chunks.crc[*chunk] == replicas_.crc[at.chunk()]) continue;
      const std::string what = fmt::format("'{}' {} of rank {}", show(manifest_.tensors.name(at.tensor())),
                                           to_string(at.box()), replica_ranks_[at.chunk()]);
      bad.push_back(chunk ? fmt::format("{} differs from that of rank {}", what, rank_of(*chunk))
                          : what + " was written by no rank");
    }
    if (!bad.empty()) fail(Code::mismatch, fmt::format("copies that should be equal: {}", join(bad)));
  }

  Manifest manifest_;
  std::uint32_t next_ = 0;  // rank
  std::size_t shared_tensors_ = 0;
  std::size_t shared_values_ = 0;
  std::vector<std::uint32_t> tensor_map_;  // of the list that is added
  std::vector<std::size_t> value_map_;
  std::unordered_map<std::string, std::uint32_t, NameHash> tensor_names_;
  std::unordered_map<std::string, std::size_t, NameHash> value_names_;
  ReplicaTable replicas_;
  std::vector<std::uint32_t> replica_ranks_;
};

ManifestBuilder::ManifestBuilder(const RankOfSave& leader) : impl_(std::make_unique<Impl>(leader)) {}
ManifestBuilder::~ManifestBuilder() = default;
ManifestBuilder::ManifestBuilder(ManifestBuilder&&) noexcept = default;
ManifestBuilder& ManifestBuilder::operator=(ManifestBuilder&&) noexcept = default;

void ManifestBuilder::add(const RankList& list) {
  impl_->add(list);
}

Manifest ManifestBuilder::finish() && {
  return impl_->finish();
}

}  // namespace torchkeep
