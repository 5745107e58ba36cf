// SPDX-License-Identifier: BSD-3-Clause
// NumPy's arrays and scalars: those whose dtype PyTorch has too become tensors and numbers, texts and objects become
// lists, the others stay Opaque.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fmt/format.h>

#include <torchkeep/base/checked.h>

#include "rebuild.h"
#include "text.h"

namespace torchkeep::pickle {
namespace {

/// A numpy.dtype that PyTorch has too.
struct NumpyType {
  DType dtype;
  bool is_swapped;  // big-endian
};

std::optional<DType> dtype_from_code(std::string_view code) noexcept {
  struct Row {
    std::string_view code;
    DType dtype;
  };
  constexpr Row kRows[] = {{"b1", DType::boolean},   {"i1", DType::int8},       {"i2", DType::int16},
                           {"i4", DType::int32},     {"i8", DType::int64},      {"u1", DType::uint8},
                           {"u2", DType::uint16},    {"u4", DType::uint32},     {"u8", DType::uint64},
                           {"f2", DType::float16},   {"f4", DType::float32},    {"f8", DType::float64},
                           {"c8", DType::complex64}, {"c16", DType::complex128}};
  for (const Row& row : kRows) {
    if (row.code == code) return row.dtype;
  }
  return std::nullopt;
}

bool is_text(Slot slot) noexcept {
  return slot.tag == Tag::string || slot.tag == Tag::bytes;
}

/// What a numpy.dtype says of itself.
struct TypeCode {
  std::string_view code;  // "f8", "U3", "O8"
  char order = '=';
};

// numpy.dtype('f8', False, True), then BUILD (3, '<', None, None, None, -1, -1, 0): version, byte order, and what only
// structured types have
std::optional<TypeCode> read_code(const Heap& heap, Slot slot) {
  if (!heap.is(slot, ObjectKind::opaque) || !heap.is(heap.opaque_class(slot), Role::numpy_dtype)) return std::nullopt;
  const auto parts = heap.items(slot);
  const auto args = heap.items(parts[kOpaqueArgs]);
  if (args.empty() || !is_text(args[0])) return std::nullopt;
  std::string_view code = heap.text(args[0]);
  char order = '=';
  if (!code.empty() && std::string_view("<>=|").find(code[0]) != std::string_view::npos) {
    order = code[0];
    code.remove_prefix(1);
  }
  const Slot state = parts[kOpaqueState];
  if (heap.is(state, ObjectKind::tuple)) {
    const auto fields = heap.items(state);
    if (fields.size() < 5 || !is_text(fields[1]) || heap.text(fields[1]).size() != 1) return std::nullopt;
    for (std::size_t i = 2; i < 5; ++i) {
      if (fields[i].tag != Tag::none) return std::nullopt;
    }
    order = heap.text(fields[1])[0];
  }
  return TypeCode{code, order};
}

std::optional<NumpyType> read_type(const Heap& heap, Slot slot) {
  const auto type = read_code(heap, slot);
  const auto dtype = type ? dtype_from_code(type->code) : std::nullopt;
  return dtype ? std::optional(NumpyType{*dtype, type->order == '>'}) : std::nullopt;
}

/// A numpy.dtype of texts ("U3": that many code points) or bytes ("S3").
struct TextType {
  bool is_bytes;
  bool is_swapped;
  std::uint64_t itemsize;
};

std::optional<TextType> read_text_type(const Heap& heap, Slot slot) {
  const auto type = read_code(heap, slot);
  if (!type || type->code.size() < 2 || (type->code[0] != 'U' && type->code[0] != 'S')) return std::nullopt;
  std::uint64_t length = 0;
  const std::string_view digits = type->code.substr(1);
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  const bool is_length = result.ec == std::errc() && result.ptr == digits.data() + digits.size();
  if (!is_length || length == 0 || length > std::numeric_limits<std::uint32_t>::max() / 4) return std::nullopt;
  const bool is_bytes = type->code[0] == 'S';
  return TextType{is_bytes, type->order == '>', is_bytes ? length : 4 * length};
}

// One text; NULs at its end only fill it up. Nothing for what is no code point.
std::optional<Slot> make_text_slot(Heap& heap, const TextType& type, std::string_view bytes) {
  if (type.is_bytes) return heap.make_decoded(Tag::bytes, bytes.substr(0, bytes.find_last_not_of('\0') + 1));
  std::u32string points(bytes.size() / 4, U'\0');
  std::memcpy(points.data(), bytes.data(), bytes.size());
  if (type.is_swapped) {
    for (char32_t& point : points) point = __builtin_bswap32(point);
  }
  points.resize(points.find_last_not_of(U'\0') + 1);
  const auto text = utf8_from(points);
  return text ? std::optional(heap.make_decoded(Tag::string, *text)) : std::nullopt;
}

// The place in memory of the i-th element in row-major order.
std::size_t place_of(std::size_t i, const std::vector<std::int64_t>& shape, bool is_fortran) {
  if (!is_fortran) return i;
  std::size_t place = 0;
  std::size_t stride = 1;
  for (const std::int64_t size : shape) stride *= static_cast<std::size_t>(size);
  for (std::size_t d = shape.size(); d-- > 0;) {
    const auto size = static_cast<std::size_t>(shape[d]);
    stride /= size;
    place += i % size * stride;
    i /= size;
  }
  return place;
}

// Lists of lists of the elements, which are in row-major order.
Slot nest(Heap& heap, std::vector<Slot> elements, const std::vector<std::int64_t>& shape) {
  for (std::size_t d = shape.size(); d-- > 0;) {
    std::size_t count = 1;
    for (std::size_t i = 0; i < d; ++i) {
      const auto product = checked_mul<std::uint64_t>(count, static_cast<std::uint64_t>(shape[i]));
      if (!product) heap.fail(Code::corrupt, "a NumPy array of an impossible shape");
      count = *product;
    }
    const auto size = static_cast<std::size_t>(shape[d]);
    std::vector<Slot> lists;
    for (std::size_t i = 0; i < count; ++i)
      lists.push_back(heap.make_object(ObjectKind::list, std::span(elements).subspan(i * size, size)));
    elements = std::move(lists);
  }
  return elements[0];
}

// The number of elements, where `available` may be that many.
std::optional<std::size_t> element_count(const std::vector<std::int64_t>& shape, std::uint64_t available) {
  std::uint64_t count = 1;
  for (const std::int64_t size : shape) {
    const auto product = checked_mul<std::uint64_t>(count, static_cast<std::uint64_t>(size));
    if (!product) return std::nullopt;
    count = *product;
  }
  return count == available && !shape.empty() ? std::optional<std::size_t>(count) : std::nullopt;
}

// An array of texts or bytes as lists.
std::optional<Slot> make_texts(Heap& heap, Slot type_slot, const std::vector<std::int64_t>& shape, bool is_fortran,
                               Slot bytes) {
  const auto type = read_text_type(heap, type_slot);
  if (!type || heap.text(bytes).size() % type->itemsize != 0) return std::nullopt;
  const auto count = element_count(shape, heap.text(bytes).size() / type->itemsize);
  if (!count) return std::nullopt;
  std::vector<Slot> elements;
  for (std::size_t i = 0; i < *count; ++i) {
    const std::size_t place = place_of(i, shape, is_fortran) * type->itemsize;
    const auto text = make_text_slot(heap, *type, heap.text(bytes).substr(place, type->itemsize));
    if (!text) return std::nullopt;
    elements.push_back(*text);
  }
  return nest(heap, std::move(elements), shape);
}

// An array of Python objects, which are in a list, as lists.
std::optional<Slot> make_objects(Heap& heap, Slot type_slot, const std::vector<std::int64_t>& shape, bool is_fortran,
                                 Slot list) {
  const auto type = read_code(heap, type_slot);
  if (!type || !type->code.starts_with('O') || !heap.is(list, ObjectKind::list)) return std::nullopt;
  const std::vector<Slot> stored(heap.items(list).begin(), heap.items(list).end());
  const auto count = element_count(shape, stored.size());
  if (!count) return std::nullopt;
  std::vector<Slot> elements;
  for (std::size_t i = 0; i < *count; ++i) elements.push_back(stored[place_of(i, shape, is_fortran)]);
  return nest(heap, std::move(elements), shape);
}

std::optional<std::vector<std::int64_t>> read_shape(const Heap& heap, Slot slot) {
  if (!heap.is(slot, ObjectKind::tuple) || heap.items(slot).size() > heap.context().limits.max_dimensions)
    return std::nullopt;
  std::vector<std::int64_t> shape;
  for (const Slot item : heap.items(slot)) {
    if (item.tag != Tag::integer || item.integer < 0) return std::nullopt;
    shape.push_back(item.integer);
  }
  return shape;
}

void swap_bytes(MutableBytes bytes, std::size_t size) noexcept {
  for (std::size_t i = 0; i + size <= bytes.size(); i += size)
    std::reverse(bytes.begin() + i, bytes.begin() + i + size);
}

std::vector<std::int64_t> fortran_strides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> reversed(shape.rbegin(), shape.rend());
  reversed = contiguous_strides(reversed);
  return {reversed.rbegin(), reversed.rend()};
}

// An array over its own copy of `bytes`; an error when the bytes are not as many as the shape says.
Tensor make_array(Heap& heap, NumpyType type, std::vector<std::int64_t> shape, bool is_fortran,
                  std::string_view bytes) {
  std::optional<std::int64_t> wanted = static_cast<std::int64_t>(itemsize(type.dtype));
  for (const std::int64_t size : shape) {
    if (wanted) wanted = checked_mul(*wanted, size);
  }
  if (!wanted || static_cast<std::uint64_t>(*wanted) != bytes.size()) {
    heap.fail(Code::corrupt, fmt::format("a NumPy array whose {} bytes do not fit its shape", bytes.size()));
  }
  heap.charge(bytes.size());
  const auto storage = std::make_shared<OwnedStorage>(as_bytes(bytes));
  if (type.is_swapped) swap_bytes(storage->mutable_bytes(), info(type.dtype).component_size);
  Tensor tensor;
  tensor.dtype = type.dtype;
  tensor.strides = is_fortran ? fortran_strides(shape) : contiguous_strides(shape);
  tensor.sizes = std::move(shape);
  tensor.storage = storage;
  return tensor;
}

template <class T>
T load(Bytes bytes, std::size_t index = 0) noexcept {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

double load_half(Bytes bytes) noexcept {
  const auto bits = load<std::uint16_t>(bytes);
  const int exponent = bits >> 10 & 0x1f;
  const std::uint64_t fraction = bits & 0x3ff;
  constexpr std::uint64_t kInfinity = 0x7ff0'0000'0000'0000;
  const double magnitude = exponent == 0    ? std::ldexp(static_cast<double>(fraction), -24)
                           : exponent == 31 ? std::bit_cast<double>(kInfinity | fraction << 42)
                                            : std::ldexp(static_cast<double>(fraction + 1024), exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

Slot make_complex_slot(Heap& heap, double real, double imaginary) {
  const std::array<Slot, 2> parts = {Heap::make_real(real), Heap::make_real(imaginary)};
  return heap.make_object(ObjectKind::complex, parts);
}

// One element of a tensor as the Python number with the same value
Slot make_number(Heap& heap, DType dtype, Bytes bytes) {
  switch (dtype) {
    case DType::boolean:
      return Heap::make_boolean(load<std::uint8_t>(bytes) != 0);
    case DType::int8:
      return Heap::make_integer(load<std::int8_t>(bytes));
    case DType::int16:
      return Heap::make_integer(load<std::int16_t>(bytes));
    case DType::int32:
      return Heap::make_integer(load<std::int32_t>(bytes));
    case DType::int64:
      return Heap::make_integer(load<std::int64_t>(bytes));
    case DType::uint8:
      return Heap::make_integer(load<std::uint8_t>(bytes));
    case DType::uint16:
      return Heap::make_integer(load<std::uint16_t>(bytes));
    case DType::uint32:
      return Heap::make_integer(load<std::uint32_t>(bytes));
    case DType::uint64: {
      const Integer number = Integer::from_unsigned(load<std::uint64_t>(bytes));
      if (const auto small = number.to_int64()) return Heap::make_integer(*small);
      return heap.make_decoded(Tag::big_integer, number.to_twos_complement());
    }
    case DType::float16:
      return Heap::make_real(load_half(bytes));
    case DType::float32:
      return Heap::make_real(load<float>(bytes));
    case DType::float64:
      return Heap::make_real(load<double>(bytes));
    case DType::complex64:
      return make_complex_slot(heap, load<float>(bytes), load<float>(bytes, 1));
    default:
      return make_complex_slot(heap, load<double>(bytes), load<double>(bytes, 1));
  }
}

std::optional<Slot> numbers_or_texts(Heap& heap, Slot type_slot, std::vector<std::int64_t> shape, bool is_fortran,
                                     Slot bytes) {
  const auto type = read_type(heap, type_slot);
  if (!type) return make_texts(heap, type_slot, shape, is_fortran, bytes);
  return heap.make_tensor(make_array(heap, *type, std::move(shape), is_fortran, heap.text(bytes)));
}

}  // namespace

// numpy._core.multiarray._reconstruct(numpy.ndarray, (0,), b'b'), then BUILD (1, shape, dtype, is_fortran, bytes)
std::optional<Slot> numpy_array(Heap& heap, Slot state) {
  if (!heap.is(state, ObjectKind::tuple)) return std::nullopt;
  const std::vector<Slot> fields(heap.items(state).begin(), heap.items(state).end());
  if (fields.size() != 5 || fields[3].tag != Tag::boolean) return std::nullopt;
  auto shape = read_shape(heap, fields[1]);
  if (!shape) return std::nullopt;
  const bool is_fortran = fields[3].integer != 0;
  if (!is_text(fields[4])) return make_objects(heap, fields[2], *shape, is_fortran, fields[4]);
  return numbers_or_texts(heap, fields[2], std::move(*shape), is_fortran, fields[4]);
}

// dtype, bytes
Slot numpy_scalar(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(1, 2);
  if (args.count() == 2 && is_text(args[1])) {
    const auto text_type = read_text_type(heap, args[0]);
    if (text_type && heap.text(args[1]).size() == text_type->itemsize) {
      if (const auto text = make_text_slot(heap, *text_type, heap.text(args[1]))) return *text;
    }
  }
  const auto type = args.count() == 2 && is_text(args[1]) ? read_type(heap, args[0]) : std::nullopt;
  if (!type) return heap.make_opaque(args.callee(), Opaque::Form::reduce, tuple);
  std::string bytes(heap.text(args[1]));
  if (bytes.size() != itemsize(type->dtype)) args.fail(fmt::format("{} bytes for a number", bytes.size()));
  const auto element = std::as_writable_bytes(std::span(bytes));
  if (type->is_swapped) swap_bytes(element, info(type->dtype).component_size);
  return make_number(heap, type->dtype, element);
}

// buffer, dtype, shape, order ('C' or 'F')
Slot numpy_from_buffer(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(4, 4);
  const bool is_bytearray = heap.is(args[0], ObjectKind::bytearray);
  const Slot buffer = is_bytearray ? heap.items(args[0])[0] : args[0];
  auto shape = read_shape(heap, args[2]);
  const bool is_fortran = args.text(3) == "F";
  if (is_text(buffer) && shape) {
    if (const auto array = numbers_or_texts(heap, args[1], std::move(*shape), is_fortran, buffer)) return *array;
  }
  return heap.make_opaque(args.callee(), Opaque::Form::reduce, tuple);
}

}  // namespace torchkeep::pickle
