// SPDX-License-Identifier: BSD-3-Clause
// Plans the file of a rank: which leaves it writes, their items, and the tail that makes the whole a .pt file.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <map>
#include <tuple>
#include <unordered_set>

#include <torchkeep/base/crc32.h>
#include <torchkeep/format/rank_file.h>
#include <torchkeep/shard/owners.h>
#include <torchkeep/state/elements.h>
#include <torchkeep/state/hash.h>
#include <torchkeep/state/rewrite.h>

#include "flatten.h"
#include "part_storage.h"
#include "pickle/pickle.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

using dcp::Leaf;
using dcp::Path;

constexpr std::uint64_t kSmall = std::uint64_t{64} << 10;  // bytes of what rank 0 writes, or that need no page
constexpr std::uint32_t kNoPayload = ~std::uint32_t{0};
constexpr std::uint64_t kItemAlignment = 64;
constexpr std::uint64_t kPageAlignment = 4096;

[[noreturn]] void fail(const std::string& key, Code code, std::string message) {
  throw Error(code, std::move(message), {.file = {}, .record = {}, .offset = {}, .key = key});
}

// A leaf of the state, or of what this rank alone has.
struct Planned {
  std::string fqn;
  Value value;        // of a tensor: the elements of its box, contiguous
  Shape global = {};  // of a tensor
  Box box = {};       // of a tensor
  bool is_tensor = false;
  bool is_mine = false;  // this rank writes it
  std::size_t row = 0;   // in the table of tensors or values
  /// What the tensor looks at: equal for tensors that are the same memory.
  using View = std::tuple<const void*, DType, std::int64_t, Shape, Shape, Shape, Shape>;
  View view = {};
};

Box box_of(const std::string& fqn, const Tensor& tensor) {
  if (tensor.shard == nullptr) return {Shape(tensor.sizes.size(), 0), tensor.sizes};
  Box box{tensor.shard->offset, tensor.sizes};
  if (!is_inside(box, tensor.shard->global)) {
    fail(fqn, Code::invalid_argument, "a Shard that does not fit its tensor: the part must lie inside the whole");
  }
  return box;
}

// The elements of a box as a tensor of their own.
Tensor contiguous(const Tensor& tensor, const Shape& sizes) {
  Tensor flat;
  flat.dtype = tensor.dtype;
  flat.sizes = sizes;
  flat.strides = contiguous_strides(sizes);
  flat.storage = std::make_shared<dcp::PartStorage>(contiguous_storage(tensor));
  return flat;
}

Value meta_of(const Tensor& tensor, const Shape& global) {
  static const StoragePtr none = std::make_shared<MetaStorage>();
  Tensor meta;
  meta.dtype = tensor.dtype;
  meta.sizes = global;
  meta.strides = contiguous_strides(global);
  meta.storage = none;
  meta.requires_grad = tensor.requires_grad;
  meta.is_parameter = tensor.is_parameter;
  return Value(meta);
}

// Flattens what a rank has into the tables of its list.
class Collector {
 public:
  Collector(const RankOfSave& of, RankList& list) : of_(of), list_(list) {}

  void run(const RankState& state) {
    if (!state.state.is_mapping()) state.state.fail_kind("a dict");
    list_.structure = collect(state.state, {});
    if (of_.rank != 0) list_.structure = Value();
    own_ = leaves_.size();
    if (!state.own.is_none() && state.state.contains("rank"))
      fail("rank", Code::mismatch, "a name that is kept for what single ranks have: rename this part of the state");
    if (!state.own.is_none()) list_.own = collect(state.own, {"rank", std::to_string(of_.rank)});
    for (std::size_t i = own_; i < leaves_.size(); ++i) {
      ++(leaves_[i].is_tensor ? list_.own_tensors : list_.own_values);
    }
    choose_owners();
  }

  std::vector<Planned>& leaves() noexcept { return leaves_; }

 private:
  Value collect(const Value& state, const Path& prefix) {
    return dcp::flatten(state, prefix, dcp::Tensors::plain, [this](const Leaf& leaf) {
      if (!names_.insert(leaf.fqn).second) {
        fail(leaf.fqn, Code::mismatch,
             "two tensors or values have this name once the keys above them are joined by dots");
      }
      if (leaf.fqn == "torchkeep") fail(leaf.fqn, Code::unsupported, "a name that the file keeps for itself");
      return leaf.is_tensor ? add_tensor(leaf) : add_value(leaf);
    });
  }

