// SPDX-License-Identifier: BSD-3-Clause
// Tables of a manifest and of a rank's list as Values. What is read was written by anybody.
#include "columns.h"

#include <cstring>
#include <limits>

#include "show.h"

namespace torchkeep::dcp {
namespace {

[[noreturn]] void fail(std::string message, std::string_view key = {}) {
  throw Error(Code::corrupt, std::move(message), {.file = {}, .record = {}, .offset = {}, .key = std::string(key)});
}

template <class T>
void check_size(const std::vector<T>& column, std::size_t rows, std::string_view key) {
  if (column.size() != rows)
    fail(fmt::format("a column of {} numbers where there are {} rows", column.size(), rows), key);
}

}  // namespace

void ColumnStorage::read(std::uint64_t offset, MutableBytes out) const {
  if (offset > bytes_.size() || out.size() > bytes_.size() - offset)
    throw Error(Code::invalid_argument, "a read behind the end of a column");
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
}

Value field(const Value& table, std::string_view key) {
  if (!table.is_mapping()) fail("something else than a dict where a table should be", key);
  auto found = table.find(Value::string(std::string(key)));
  if (!found) fail("a table without this field", key);
  return *std::move(found);
}

std::int64_t integer_field(const Value& table, std::string_view key) {
  const Value value = field(table, key);
  const auto number = value.is(Kind::integer) ? value.as_integer().to_int64() : std::nullopt;
  if (!number) fail("no int of 64 bits", key);
  return *number;
}

std::uint64_t count_field(const Value& table, std::string_view key, std::uint64_t most) {
  const std::int64_t number = integer_field(table, key);
  if (number < 0 || static_cast<std::uint64_t>(number) > most) fail(fmt::format("the number {}", number), key);
  return static_cast<std::uint64_t>(number);
}

std::string text_field(const Value& table, std::string_view key) {
  const Value value = field(table, key);
  if (!value.is(Kind::string)) fail("no str", key);
  return value.as_string();
}

std::uint64_t check_column(const Value& column, std::string_view key, DType dtype) {
  if (!column.is(Kind::tensor)) fail("no tensor", key);
  const Tensor& tensor = column.as_tensor();
  const bool fits = tensor.dtype == dtype && tensor.dim() == 1 && tensor.storage_offset == 0 &&
                    tensor.is_contiguous() && !tensor.is_meta() && tensor.storage->nbytes() == tensor.nbytes();
  if (!fits) fail(fmt::format("no tensor of one dimension and dtype {}", to_string(dtype)), key);
  return tensor.nbytes();
}

Value to_table(const NameTable& names) {
  std::vector<Value> list;
  list.reserve(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) list.push_back(Value::string(std::string(names[i])));
  return Value::sequence(Kind::list, std::move(list));
}

NameTable names_from(const Value& table, std::string_view key) {
  const Value list = field(table, key);
  if (!list.is(Kind::list)) fail("no list of names", key);
  NameTable names;
  for (const Value& name : list.elements()) {
    if (!name.is(Kind::string)) fail("a name that is no str", key);
    names.add(name.as_string());
  }
  return names;
}

Value to_table(const TensorTable& tensors, const std::shared_ptr<const void>& owner) {
  std::vector<Value> names, dtypes;
  const auto dims = std::make_shared<std::vector<std::int64_t>>();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    names.push_back(Value::string(std::string(tensors.name(i))));
    dtypes.push_back(Value(tensors.dtype(i)));
    dims->push_back(static_cast<std::int64_t>(tensors.dims(i)));
  }
  Value table{{"names", Value::sequence(Kind::list, std::move(names))},
              {"dtypes", Value::sequence(Kind::list, std::move(dtypes))},
              {"dims", to_column(*dims, dims)}};
  table.set("shapes", to_column(tensors.sizes(), owner));
  return table;
}

