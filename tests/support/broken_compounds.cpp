// SPDX-License-Identifier: BSD-3-Clause
// The catalogue: tensors made of tensors, whose numbers lead to memory; and tensors of the device meta, which have
// none.
#include <cstring>

#include "support/broken_files.h"
#include "support/file_parts.h"

namespace torchkeep::testing {
namespace {

using namespace parts;

using Numbers = std::vector<std::int64_t>;

std::string utils(const char* name) {
  return global("torch._utils", name);
}
std::string no_hooks() {
  return global("collections", "OrderedDict") + ")R";
}

/// A file of torch.save whose pickle is put together while the records it needs are added.
class Maker {
 public:
  /// A tensor of int64 numbers over a record of its own.
  std::string indices(std::initializer_list<std::int64_t> sizes, std::initializer_list<std::int64_t> strides,
                      const Numbers& numbers) {
    std::string bytes(numbers.size() * 8, '\0');
    if (!bytes.empty()) std::memcpy(bytes.data(), numbers.data(), bytes.size());
    return tensor(add(bytes, "LongStorage", numbers.size()), 0, sizes, strides);
  }
  std::string vector(const Numbers& numbers) {
    return indices({static_cast<std::int64_t>(numbers.size())}, {1}, numbers);
  }
  /// float32 zeros, contiguous.
  std::string values(std::initializer_list<std::int64_t> sizes, std::initializer_list<std::int64_t> strides,
                     std::size_t count) {
    return tensor(add(std::string(count * 4, '\0'), "FloatStorage", count), 0, sizes, strides);
  }
  std::string add(const std::string& bytes, const char* storage_class, std::size_t count) {
    const std::string key = std::to_string(++last_);
    records_.push_back({.name = "archive/data/" + key, .data = bytes});
    return storage(key, static_cast<std::int64_t>(count), storage_class);
  }
  std::string file(std::string_view body) const {
    std::vector<Record> records = torch_records(pickle(body));
    records.insert(records.end() - 1, records_.begin(), records_.end());
    return zip(records);
  }