  Value add_tensor(const Leaf& leaf) {
    const Tensor& tensor = leaf.value.as_tensor();
    try {
      tensor.validate();
    } catch (const Error& error) {
      fail(leaf.fqn, Code::unsupported, error.message());
    }
    Planned planned{.fqn = leaf.fqn, .value = {}, .is_tensor = true, .row = list_.tensors.size()};
    planned.box = box_of(leaf.fqn, tensor);
    planned.global = tensor.shard == nullptr ? tensor.sizes : tensor.shard->global;
    if (element_count(planned.global) == 0) planned.box = {Shape(planned.global.size(), 0), planned.global};
    planned.view = {tensor.storage->identity(), tensor.dtype,  tensor.storage_offset, tensor.sizes, tensor.strides,
                    planned.box.offset,         planned.global};
    planned.value = Value(contiguous(tensor, planned.box.size));
    list_.tensors.add(leaf.fqn, tensor.dtype, planned.global);
    replicas_.push_back(tensor.shard == nullptr ? std::vector<std::int64_t>() : tensor.shard->replicas);
    is_whole_.push_back(tensor.shard == nullptr);
    leaves_.push_back(std::move(planned));
    // Tensors that are the same memory become one tensor again when they are loaded.
    const Value meta = meta_of(tensor, leaves_.back().global);
    if (tensor.nbytes() == 0) return meta;
    return metas_.try_emplace({leaves_.back().view, tensor.requires_grad, tensor.is_parameter}, meta).first->second;
  }

  Value add_value(const Leaf& leaf) {
    leaves_.push_back({.fqn = leaf.fqn, .value = leaf.value, .row = list_.values.names.size()});
    std::uint64_t first = 0;
    const Digest digest = hash(leaf.value, {.threads = 1});
    std::memcpy(&first, digest.data(), sizeof(first));
    list_.values.names.add(leaf.fqn);
    list_.values.hash.push_back(first);
    list_.values.offset.push_back(ValueTable::kNowhere);
    list_.values.length.push_back(0);
    return leaf.value;
  }

  // Ranks that hold the same part ask the same questions in the same order: that of the names.
  void choose_owners() {
    std::vector<Planned*> order;
    for (std::size_t i = 0; i < leaves_.size(); ++i) {
      Planned& leaf = leaves_[i];
      if (leaf.is_tensor)
        order.push_back(&leaf);
      else
        leaf.is_mine = i >= own_ || of_.rank == 0;
    }
    std::sort(order.begin(), order.end(), [](const Planned* a, const Planned* b) { return a->fqn < b->fqn; });
    const std::size_t shared = order.size() - list_.own_tensors;
    for (Planned* leaf : order) leaf->is_mine = leaf->row >= shared || owner_of(*leaf) == of_.rank;
  }

  std::size_t owner_of(const Planned& leaf) {
    const std::uint64_t nbytes = leaf.value.as_tensor().nbytes();
    if (element_count(leaf.global) == 0 || (is_whole_[leaf.row] && nbytes < kSmall)) return 0;
    const auto& group = is_whole_[leaf.row] ? all_ranks() : check_group(leaf, replicas_[leaf.row]);
    if (group.empty()) return of_.rank;
    const auto [known, is_new] = owners_.try_emplace(group, group.size());
    std::vector<std::size_t> members(group.size());
    for (std::size_t i = 0; i < members.size(); ++i) members[i] = i;
    return static_cast<std::size_t>(group[known->second.choose(members, nbytes, leaf.fqn)]);
  }

  const std::vector<std::int64_t>& all_ranks() {
    while (all_.size() < of_.world) all_.push_back(static_cast<std::int64_t>(all_.size()));
    return all_;
  }

