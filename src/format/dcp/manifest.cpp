// SPDX-License-Identifier: BSD-3-Clause
// manifest.pt: a dict of tables. Whoever reads one believes nothing of it that can be checked.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>

#include <torchkeep/format/manifest.h>
#include <torchkeep/format/open_file.h>
#include <torchkeep/shard/cover.h>

#include "block_numbers.h"
#include "chunk_index.h"
#include "columns.h"
#include "flatten.h"
#include "show.h"

namespace torchkeep {
namespace {

using namespace dcp;
using detail::show;

[[noreturn]] void fail(Code code, std::string message, std::string_view key = {}) {
  throw Error(code, std::move(message), {.file = {}, .record = {}, .offset = {}, .key = show(key)});
}

Value to_table(const std::vector<Manifest::File>& files) {
  struct Columns {
    std::vector<std::int64_t> rank, size, begin, crc, frame, blocks, numbers, chunks;
  };
  const auto columns = std::make_shared<Columns>();
  std::vector<Value> names;
  const auto add = [](std::vector<std::int64_t>& column, std::uint64_t n) {
    column.push_back(static_cast<std::int64_t>(n));
  };
  for (const Manifest::File& file : files) {
    names.emplace_back(file.tail.name);
    add(columns->rank, file.rank), add(columns->size, file.tail.size), add(columns->begin, file.tail.begin);
    add(columns->crc, file.tail.crc), add(columns->blocks, file.tail.blocks), add(columns->numbers, file.tail.numbers);
    add(columns->chunks, file.chunks), add(columns->frame, file.tail.frame);
  }
  return Value{{"names", Value::sequence(Kind::list, std::move(names))},
               {"rank", to_column(columns->rank, columns)},
               {"size", to_column(columns->size, columns)},
               {"tail", to_column(columns->begin, columns)},
               {"tail_crc", to_column(columns->crc, columns)},
               {"frame_crc", to_column(columns->frame, columns)},
               {"blocks", to_column(columns->blocks, columns)},
               {"numbers", to_column(columns->numbers, columns)},
               {"chunks", to_column(columns->chunks, columns)}};
}

class Reader {
 public:
  explicit Reader(const Value& all) : all_(all) {}

  Manifest run() {
    const Value about = field(all_, "torchkeep");
    if (text_field(about, "format") != "manifest" || integer_field(about, "version") != 1)
      fail(Code::unsupported, "a manifest of another version than 1: read it with a newer torchkeep");
    manifest_.save = text_field(about, "save");
    manifest_.world = static_cast<std::uint32_t>(count_field(about, "world", ~std::uint32_t{0}));
    manifest_.structure = field(all_, "state");
    read_own();
    manifest_.tensors = tensors_from(field(all_, "tensors"));
    manifest_.chunks = chunks_from(field(all_, "chunks"), manifest_.tensors);
    read_files();
    read_values();
    check_structure();
    check_places();
    check_cover();
    return std::move(manifest_);
  }

 private:
  void read_own() {
    const Value own = field(all_, "own");
    if (!own.is(Kind::dict)) fail(Code::corrupt, "no dict", "own");
    for (const Entry& entry : own.items()) {
      const auto rank = entry.key.is(Kind::integer) ? entry.key.as_integer().to_int64() : std::nullopt;
      if (!rank || *rank < 0 || *rank >= std::int64_t{manifest_.world})
        fail(Code::corrupt, fmt::format("a rank that is none of {}", manifest_.world), "own");
      manifest_.own.emplace_back(static_cast<std::uint32_t>(*rank), entry.value);
    }
  }

  void read_files() {
    const Value table = field(all_, "files");
    const NameTable names = names_from(table, "names");
    const auto column = [&](std::string_view key) {
      auto numbers = column_field<std::int64_t>(table, key);
      if (numbers.size() != names.size()) fail(Code::corrupt, "not one number for each file", key);
      for (const std::int64_t number : numbers) {
        if (number < 0) fail(Code::corrupt, fmt::format("the number {}", number), key);
      }
      return numbers;
    };
    const auto rank = column("rank"), size = column("size"), begin = column("tail"), crc = column("tail_crc"),
               frame = column("frame_crc"), blocks = column("blocks"), numbers = column("numbers"),
               chunks = column("chunks");
    std::uint64_t left = manifest_.chunks.size();
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto at = [i](const std::vector<std::int64_t>& values) { return static_cast<std::uint64_t>(values[i]); };
      check_name(names[i], rank[i]);
      if (at(chunks) > left) fail(Code::corrupt, "more chunks than there are", names[i]);
      left -= at(chunks);
      const bool fits = at(begin) <= at(size) && at(blocks) <= at(size) && at(numbers) <= (at(size) - at(blocks)) / 8 &&
                        at(crc) <= ~std::uint32_t{0} && at(frame) <= ~std::uint32_t{0} &&
                        (numbers[i] == 0 || at(blocks) >= at(begin));
      if (!fits) fail(Code::corrupt, "the end of this file does not lie inside it", names[i]);
      manifest_.files.push_back({{std::string(names[i]), at(size), at(begin), static_cast<std::uint32_t>(at(crc)),
                                  static_cast<std::uint32_t>(at(frame)), at(blocks), at(numbers)},
                                 static_cast<std::uint32_t>(rank[i]),
                                 at(chunks)});
    }
    if (left != 0) fail(Code::corrupt, fmt::format("{} chunks in no file", left), "files");
  }

