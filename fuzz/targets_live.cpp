// SPDX-License-Identifier: BSD-3-Clause
// Files read into live memory of exactly the right size, and tensors made of tensors used as PyTorch uses them: a byte
// too far is the sanitizer's.
#include <cstring>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/state/hash.h>
#include <torchkeep/state/walk.h>

#include "promises.h"
#include "rebuild.h"
#include "support/memory_fs.h"
#include "support/whole_file.h"

namespace torchkeep::fuzz {
namespace {

constexpr std::uint64_t kMostBytes = 65536;
constexpr std::int64_t kMostElements = 65536;

/// Memory of a target, with nothing before or behind it.
StoragePtr live_memory(std::uint64_t nbytes) {
  const auto memory = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(nbytes), std::byte{0x5a});
  return std::make_shared<BorrowedStorage>(MutableBytes(*memory), memory);
}

/// Like the file's, but in live memory of its own: in row-major order, or as it lies in the file.
void make_live(Tensor& tensor, bool as_in_file) {
  const bool has_values = !tensor.is_meta();
  const ByteRange range = has_values ? tensor.extent() : ByteRange{};
  if (as_in_file && has_values && range.size <= kMostBytes) {
    tensor.storage_offset = 0;
    tensor.storage = live_memory(range.size);
    return;
  }
  tensor.strides = contiguous_strides(tensor.sizes);
  tensor.storage_offset = 0;
  const bool fits = tensor.numel() >= 0 && tensor.numel() <= kMostElements;
  tensor.storage = fits ? live_memory(tensor.nbytes()) : std::make_shared<MetaStorage>();
}

void load_into_targets(testing::MemoryFs& fs, const Value& file, bool as_in_file) {
  const Value targets = detail::rebuild(file, [as_in_file](Tensor& tensor) { make_live(tensor, as_in_file); });
  LoadIntoOptions options;
  options.limits = small_limits();
  options.threads = 1;
  options.fs = &fs;
  try {
    const Value loaded = load_into("a.pt", targets, options);
    expect(hash(loaded, {.threads = 1}) == hash(file, {.threads = 1}),
           "what is loaded into live memory is what load() gives");
  } catch (const Error& error) {
    const bool is_known = error.code() == Code::mismatch || error.code() == Code::invalid_argument ||
                          error.code() == Code::unsupported || error.code() == Code::refused;
    expect(is_known, "a file that loads can only fail to fit");
  }
}

/// Where an index leads, in a tensor of this shape.
void write_at(std::vector<char>& dense, std::int64_t place) {
  expect(place >= 0 && place < static_cast<std::int64_t>(dense.size()), "an index lies inside its tensor");
  dense[static_cast<std::size_t>(place)] = 1;
}

void use_coo(const SparseTensor& sparse) {
  const Tensor& indices = sparse.indices.as_tensor();
  if (indices.is_meta()) return;
  const std::vector<std::int64_t> numbers = indices.to_vector<std::int64_t>();
  const auto count = static_cast<std::size_t>(indices.sizes[1]);
  for (std::size_t d = 0; d < static_cast<std::size_t>(indices.sizes[0]); ++d) {
    if (sparse.sizes[d] > kMostElements) continue;
    std::vector<char> dense(static_cast<std::size_t>(sparse.sizes[d]));
    for (std::size_t i = 0; i < count; ++i) write_at(dense, numbers[d * count + i]);
  }
}

std::vector<std::int64_t> indices_of(const Tensor& tensor) {
  if (tensor.dtype == DType::int64) return tensor.to_vector<std::int64_t>();
  const std::vector<std::int32_t> narrow = tensor.to_vector<std::int32_t>();
  return {narrow.begin(), narrow.end()};
}

void use_compressed(const SparseTensor& sparse) {
  const Tensor& ends = sparse.indices.as_tensor();
  const Tensor& places = sparse.plain.as_tensor();
  if (ends.is_meta() || places.is_meta() || ends.dim() != 1) return;
  const std::vector<std::int64_t> compressed = indices_of(ends);
  const std::vector<std::int64_t> plain = indices_of(places);
  const bool by_row = sparse.layout == "sparse_csr" || sparse.layout == "sparse_bsr";
  if (sparse.sizes[by_row ? 1 : 0] > kMostElements) return;
  std::vector<char> dense(static_cast<std::size_t>(sparse.sizes[by_row ? 1 : 0]));
  for (std::size_t row = 0; row + 1 < compressed.size(); ++row) {
    for (std::int64_t i = compressed[row]; i < compressed[row + 1]; ++i) {
      expect(i >= 0 && i < static_cast<std::int64_t>(plain.size()), "a row ends inside its elements");
      write_at(dense, plain[static_cast<std::size_t>(i)]);
    }
  }
}

void use_nested(const NestedTensor& nested) {
  const Tensor& sizes = nested.sizes.as_tensor();
  if (sizes.is_meta() || nested.strides.as_tensor().is_meta() || nested.offsets.as_tensor().is_meta() ||
      nested.buffer.as_tensor().is_meta())
    return;
  const std::vector<std::int64_t> shapes = sizes.to_vector<std::int64_t>();
  const std::vector<std::int64_t> strides = nested.strides.as_tensor().to_vector<std::int64_t>();
  const std::vector<std::int64_t> offsets = nested.offsets.as_tensor().to_vector<std::int64_t>();
  const std::string bytes = nested.buffer.as_tensor().contiguous_bytes();
  const auto dimensions = static_cast<std::size_t>(sizes.sizes[1]);
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    Tensor part;
    part.dtype = nested.buffer.as_tensor().dtype;
    part.sizes.assign(shapes.begin() + static_cast<std::ptrdiff_t>(i * dimensions),
                      shapes.begin() + static_cast<std::ptrdiff_t>((i + 1) * dimensions));
    part.strides.assign(strides.begin() + static_cast<std::ptrdiff_t>(i * dimensions),
                        strides.begin() + static_cast<std::ptrdiff_t>((i + 1) * dimensions));
    part.storage_offset = offsets[i];
    part.storage = std::make_shared<OwnedStorage>(as_bytes(bytes));
    if (part.numel() <= kMostElements)
      part.contiguous_bytes();  // throws where it reaches outside, and ends the program
  }
}

std::optional<Value> loaded_from(testing::MemoryFs& fs, std::string_view bytes) {
  testing::create_file(fs, "a.pt", std::string(bytes));
  LoadOptions options;
  options.limits = small_limits();
  options.threads = 1;
  options.fs = &fs;
  try {
    return load("a.pt", options);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

void run_load_into(std::string_view bytes) {
  testing::MemoryFs fs;
  const auto file = loaded_from(fs, bytes);
  if (!file) return;
  for (const bool as_in_file : {false, true}) load_into_targets(fs, *file, as_in_file);
}

void run_compounds(std::string_view bytes) {
  testing::MemoryFs fs;
  const auto file = loaded_from(fs, bytes);
  if (!file) return;
  walk(*file, [](const Visit& visit) {
    if (visit.value.is(Kind::nested_tensor)) use_nested(visit.value.as_nested_tensor());
    if (visit.value.is(Kind::sparse_tensor)) {
      const SparseTensor& sparse = visit.value.as_sparse_tensor();
      sparse.layout == "sparse_coo" ? use_coo(sparse) : use_compressed(sparse);
    }
    return Next::inside;
  });
}

}  // namespace torchkeep::fuzz