  const std::vector<std::int64_t>& check_group(const Planned& leaf, const std::vector<std::int64_t>& group) const {
    const bool is_sorted = std::adjacent_find(group.begin(), group.end(), std::greater_equal<>()) == group.end();
    const bool fits = group.empty() || (group.front() >= 0 && group.back() < std::int64_t{of_.world} &&
                                        std::binary_search(group.begin(), group.end(), std::int64_t{of_.rank}));
    if (!is_sorted || !fits) {
      fail(
          leaf.fqn, Code::invalid_argument,
          fmt::format("Shard::replicas must be ranks below {} in ascending order, {} among them", of_.world, of_.rank));
    }
    return group;
  }

  const RankOfSave& of_;
  RankList& list_;
  std::vector<Planned> leaves_;
  std::size_t own_ = 0;  // the first leaf of this rank alone
  std::unordered_set<std::string> names_;
  std::vector<std::vector<std::int64_t>> replicas_;  // by tensor
  std::vector<bool> is_whole_;                       // by tensor: it has no Shard
  std::map<std::tuple<Planned::View, bool, bool>, Value> metas_;
  std::map<std::vector<std::int64_t>, Owners> owners_;  // by the ranks that share parts
  std::vector<std::int64_t> all_;
};

Value to_list(const Shape& numbers) {
  std::vector<Value> elements;
  for (const std::int64_t number : numbers) elements.push_back(number);
  return Value::sequence(Kind::list, std::move(elements));
}

// Lays out the items and the tail.
class Layout {
 public:
  Layout(RankFile& file, const std::vector<Planned>& leaves) : file_(file), list_(file.list), leaves_(leaves) {}

  void run() {
    for (const Planned& leaf : leaves_) {
      if (leaf.is_mine && (!leaf.is_tensor || leaf.value.as_tensor().nbytes() > 0 || element_count(leaf.global) == 0))
        leaf.is_tensor ? write_chunk(leaf) : write_value(leaf);
      else if (leaf.is_tensor && !leaf.is_mine && leaf.value.as_tensor().nbytes() > 0)
        note_replica(leaf);
    }
    if (items_.empty()) return;
    list_.file.name = rank_file_name(list_.of.rank);
    write_tail();
    list_.file.size = file_.plan.file_size;
  }

 private:
  void write_chunk(const Planned& leaf) {
    ChunkTable& chunks = list_.chunks;
    const auto row = [&](std::uint64_t offset, std::uint32_t before, std::uint32_t behind, std::uint32_t payload) {
      chunks.tensor.push_back(static_cast<std::uint32_t>(leaf.row));
      chunks.boxes.insert(chunks.boxes.end(), leaf.box.offset.begin(), leaf.box.offset.end());
      chunks.boxes.insert(chunks.boxes.end(), leaf.box.size.begin(), leaf.box.size.end());
      chunks.offset.push_back(offset);
      chunks.crc.push_back(0);
      chunks.before.push_back(before);
      chunks.behind.push_back(behind);
      file_.payloads.push_back(payload);
    };
    const Tensor& tensor = leaf.value.as_tensor();
    add_shard(leaf);
    if (tensor.nbytes() > 0) {
      if (const auto known = written_.find(leaf.view); known != written_.end()) {
        const std::size_t i = known->second.row;
        row(chunks.offset[i], chunks.before[i], chunks.behind[i], file_.payloads[i]);
        return whole_.set(Value::string(leaf.fqn), known->second.value);
      }
      written_.emplace(leaf.view, Written{chunks.size(), leaf.value});
    }
    const std::uint32_t payload = tensor.nbytes() > 0 ? static_cast<std::uint32_t>(zip_.payloads()) : kNoPayload;
    const auto [item, offset] = write_item(leaf, tensor.nbytes());
    row(offset, static_cast<std::uint32_t>(offset - item.begin),
        static_cast<std::uint32_t>(item.begin + item.size - offset - tensor.nbytes()), payload);
    whole_.set(Value::string(leaf.fqn), leaf.value);
    std::uint64_t first = BlockCrcs::kNone;
    if (tensor.nbytes() > BlockCrcs::kBlock) {
      first = numbers_;
      numbers_ += (tensor.nbytes() + BlockCrcs::kBlock - 1) / BlockCrcs::kBlock;
    }
    first_.resize(zip_.payloads(), first);
  }