  // A name leads to the file of its rank, in this folder.
  void check_name(std::string_view name, std::int64_t rank) const {
    const bool is_new = manifest_.files.empty() || std::int64_t{manifest_.files.back().rank} < rank;
    if (rank >= std::int64_t{manifest_.world} || !is_new)
      fail(Code::corrupt, fmt::format("files of the rank {} of {}, in this order", rank, manifest_.world), name);
    const std::string expected = rank_file_name(static_cast<std::uint32_t>(rank));
    if (name != expected)
      fail(Code::refused, fmt::format("a file '{}' of rank {}, which must be called {}", show(name), rank, expected));
  }

  void read_values() {
    const Value table = field(all_, "values");
    manifest_.values = values_from(table);
    manifest_.value_file = column_field<std::uint32_t>(table, "file");
    if (manifest_.value_file.size() != manifest_.values.names.size())
      fail(Code::corrupt, "not one file for each value", "values");
    for (std::size_t i = 0; i < manifest_.value_file.size(); ++i) {
      const std::string_view name = manifest_.values.names[i];
      if (manifest_.value_file[i] >= manifest_.files.size()) fail(Code::corrupt, "a value in no file", name);
      const std::uint64_t end = manifest_.files[manifest_.value_file[i]].tail.begin;
      const std::uint64_t offset = manifest_.values.offset[i], length = manifest_.values.length[i];
      if (offset > end || length > end - offset) fail(Code::corrupt, "its item does not lie inside its file", name);
    }
  }

  // The structure has just the tensors and values of the tables.
  void check_structure() {
    std::size_t tensor = 0, value = 0;
    const auto check = [&](const Leaf& leaf) {
      if (!leaf.is_tensor) {
        if (value >= manifest_.values.names.size() || manifest_.values.names[value] != leaf.fqn)
          fail(Code::corrupt, "a value of the state that is not the next in the table of values", leaf.fqn);
        ++value;
        return leaf.value;
      }
      const Tensor& meta = leaf.value.as_tensor();
      const bool is_next = tensor < manifest_.tensors.size() && manifest_.tensors.name(tensor) == leaf.fqn;
      if (!is_next) fail(Code::corrupt, "a tensor of the state that is not the next in the table of tensors", leaf.fqn);
      const ShapeView shape = manifest_.tensors.shape(tensor);
      if (meta.dtype != manifest_.tensors.dtype(tensor) || Shape(shape.begin(), shape.end()) != meta.sizes)
        fail(Code::corrupt, "the state and the table of tensors disagree about its dtype or shape", leaf.fqn);
      ++tensor;
      return leaf.value;
    };
    flatten(manifest_.structure, {}, Tensors::meta, check);
    for (const auto& [rank, state] : manifest_.own)
      flatten(state, {"rank", std::to_string(rank)}, Tensors::meta, check);
    if (tensor != manifest_.tensors.size() || value != manifest_.values.names.size())
      fail(Code::corrupt, "tables with more tensors or values than the state has");
  }

  // The bytes of each chunk lie in its file, before the tail.
  void check_places() const {
    ChunkCursor at(manifest_.tensors, manifest_.chunks.tensor, manifest_.chunks.boxes);
    const ChunkTable& chunks = manifest_.chunks;
    for (const Manifest::File& file : manifest_.files) {
      BlockNumbers numbers;
      for (std::uint64_t i = 0; i < file.chunks; ++i, at.next()) {
        const std::uint64_t nbytes = chunk_bytes(manifest_.tensors, at);
        const std::uint64_t offset = chunks.offset[at.chunk()], end = file.tail.begin;
        const bool fits = chunks.before[at.chunk()] <= offset && offset <= end && nbytes <= end - offset &&
                          chunks.behind[at.chunk()] <= end - offset - nbytes;
        if (!fits) {
          fail(Code::corrupt, fmt::format("chunk {} does not lie inside {}", to_string(at.box()), file.tail.name),
               manifest_.tensors.name(at.tensor()));
        }
        numbers.add(offset, nbytes);
      }
      if (numbers.count() != file.tail.numbers)
        fail(Code::corrupt, fmt::format("{} CRC-32s of blocks, and chunks for {}", file.tail.numbers, numbers.count()),
             file.tail.name);
    }
  }

  void check_cover() const {
    const ChunkIndex index(manifest_.tensors, manifest_.chunks);
    for (std::size_t i = 0; i < manifest_.tensors.size(); ++i) {
      const BoxList boxes = index.boxes(i);
      const Cover cover = torchkeep::check_cover(manifest_.tensors.shape(i), boxes);
      if (!cover.is_complete()) fail(Code::corrupt, cover.describe(boxes), manifest_.tensors.name(i));
    }
  }

  const Value& all_;
  Manifest manifest_;
};

}  // namespace

Plan plan_manifest(std::shared_ptr<const Manifest> manifest) {
  Value own = Value::mapping(Kind::dict);
  for (const auto& [rank, state] : manifest->own) own.set(Value(std::int64_t{rank}), state);
  Value values = dcp::to_table(manifest->values, manifest);
  values.set("file", to_column(manifest->value_file, manifest));
  const Value about{
      {"format", "manifest"}, {"version", 1}, {"save", manifest->save}, {"world", std::int64_t{manifest->world}}};
  return plan_pt(Value{{"torchkeep", about},
                       {"state", manifest->structure},
                       {"own", own},
                       {"tensors", dcp::to_table(manifest->tensors, manifest)},
                       {"chunks", dcp::to_table(manifest->chunks, manifest)},
                       {"files", to_table(manifest->files)},
                       {"values", values}});
}

Manifest read_manifest(const std::shared_ptr<const ReadAt>& file, const PtReadOptions& options) {
  try {
    PtReadOptions read = options;
    read.verify = true;
    read.map = false;
    return Reader(open_pt(file, read).value).run();
  } catch (const Error& error) {
    throw error.at({.file = file->name(), .record = {}, .offset = {}, .key = {}});
  }
}

}  // namespace torchkeep
