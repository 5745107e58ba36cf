// SPDX-License-Identifier: BSD-3-Clause
// Whether the parts of sparse and nested tensors fit each other: their indices and offsets are numbers of a file, and
// lead to memory as soon as somebody uses the tensor.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include <torchkeep/base/checked.h>
#include <torchkeep/state/compound.h>
#include <torchkeep/state/elements.h>
#include <torchkeep/state/walk.h>

namespace torchkeep {
namespace {

using Sizes = std::vector<std::int64_t>;

constexpr std::uint64_t kRead = 32768;  // indices at a time
constexpr std::uint64_t kFreeRepetition = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxRepetition = 64;

[[noreturn]] void corrupt(std::string message) {
  throw Error(Code::corrupt, std::move(message));
}

void expect(bool holds, const char* message) {
  if (!holds) corrupt(message);
}

/// The int32 or int64 numbers of a tensor, in row-major order.
class Indices {
 public:
  explicit Indices(const Tensor& tensor) : elements_(tensor), is_wide_(tensor.dtype == DType::int64) {}

  std::int64_t next() {
    if (at_ == block_.size()) refill();
    std::int64_t number = 0;
    if (is_wide_) {
      std::memcpy(&number, block_.data() + at_, 8);
    } else {
      std::int32_t narrow = 0;
      std::memcpy(&narrow, block_.data() + at_, 4);
      number = narrow;
    }
    at_ += elements_.item();
    return number;
  }

 private:
  void refill() {
    block_.resize(static_cast<std::size_t>(std::min(kRead, elements_.count() - done_)) * elements_.item());
    elements_.read(done_, block_);
    done_ += block_.size() / elements_.item();
    at_ = 0;
  }

  Elements elements_;
  bool is_wide_;
  std::vector<std::byte> block_;
  std::size_t at_ = 0;
  std::uint64_t done_ = 0;
};

const Tensor& part(const Value& value, const char* name) {
  if (!value.is(Kind::tensor)) corrupt(fmt::format("its {} are a {}, not a tensor", name, to_string(value.kind())));
  const Tensor& tensor = value.as_tensor();
  tensor.validate();
  return tensor;
}

bool is_index(DType dtype) {
  return dtype == DType::int64 || dtype == DType::int32;
}

// The product, which must fit into 64 bits unless one of the sizes is 0.
std::int64_t product(std::span<const std::int64_t> sizes) {
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return 0;
  std::optional<std::int64_t> count = 1;
  for (const std::int64_t size : sizes) {
    expect(size >= 0, "a negative size");
    if (count) count = checked_mul(*count, size);
  }
  expect(count.has_value(), "a shape that overflows 64 bits");
  return *count;
}

Sizes slice(const Sizes& sizes, std::size_t begin, std::size_t end) {
  return {sizes.begin() + static_cast<std::ptrdiff_t>(begin), sizes.begin() + static_cast<std::ptrdiff_t>(end)};
}

// One row of a matrix of indices.
Tensor row_of(const Tensor& matrix, std::size_t row) {
  Tensor tensor = matrix;
  tensor.sizes = {matrix.sizes[1]};
  tensor.strides = {matrix.strides[1]};
  if (tensor.sizes[0] != 0) tensor.storage_offset += static_cast<std::int64_t>(row) * matrix.strides[0];
  return tensor;
}

void check_coo_indices(const Tensor& indices, const Sizes& sizes, bool is_coalesced) {
  const auto dimensions = static_cast<std::size_t>(indices.sizes[0]);
  const std::int64_t count = indices.sizes[1];
  expect(dimensions > 0 || !is_coalesced || count < 2, "elements of a coalesced tensor at one place");
  if (dimensions == 0) return;
  std::vector<Indices> rows;
  for (std::size_t d = 0; d < dimensions; ++d) rows.emplace_back(row_of(indices, d));
  Sizes before(dimensions, -1);
  Sizes now(dimensions);
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::size_t d = 0; d < dimensions; ++d) {
      now[d] = rows[d].next();
      if (now[d] < 0 || now[d] >= sizes[d])
        corrupt(fmt::format("index {} in dimension {}, whose size is {}", now[d], d, sizes[d]));
    }
    expect(!is_coalesced || before < now, "indices of a coalesced tensor that do not rise");
    before.swap(now);
  }
}