  void write_value(const Planned& leaf) {
    Planned alone = leaf;
    std::map<const void*, StoragePtr> parts;
    alone.value = with_storages(leaf.value, [&parts](const StoragePtr& storage) {
      StoragePtr& part = parts[storage->identity()];
      if (part == nullptr) part = storage->has_bytes() ? std::make_shared<dcp::PartStorage>(storage) : storage;
      return part;
    });
    const auto [item, offset] = write_item(alone, 0);
    list_.values.offset[leaf.row] = item.begin;
    list_.values.length[leaf.row] = item.size;
    whole_.set(Value::string(leaf.fqn), alone.value);
    first_.resize(zip_.payloads(), BlockCrcs::kNone);
  }

  /// The item, and where the bytes of its first storage lie in the file.
  std::pair<ByteRange, std::uint64_t> write_item(const Planned& leaf, std::uint64_t nbytes) {
    pickle::Pickled pickled;
    try {
      pickled = pickle::write(leaf.value, storages_);
    } catch (const Error& error) {
      throw error.at({.file = {}, .record = {}, .offset = {}, .key = leaf.fqn});
    }
    const std::uint64_t alignment = nbytes > kSmall ? kPageAlignment : kItemAlignment;
    zip_.begin_inner(alignment);
    zip_.add("data.pkl", pickled.bytes);
    zip_.set_alignment(alignment);
    std::uint64_t offset = zip_.size();
    for (std::size_t i = 0; i < pickled.storages.size(); ++i) {
      auto& [storage, size] = pickled.storages[i];
      const std::uint64_t begin = zip_.add(fmt::format("data/{}", storages_++), std::move(storage), size);
      if (i == 0) offset = begin;
    }
    zip_.set_alignment(kItemAlignment);
    zip_.add("byteorder", "little");
    zip_.add("version", "3\n");
    const ByteRange item = zip_.end_inner();
    items_.push_back(static_cast<std::int64_t>(item.begin));
    items_.push_back(static_cast<std::int64_t>(item.size));
    return {item, offset};
  }

  void add_shard(const Planned& leaf) {
    if (leaf.box.size == leaf.global) return;
    shards_.set(Value::string(leaf.fqn), Value::sequence(Kind::list, {to_list(leaf.global), to_list(leaf.box.offset)}));
  }

  void note_replica(const Planned& leaf) {
    ReplicaTable& replicas = list_.replicas;
    replicas.tensor.push_back(static_cast<std::uint32_t>(leaf.row));
    replicas.boxes.insert(replicas.boxes.end(), leaf.box.offset.begin(), leaf.box.offset.end());
    replicas.boxes.insert(replicas.boxes.end(), leaf.box.size.begin(), leaf.box.size.end());
    replicas.crc.push_back(0);
    file_.replicas.push_back(leaf.value.as_tensor());
  }

  void write_tail() {
    const std::string items(reinterpret_cast<const char*>(items_.data()), items_.size() * sizeof(std::int64_t));
    const auto table = std::make_shared<OwnedStorage>(numbers_ * sizeof(std::int64_t));
    Value about{{"format", "rank file"},
                {"version", 1},
                {"save", list_.of.save},
                {"rank", std::int64_t{list_.of.rank}},
                {"world", std::int64_t{list_.of.world}},
                {"shards", shards_}};
    about.set(Value::string("items"),
              Tensor::from_bytes(DType::int64, {static_cast<std::int64_t>(items_.size() / 2), 2}, as_bytes(items)));
    Tensor blocks;
    blocks.dtype = DType::int64;
    blocks.sizes = {static_cast<std::int64_t>(numbers_)};
    blocks.strides = {1};
    blocks.storage = table;
    about.set(Value::string("blocks"), blocks);
    whole_.set(Value::string("torchkeep"), about);
    const pickle::Pickled pickled = pickle::write(whole_);
    list_.file.begin = zip_.size();
    list_.file.numbers = numbers_;
    zip_.add(fmt::format("data/{}", storages_), items);
    list_.file.blocks = zip_.add(fmt::format("data/{}", storages_ + 1), table, table->nbytes());
    zip_.add("data.pkl", pickled.bytes);
    zip_.add("byteorder", "little");
    zip_.add("version", "3\n");
    file_.plan = std::move(zip_).finish();
    file_.plan.blocks.table = table;
    file_.plan.blocks.first = std::move(first_);
  }