 private:
  std::vector<Record> records_;
  int last_ = 0;
};

std::string layout(const char* name) {
  return call(global("torch.serialization", "_get_layout"), {text(std::string("torch.") + name)});
}
std::string shape(std::initializer_list<std::int64_t> sizes) {
  return call(global("torch", "Size"), {numbers(sizes)});
}

// A 2 x 2 tensor with as many elements as `indices` has columns; its rows follow one another.
BrokenFile coo(const std::string& name, const Numbers& rows_and_columns, const char* coalesced,
               std::optional<Code> code, const char* message = "") {
  Maker maker;
  const auto count = static_cast<std::int64_t>(rows_and_columns.size() / 2);
  const std::string parts =
      tuple({maker.indices({2, count}, {count, 1}, rows_and_columns),
             maker.values({count}, {1}, static_cast<std::size_t>(count)), shape({2, 2}), coalesced});
  return {"sparse." + name, maker.file(call(utils("_rebuild_sparse_tensor"), {layout("sparse_coo"), parts})), code,
          message};
}

// A 2 x 2 tensor in a compressed layout, with one value for each plain index.
BrokenFile compressed(const std::string& name, const char* kind, const Numbers& ends, const Numbers& places,
                      std::optional<Code> code, const char* message = "") {
  Maker maker;
  const auto count = static_cast<std::int64_t>(places.size());
  const bool in_blocks = std::string_view(kind).starts_with("sparse_bs");
  const std::string values =
      in_blocks ? maker.values({count, 1, 1}, {1, 1, 1}, places.size()) : maker.values({count}, {1}, places.size());
  const std::string parts = tuple({maker.vector(ends), maker.vector(places), values, shape({2, 2})});
  return {"sparse." + name, maker.file(call(utils("_rebuild_sparse_tensor"), {layout(kind), parts})), code, message};
}

std::vector<BrokenFile> sparse() {
  constexpr Code corrupt = Code::corrupt;
  Maker tall;
  const std::string expanded = call(
      utils("_rebuild_sparse_tensor"),
      {layout("sparse_coo"),
       tuple({tall.indices({0, 1ll << 40}, {1, 1}, {}), tall.values({1ll << 40, 0}, {1, 1}, 0), shape({0}), "\x89"})});
  return {
      coo("coo_honest", {0, 1, 1, 0}, "\x88", std::nullopt),
      coo("coo_empty", {}, "\x88", std::nullopt),
      {"sparse.coo_without_dimensions", tall.file(expanded), std::nullopt},
      coo("coo_index_past_the_shape", {0, 1, 1, 2}, "\x89", corrupt, "index 2 in dimension 1, whose size is 2"),
      coo("coo_negative_index", {0, 1, 1, -1}, "\x89", corrupt, "index -1 in dimension 1"),
      coo("coo_coalesced_out_of_order", {1, 0, 0, 0}, "\x88", corrupt, "do not rise"),
      coo("coo_coalesced_twice_at_one_place", {1, 1, 0, 0}, "\x88", corrupt, "do not rise"),
      compressed("csr_honest", "sparse_csr", {0, 1, 2}, {1, 0}, std::nullopt),
      compressed("csc_honest", "sparse_csc", {0, 1, 2}, {1, 0}, std::nullopt),
      compressed("bsr_honest", "sparse_bsr", {0, 1, 2}, {1, 0}, std::nullopt),
      compressed("bsc_honest", "sparse_bsc", {0, 1, 2}, {1, 0}, std::nullopt),
      compressed("csr_column_past_the_shape", "sparse_csr", {0, 1, 2}, {1, 2}, corrupt, "plain index 2"),
      compressed("csc_negative_row", "sparse_csc", {0, 1, 2}, {-1, 0}, corrupt, "plain index -1"),
      compressed("bsr_block_past_the_shape", "sparse_bsr", {0, 1, 2}, {0, 1ll << 60}, corrupt, "plain index"),
      compressed("csr_columns_twice", "sparse_csr", {0, 2, 2}, {0, 0}, corrupt, "plain index 0 behind 0"),
      compressed("csr_begins_later", "sparse_csr", {1, 1, 2}, {1, 0}, corrupt, "do not begin with 0"),
      compressed("csr_falls", "sparse_csr", {0, 2, 1}, {0, 1}, corrupt, "compressed index 1 behind 2"),
      compressed("csr_ends_early", "sparse_csr", {0, 1, 1}, {1, 0}, corrupt, "do not end with"),
      compressed("csr_ends_past_its_elements", "sparse_csr", {0, 1, 3}, {1, 0}, corrupt, "compressed index 3"),
      compressed("bsc_end_of_the_universe", "sparse_bsc", {0, 0x7fffffffffffffff, 2}, {1, 0}, corrupt,
                 "compressed index"),
      compressed("csr_rows_missing", "sparse_csr", {0, 2}, {0, 1}, corrupt, "not one compressed index for each"),
  };
}

BrokenFile nested(const std::string& name, const Numbers& sizes, const Numbers& strides, const Numbers& offsets,
                  std::optional<Code> code, const char* message = "", std::int64_t elements = 4) {
  Maker maker;
  const auto count = static_cast<std::int64_t>(sizes.size());
  const std::string body =
      call(utils("_rebuild_nested_tensor"),
           {tensor(storage("0", 4), 0, {elements}, {1}), maker.indices({count, 1}, {1, 1}, sizes),
            maker.indices({static_cast<std::int64_t>(strides.size()), 1}, {1, 1}, strides), maker.vector(offsets)});
  return {"nested." + name, maker.file(body), code, message};
}

std::vector<BrokenFile> nested_tensors() {
  constexpr Code corrupt = Code::corrupt;
  constexpr std::int64_t kMax = 0x7fffffffffffffff;
  Maker repeated;
  const std::string millions =
      call(utils("_rebuild_nested_tensor"),
           {tensor(storage("0", 4), 0, {4}, {1}), repeated.indices({3'000'000, 1}, {0, 0}, {1}),
            repeated.indices({3'000'000, 1}, {0, 0}, {1}), repeated.indices({3'000'000}, {0}, {0})});
  Maker apart;
  const std::string gaps =
      call(utils("_rebuild_nested_tensor"),
           {tensor(storage("0", 4), 0, {4}, {1}), apart.indices({2, 1}, {1, 1}, {2, 2}),
            apart.indices({2, 1}, {1, 1}, {1, 1}), apart.indices({2}, {2}, {0, 10'000'000'000, 2})});
  Maker square;
  const std::string matrix = call(utils("_rebuild_nested_tensor"),
                                  {tensor(storage("0", 4), 0, {2, 2}, {2, 1}), square.indices({1, 1}, {1, 1}, {1}),
                                   square.indices({1, 1}, {1, 1}, {1}), square.vector({0})});
  return {
      nested("honest", {2, 2}, {1, 1}, {0, 2}, std::nullopt),
      nested("empty_part", {4, 0}, {1, 1}, {0, 4}, std::nullopt),
      nested("part_past_its_elements", {2, 3}, {1, 1}, {0, 2}, corrupt, "needs 5 elements"),
      nested("part_past_its_elements_in_a_larger_storage", {2, 2}, {1, 1}, {0, 2}, corrupt, "leaves its elements", 2),
      nested("offset_past_its_elements", {2, 2}, {1, 1}, {0, 1ll << 40}, corrupt, "its storage has 4"),
      nested("offset_before_its_elements", {2, 2}, {1, 1}, {-1, 2}, corrupt, "an offset outside"),
      nested("offset_that_overflows", {2, 2}, {1, 1}, {0, kMax}, corrupt, "overflow 64 bits"),
      nested("negative_size", {2, -1}, {1, 1}, {0, 2}, corrupt, "negative size or stride"),
      nested("negative_stride", {2, 2}, {1, -1}, {0, 3}, corrupt, "negative size or stride"),
      nested("stride_that_overflows", {2, 3}, {1, kMax}, {0, 0}, corrupt, "overflow 64 bits"),
      nested("part_of_a_terabyte", {2, 1ll << 40}, {1, 0}, {0, 0}, Code::refused, "repeat its elements"),
      nested("strides_missing", {2, 2}, {1}, {0, 2}, corrupt, "not as many sizes"),
      nested("offsets_missing", {2, 2}, {1, 1}, {0}, corrupt, "not as many sizes"),
      {"nested.offsets_that_are_other_ones_without_their_strides", apart.file(gaps), corrupt,
       "its offsets do not lie one behind the other"},
      {"nested.of_a_matrix", square.file(matrix), corrupt, "are not one list"},
      {"nested.three_million_parts_of_one_number", repeated.file(millions), corrupt, "repeat their memory"},
  };
}

std::string tensor_on_meta(std::int64_t numel, std::initializer_list<std::int64_t> sizes,
                           std::initializer_list<std::int64_t> strides, std::int64_t offset = 0) {
  const std::string place =
      tuple({text("storage"), global("torch", "FloatStorage"), text("0"), text("meta"), number(numel)}) + "Q";
  return tensor(place, offset, sizes, strides);
}

// `inside`: a storage without elements at the location meta.
BrokenFile meta(const std::string& name, const std::string& body, std::optional<Code> code, const char* message = "") {
  std::vector<Record> records = torch_records(pickle(body));
  records[2].data.clear();
  return {"meta." + name, zip(records), code, message};
}

std::vector<BrokenFile> meta_tensors() {
  const auto honest = [](std::initializer_list<std::int64_t> sizes, std::initializer_list<std::int64_t> strides) {
    return call(utils("_rebuild_meta_tensor_no_storage"),
                {global("torch", "float32"), numbers(sizes), numbers(strides), "\x89"});
  };
  const std::string on_meta = tensor_on_meta(0, {64, 64}, {64, 1});
  const std::string per_channel =
      tuple({global("torch", "per_channel_affine"), honest({4}, {1}), honest({4}, {1}), number(0)});
  return {
      meta("honest", honest({1ll << 30, 4}, {4, 1}), std::nullopt),
      meta("empty_tensor_in_an_empty_storage", tensor_on_meta(0, {0, 4}, {4, 1}), std::nullopt),
      meta("shape_in_an_empty_storage", on_meta, Code::corrupt, "needs 4096 elements, its storage has 0"),
      meta("offset_in_an_empty_storage", tensor_on_meta(0, {1}, {1}, 1ll << 40), Code::corrupt, "its storage has 0"),
      meta("expanded_in_an_empty_storage", tensor_on_meta(0, {8}, {0}), Code::corrupt, "its storage has 0"),
      meta("parameter_in_an_empty_storage", call(utils("_rebuild_parameter"), {on_meta, "\x88", no_hooks()}),
           Code::corrupt, "its storage has 0"),
      meta("scales_without_values",
           call(utils("_rebuild_qtensor"), {storage("0", 0, "QInt8Storage"), number(0), numbers({4, 0}),
                                            numbers({4, 1}), per_channel, "\x89", no_hooks()}),
           Code::corrupt, "one number per channel"),
      meta("strides_that_overflow", honest({2, 2}, {0x7fffffffffffffff, 1}), Code::corrupt, "overflow 64 bits"),
  };
}

}  // namespace

std::vector<BrokenFile> broken_compounds() {
  std::vector<BrokenFile> files = sparse();
  for (auto make : {nested_tensors, meta_tensors}) {
    for (BrokenFile& file : make()) files.push_back(std::move(file));
  }
  return files;
}

}  // namespace torchkeep::testing