TensorTable tensors_from(const Value& table) {
  const NameTable names = names_from(table, "names");
  const Value dtypes = field(table, "dtypes");
  const auto dims = column_field<std::int64_t>(table, "dims");
  const auto shapes = column_field<std::int64_t>(table, "shapes");
  if (!dtypes.is(Kind::list) || dtypes.size() != names.size()) fail("not one dtype for each name", "dtypes");
  check_size(dims, names.size(), "dims");
  TensorTable tensors;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto count = static_cast<std::uint64_t>(dims[i]);
    if (dims[i] < 0 || count > shapes.size() - begin) fail("more dimensions than sizes", "dims");
    if (!dtypes.elements()[i].is(Kind::dtype)) fail("something else than a dtype", "dtypes");
    const ShapeView shape = ShapeView(shapes).subspan(begin, count);
    for (const std::int64_t size : shape) {
      if (size < 0) fail("a negative size", names[i]);
    }
    const DType dtype = dtypes.elements()[i].as_dtype();
    const auto elements = element_count(shape);
    if (!elements ||
        *elements > std::numeric_limits<std::int64_t>::max() / 2 / static_cast<std::int64_t>(itemsize(dtype)))
      fail("a shape that no tensor has", names[i]);
    tensors.add(names[i], dtype, shape);
    begin += count;
  }
  if (begin != shapes.size()) fail("more sizes than dimensions", "shapes");
  return tensors;
}

Value to_table(const ChunkTable& chunks, const std::shared_ptr<const void>& owner) {
  return Value{{"tensor", to_column(chunks.tensor, owner)}, {"boxes", to_column(chunks.boxes, owner)},
               {"offset", to_column(chunks.offset, owner)}, {"crc", to_column(chunks.crc, owner)},
               {"before", to_column(chunks.before, owner)}, {"behind", to_column(chunks.behind, owner)}};
}

ChunkTable chunks_from(const Value& table, const TensorTable& tensors) {
  ChunkTable chunks;
  chunks.tensor = column_field<std::uint32_t>(table, "tensor");
  chunks.boxes = column_field<std::int64_t>(table, "boxes");
  chunks.offset = column_field<std::uint64_t>(table, "offset");
  chunks.crc = column_field<std::uint32_t>(table, "crc");
  chunks.before = column_field<std::uint32_t>(table, "before");
  chunks.behind = column_field<std::uint32_t>(table, "behind");
  check_rows(tensors, chunks.tensor, chunks.boxes);
  check_size(chunks.offset, chunks.size(), "offset");
  check_size(chunks.crc, chunks.size(), "crc");
  check_size(chunks.before, chunks.size(), "before");
  check_size(chunks.behind, chunks.size(), "behind");
  return chunks;
}

Value to_table(const ValueTable& values, const std::shared_ptr<const void>& owner) {
  return Value{{"names", to_table(values.names)},
               {"hash", to_column(values.hash, owner)},
               {"offset", to_column(values.offset, owner)},
               {"length", to_column(values.length, owner)}};
}

ValueTable values_from(const Value& table) {
  ValueTable values;
  values.names = names_from(table, "names");
  values.hash = column_field<std::uint64_t>(table, "hash");
  values.offset = column_field<std::uint64_t>(table, "offset");
  values.length = column_field<std::uint64_t>(table, "length");
  check_size(values.hash, values.names.size(), "hash");
  check_size(values.offset, values.names.size(), "offset");
  check_size(values.length, values.names.size(), "length");
  return values;
}

void check_rows(const TensorTable& tensors, const std::vector<std::uint32_t>& tensor,
                const std::vector<std::int64_t>& boxes) {
  std::uint64_t numbers = 0;
  for (const std::uint32_t i : tensor) {
    if (i >= tensors.size()) fail(fmt::format("a chunk of tensor {} of {}", i, tensors.size()));
    numbers += 2 * tensors.dims(i);
    if (numbers > boxes.size()) break;
  }
  if (numbers != boxes.size()) fail(fmt::format("{} numbers of boxes", boxes.size()), "boxes");
  for (ChunkCursor at(tensors, tensor, boxes); !at.at_end(); at.next()) {
    if (!is_inside(at.box(), tensors.shape(at.tensor())))
      fail("a chunk that lies outside of its tensor", detail::show(tensors.name(at.tensor())));
  }
}

}  // namespace torchkeep::dcp