  struct Written {
    std::size_t row;
    Value value;
  };

  RankFile& file_;
  RankList& list_;
  const std::vector<Planned>& leaves_;
  zip::Writer zip_{"archive"};
  std::uint32_t storages_ = 0;        // so far: the number of the next
  std::vector<std::int64_t> items_;   // offset and length of each
  std::vector<std::uint64_t> first_;  // by payload, for BlockCrcs
  std::uint64_t numbers_ = 0;         // of all blocks
  Value whole_ = Value::mapping(Kind::dict);
  Value shards_ = Value::mapping(Kind::dict);
  std::map<Planned::View, Written> written_;
};

// CRC-32s of the file's tail and of what lies before it and is no chunk, of a plan whose literals are complete.
void set_crcs(RankFile& file, const std::vector<std::uint32_t>& crcs) {
  FileTail& tail = file.list.file;
  std::vector<bool> is_chunk(crcs.size() + 1, false);
  for (const std::uint32_t payload : file.payloads) is_chunk[std::min<std::size_t>(payload, crcs.size())] = true;
  tail.crc = tail.frame = 0;
  for (const Extent& extent : file.plan.extents) {
    if (extent.is_payload) {
      std::uint32_t& crc = extent.file_offset < tail.begin ? tail.frame : tail.crc;
      if (extent.file_offset >= tail.begin || !is_chunk[extent.index])
        crc = crc32_combine(crc, crcs[extent.index], extent.size);
      continue;
    }
    const Bytes bytes = as_bytes(file.plan.literals).subspan(extent.index, extent.size);
    const std::uint64_t before = std::clamp(tail.begin, extent.file_offset, extent.file_offset + extent.size);
    tail.frame = crc32(bytes.first(before - extent.file_offset), tail.frame);
    tail.crc = crc32(bytes.subspan(before - extent.file_offset), tail.crc);
  }
}

std::uint32_t crc_of(const Storage& storage) {
  if (storage.data() != nullptr) return crc32({storage.data(), static_cast<std::size_t>(storage.nbytes())});
  const auto reader = storage.reader();
  std::vector<std::byte> block;
  std::uint32_t crc = 0;
  for (std::uint64_t done = 0; done < storage.nbytes(); done += block.size()) {
    block.resize(static_cast<std::size_t>(std::min(BlockCrcs::kBlock, storage.nbytes() - done)));
    reader != nullptr ? reader->read(block) : storage.read(done, block);
    crc = crc32(block, crc);
  }
  return crc;
}

}  // namespace

void TensorTable::add(std::string_view name, DType dtype, ShapeView shape) {
  names_.add(name);
  dtypes_.push_back(dtype);
  sizes_.insert(sizes_.end(), shape.begin(), shape.end());
  ends_.push_back(sizes_.size());
}

std::string rank_file_name(std::uint32_t rank) {
  return fmt::format("__{}_0.distcp", rank);
}

RankFile plan_rank_file(const RankState& state, const RankOfSave& of) {
  if (of.save.empty() || of.rank >= of.world) {
    throw Error(Code::invalid_argument, fmt::format("rank {} of {} in the save '{}'", of.rank, of.world, of.save));
  }
  RankFile file;
  file.list.of = of;
  Collector collector(file.list.of, file.list);
  collector.run(state);
  Layout(file, collector.leaves()).run();
  return file;
}

void complete(RankFile& file) {
  std::vector<std::uint32_t> crcs(file.plan.payloads.size());
  for (const CrcPatch& patch : file.plan.patches)
    std::memcpy(&crcs[patch.payload], file.plan.literals.data() + patch.literal_offset, sizeof(std::uint32_t));
  ChunkTable& chunks = file.list.chunks;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    if (file.payloads[i] != kNoPayload) chunks.crc[i] = crcs[file.payloads[i]];
  }
  set_crcs(file, crcs);
  for (std::size_t i = 0; i < file.replicas.size(); ++i) file.list.replicas.crc[i] = crc_of(*file.replicas[i].storage);
}

}  // namespace torchkeep
