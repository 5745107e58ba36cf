// SPDX-License-Identifier: BSD-3-Clause
// The tensor leaf of a Value: a view (dtype, sizes, strides, offset) of a storage that may be shared.
#pragma once

#include <complex>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/state/dtype.h>
#include <torchkeep/state/storage.h>

namespace torchkeep {

struct Tensor;

/// How the integers of a quantized tensor stand for real numbers.
struct Quantizer {
  /// PyTorch's name: "per_tensor_affine", "per_channel_affine", "per_channel_affine_float_qparams",
  /// "per_tensor_symmetric"...
  std::string scheme = "per_tensor_affine";
  double scale = 1.0;                         ///< per tensor
  std::int64_t zero_point = 0;                ///< per tensor
  std::shared_ptr<const Tensor> scales;       ///< per channel, length sizes[axis]
  std::shared_ptr<const Tensor> zero_points;  ///< per channel, length sizes[axis]
  std::int64_t axis = 0;                      ///< per channel
};

/// The place of a tensor in a larger one, of which other ranks have the rest. As many numbers in each as the tensor has
/// dimensions; the tensor itself is what lies from `offset` on.
struct Shard {
  std::vector<std::int64_t> global;  ///< sizes of the whole tensor
  std::vector<std::int64_t> offset;  ///< of the first element of this part
  /// Ranks that hold the same elements of the whole, in ascending order and this one among them; empty: this one alone.
  std::vector<std::int64_t> replicas = {};
  bool operator==(const Shard&) const = default;
};

/// Bytes [begin, begin + size) of a storage, all of them inside it.
struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
};

/// A strided view of a storage, with the flags PyTorch saves. Element (i, j, ...) is at
/// storage_offset + i * strides[0] + j * strides[1] + ..., counted in elements.
struct Tensor {
  DType dtype = DType::float32;
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;
  std::int64_t storage_offset = 0;
  StoragePtr storage;
  bool requires_grad = false;
  bool is_parameter = false;  ///< torch.nn.Parameter rather than torch.Tensor
  bool is_conj = false;       ///< lazy conjugate bit
  bool is_neg = false;        ///< lazy negation bit
  std::shared_ptr<const Quantizer> quantizer;
  /// Where it lies in a tensor that is spread over ranks; null: it is a whole tensor.
  std::shared_ptr<const Shard> shard;

  /// A contiguous tensor over its own copy of `bytes` (row-major, little-endian).
  /// Throws Error (invalid_argument) unless bytes.size() is the product of `sizes` times the item size.
  static Tensor from_bytes(DType dtype, std::vector<std::int64_t> sizes, Bytes bytes);
  /// A contiguous tensor of numbers: Tensor::of<float>({2, 2}, {1, 2, 3, 4}).
  template <class T>
  static Tensor of(std::vector<std::int64_t> sizes, std::span<const T> values);
  template <class T>
  static Tensor of(std::vector<std::int64_t> sizes, std::initializer_list<T> values) {
    return of<T>(std::move(sizes), std::span<const T>(values.begin(), values.size()));
  }

  std::int64_t dim() const noexcept { return static_cast<std::int64_t>(sizes.size()); }
  /// Number of elements (1 for a 0-d tensor).
  std::int64_t numel() const noexcept;
  /// Bytes of the elements, numel() * item size (not of the storage).
  std::uint64_t nbytes() const noexcept { return static_cast<std::uint64_t>(numel()) * itemsize(dtype); }
  /// True when the elements lie in row-major order without gaps.
  bool is_contiguous() const noexcept;
  /// True when the elements lie without gaps in any order of the dimensions, each at a place of its own.
  bool is_dense() const;
  /// True when the tensor has a shape and no values.
  bool is_meta() const noexcept { return storage != nullptr && !storage->has_bytes(); }
  /// The elements in row-major order, little-endian, whatever the strides. Conj and neg bits are not applied.
  std::string contiguous_bytes() const;
  /// The elements as numbers of exactly this dtype; throws Error (mismatch) for another one.
  template <class T>
  std::vector<T> to_vector() const;
  /// Throws Error (corrupt) unless every element lies inside the storage and nothing overflows. A meta tensor has no
  /// elements: its shape must not overflow.
  void validate() const;

  // The only ways from a shape to bytes: nothing else adds an offset or a stride to the address of a storage.

  /// From the first to the last byte of the elements; {0, 0} when there are none. Throws what validate() throws, and
  /// Error (unsupported) for a meta tensor.
  ByteRange extent() const;
  /// The bytes of extent() where they lie in memory that the CPU can read; empty, with a null pointer, where they do
  /// not, and when there are no elements. Throws what extent() throws.
  Bytes memory() const;
  /// The same where they may be overwritten.
  MutableBytes writable_memory() const;
  /// Overwrites the elements, given in row-major order, wherever they lie; what lies between them is left alone. Throws
  /// what extent() throws, and Error (invalid_argument) for another number of bytes or memory that cannot be written.
  void write_contiguous(std::string_view elements) const;
  /// Whether a write to the elements of one would change an element of the other. Takes as long as visiting all of
  /// both. Throws what extent() throws, of either.
  bool shares_elements(const Tensor& other) const;
};

/// Row-major strides, as PyTorch makes them: a dimension of size 0 counts as 1.
std::vector<std::int64_t> contiguous_strides(std::span<const std::int64_t> sizes);

/// The dtype that holds a C++ number: float -> float32, std::int64_t -> int64, std::complex<float> -> complex64 ...
template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, double>)
    return DType::float64;
  else if constexpr (std::is_same_v<T, float>)
    return DType::float32;
  else if constexpr (std::is_same_v<T, std::complex<double>>)
    return DType::complex128;
  else if constexpr (std::is_same_v<T, std::complex<float>>)
    return DType::complex64;
  else if constexpr (std::is_same_v<T, bool>)
    return DType::boolean;
  else {
    static_assert(std::is_integral_v<T>, "no PyTorch dtype for this type");
    constexpr DType kSigned[] = {DType::int8, DType::int16, DType::int32, DType::int64};
    constexpr DType kUnsigned[] = {DType::uint8, DType::uint16, DType::uint32, DType::uint64};
    constexpr int kIndex = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    return std::is_signed_v<T> ? kSigned[kIndex] : kUnsigned[kIndex];
  }
}

template <class T>
Tensor Tensor::of(std::vector<std::int64_t> sizes, std::span<const T> values) {
  return from_bytes(dtype_of<T>(), std::move(sizes), std::as_bytes(values));
}

namespace detail {
/// Throws Error (mismatch): `actual` was asked to be read as `wanted`.
[[noreturn]] void throw_dtype_mismatch(DType actual, DType wanted);
}  // namespace detail

template <class T>
std::vector<T> Tensor::to_vector() const {
  if (dtype != dtype_of<T>()) detail::throw_dtype_mismatch(dtype, dtype_of<T>());
  const std::string bytes = contiguous_bytes();
  std::vector<T> values(bytes.size() / sizeof(T));
  if constexpr (std::is_same_v<T, bool>) {
    for (std::size_t i = 0; i < bytes.size(); ++i) values[i] = bytes[i] != 0;
  } else if (!bytes.empty()) {
    std::memcpy(values.data(), bytes.data(), bytes.size());
  }
  return values;
}

}  // namespace torchkeep