void validate_coo(const SparseTensor& sparse) {
  const Tensor& indices = part(sparse.indices, "indices");
  const Tensor& values = part(sparse.values, "values");
  expect(indices.dtype == DType::int64 && indices.dim() == 2 && values.dim() >= 1,
         "its indices are not a matrix of int64, or its values no list");
  const auto dimensions = static_cast<std::size_t>(indices.sizes[0]);
  expect(indices.sizes[1] == values.sizes[0], "it has not as many indices as values");
  expect(sparse.sizes.size() == dimensions + values.sizes.size() - 1, "its shape has another number of dimensions");
  product(sparse.sizes);
  expect(slice(sparse.sizes, dimensions, sparse.sizes.size()) == slice(values.sizes, 1, values.sizes.size()),
         "its values have another shape");
  if (indices.is_meta()) return;
  check_coo_indices(indices, sparse.sizes, sparse.is_coalesced.value_or(false));
}

/// What a compressed layout says of its dimensions: rows are compressed, columns plain, or the other way round.
struct Compressed {
  Sizes batch;
  std::int64_t compressed = 0;  // rows or columns that are compressed, in blocks
  std::int64_t plain = 0;       // the others
  std::int64_t count = 0;       // elements, or blocks
};

Compressed measure(const SparseTensor& sparse, const Tensor& compressed, const Tensor& plain, const Tensor& values) {
  const bool by_row = sparse.layout == "sparse_csr" || sparse.layout == "sparse_bsr";
  const bool in_blocks = sparse.layout == "sparse_bsr" || sparse.layout == "sparse_bsc";
  expect(is_index(compressed.dtype) && plain.dtype == compressed.dtype, "its indices are not int32 or int64 alike");
  expect(compressed.dim() >= 1 && plain.dim() == compressed.dim(), "its indices have different dimensions");
  for (const Tensor* indices : {&compressed, &plain})
    expect(indices->sizes.back() <= 1 || indices->strides.back() == 1, "its indices do not lie one behind the other");
  const auto batch = static_cast<std::size_t>(compressed.dim() - 1);
  const std::size_t inside = batch + 1 + (in_blocks ? 2 : 0);
  expect(values.sizes.size() >= inside && sparse.sizes.size() == batch + 2 + values.sizes.size() - inside,
         "its values or shape have another number of dimensions");
  Compressed result{.batch = slice(sparse.sizes, 0, batch)};
  expect(slice(compressed.sizes, 0, batch) == result.batch && slice(plain.sizes, 0, batch) == result.batch &&
             slice(values.sizes, 0, batch) == result.batch,
         "its parts have different batches");
  expect(slice(sparse.sizes, batch + 2, sparse.sizes.size()) == slice(values.sizes, inside, values.sizes.size()),
         "its values have another shape");
  product(sparse.sizes);
  Sizes sides = slice(sparse.sizes, batch, batch + 2);
  for (std::size_t i = 0; in_blocks && i < 2; ++i) {
    const std::int64_t block = values.sizes[batch + 1 + i];
    expect(block > 0 && sides[i] % block == 0, "its blocks do not divide its shape");
    sides[i] /= block;
  }
  result.compressed = by_row ? sides[0] : sides[1];
  result.plain = by_row ? sides[1] : sides[0];
  result.count = plain.sizes[batch];
  expect(values.sizes[batch] == result.count, "it has not as many indices as values");
  expect(compressed.sizes[batch] - 1 == result.compressed, "it has not one compressed index for each row or column");
  return result;
}

void check_compressed_indices(const Compressed& shape, const Tensor& compressed, const Tensor& plain) {
  Indices ends(compressed);
  Indices places(plain);
  for (std::int64_t batch = product(shape.batch); batch > 0; --batch) {
    std::int64_t begin = ends.next();
    expect(begin == 0, "compressed indices that do not begin with 0");
    for (std::int64_t i = 0; i < shape.compressed; ++i) {
      const std::int64_t end = ends.next();
      if (end < begin || end > shape.count || end - begin > shape.plain)
        corrupt(fmt::format("compressed index {} behind {}, of {} elements", end, begin, shape.count));
      std::int64_t before = -1;
      for (; begin < end; ++begin) {
        const std::int64_t place = places.next();
        if (place <= before || place >= shape.plain)
          corrupt(fmt::format("plain index {} behind {}, of {} in all", place, before, shape.plain));
        before = place;
      }
    }
    expect(begin == shape.count, "compressed indices that do not end with the number of elements");
  }
}

void validate_compressed(const SparseTensor& sparse) {
  const Tensor& compressed = part(sparse.indices, "compressed indices");
  const Tensor& plain = part(sparse.plain, "plain indices");
  const Tensor& values = part(sparse.values, "values");
  const Compressed shape = measure(sparse, compressed, plain, values);
  if (!compressed.is_meta() && !plain.is_meta()) check_compressed_indices(shape, compressed, plain);
}

// Numbers of a nested tensor, each in a row of its own.
const Tensor& numbers(const Value& value, const char* name, std::int64_t dimensions) {
  const Tensor& tensor = part(value, name);
  if (tensor.dtype != DType::int64 || tensor.dim() != dimensions)
    corrupt(fmt::format("its {} are not int64 numbers in {} dimensions", name, dimensions));
  if (!tensor.is_meta() && tensor.nbytes() > tensor.storage->nbytes())
    corrupt(fmt::format("its {} repeat their memory", name));
  // PyTorch reads them from their first byte on, whatever their strides.
  if (!tensor.is_contiguous()) corrupt(fmt::format("its {} do not lie one behind the other", name));
  return tensor;
}

// Elements of one part, which must lie inside the buffer.
std::uint64_t check_nested_part(const Tensor& buffer, Tensor part, std::int64_t offset) {
  const ByteRange room = buffer.extent();
  const auto begin = checked_add(buffer.storage_offset, offset);
  expect(offset >= 0 && begin.has_value(), "an offset outside the elements of a nested tensor");
  part.storage = buffer.storage;
  part.storage_offset = *begin;
  const ByteRange extent = part.extent();
  expect(extent.size == 0 || extent.begin + extent.size <= room.begin + room.size,
         "a part of a nested tensor that leaves its elements");
  return static_cast<std::uint64_t>(part.numel());
}

}  // namespace

void SparseTensor::validate() const {
  try {
    if (layout == "sparse_coo") return validate_coo(*this);
    const bool known =
        layout == "sparse_csr" || layout == "sparse_csc" || layout == "sparse_bsr" || layout == "sparse_bsc";
    if (!known) throw Error(Code::unsupported, fmt::format("a tensor of layout {}", layout));
    validate_compressed(*this);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("a {} tensor whose parts do not fit: {}", layout, error.message()),
                error.where());
  }
}

void NestedTensor::validate() const {
  const Tensor& memory = part(buffer, "elements");
  const Tensor& shapes = numbers(sizes, "sizes", 2);
  const Tensor& steps = numbers(strides, "strides", 2);
  const Tensor& begins = numbers(offsets, "offsets", 1);
  expect(memory.dim() == 1 && memory.is_contiguous(), "the elements of a nested tensor are not one list");
  expect(shapes.sizes == steps.sizes && shapes.sizes[0] == begins.sizes[0],
         "a nested tensor has not as many sizes, strides and offsets as parts");
  if (memory.is_meta() || shapes.is_meta() || steps.is_meta() || begins.is_meta()) return;
  Indices size(shapes);
  Indices stride(steps);
  Indices offset(begins);
  Tensor one;
  one.dtype = memory.dtype;
  one.sizes.resize(static_cast<std::size_t>(shapes.sizes[1]));
  one.strides.resize(one.sizes.size());
  std::uint64_t nbytes = 0;
  for (std::int64_t i = 0; i < begins.sizes[0]; ++i) {
    for (std::int64_t& number : one.sizes) number = size.next();
    for (std::int64_t& number : one.strides) number = stride.next();
    const std::uint64_t elements = check_nested_part(memory, one, offset.next());
    const auto sum = checked_add(nbytes, elements * itemsize(one.dtype));
    if (!sum || (*sum > kFreeRepetition && *sum / kMaxRepetition > memory.nbytes()))
      throw Error(Code::refused, "the parts of a nested tensor repeat its elements");
    nbytes = *sum;
  }
}

void check_compounds(const Value& value) {
  walk(value, [](const Visit& visit) {
    const bool is_sparse = visit.value.is(Kind::sparse_tensor);
    if (!is_sparse && !visit.value.is(Kind::nested_tensor)) return Next::inside;
    try {
      is_sparse ? visit.value.as_sparse_tensor().validate() : visit.value.as_nested_tensor().validate();
    } catch (const Error& error) {
      throw error.at({.file = {}, .record = {}, .offset = {}, .key = visit.place.text()});
    }
    return Next::inside;
  });
}

}  // namespace torchkeep
