// SPDX-License-Identifier: BSD-3-Clause
// A .npy file (NumPy's format.py, version 1.0): magic, version, u16 length, a Python dict as text, then the elements.
//
//   \x93 N U M P Y  1 0  | length u16 LE | {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } blanks \n | data
//                                                                        data begins at a multiple of 64
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/format/npy.h>
#include <torchkeep/state/cast.h>
#include <torchkeep/state/elements.h>

namespace torchkeep {
namespace {

constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);
constexpr std::size_t kPrefix = 10;  // magic, version and length
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kMaxHeader = 0xffff;

// NumPy's name for a dtype it has; empty for the others.
std::string description(DType dtype) {
  const DTypeInfo& row = info(dtype);
  const auto sized = [&](char kind) {
    return fmt::format("{}{}{}", row.itemsize == 1 ? '|' : '<', kind, row.itemsize);
  };
  switch (dtype) {
    case DType::float64:
    case DType::float32:
    case DType::float16:
      return sized('f');
    case DType::complex128:
    case DType::complex64:
      return sized('c');
    case DType::int64:
    case DType::int32:
    case DType::int16:
    case DType::int8:
      return sized('i');
    case DType::uint64:
    case DType::uint32:
    case DType::uint16:
    case DType::uint8:
      return sized('u');
    case DType::boolean:
      return "|b1";
    default:
      return {};
  }
}

DType unsigned_of(std::size_t itemsize) {
  return itemsize == 1 ? DType::uint8 : itemsize == 2 ? DType::uint16 : itemsize == 4 ? DType::uint32 : DType::uint64;
}

std::string shape_text(const std::vector<std::int64_t>& sizes) {
  if (sizes.size() == 1) return fmt::format("({},)", sizes[0]);
  return fmt::format("({})", fmt::join(sizes, ", "));
}

}  // namespace

DType npy_dtype(DType dtype, const NpyOptions& options) {
  if (!description(dtype).empty()) return dtype;
  if (!options.raw_bits) {
    for (const DType wider : {DType::float32, DType::complex64}) {
      if (can_cast(dtype, wider)) return wider;
    }
    if (dtype == DType::qint8) return DType::int8;
    if (dtype == DType::qint32) return DType::int32;
  }
  return unsigned_of(itemsize(dtype));
}

Plan plan_npy(const Tensor& tensor, const NpyOptions& options) {
  if (tensor.is_conj || tensor.is_neg) {
    throw Error(Code::unsupported,
                "the tensor is conjugated or negated lazily; resolve it (resolve_conj) before saving");
  }
  const DType dtype = npy_dtype(tensor.dtype, options);
  const bool same_bits = tensor.dtype == dtype || !can_cast(tensor.dtype, dtype);
  const StoragePtr payload = same_bits ? contiguous_storage(tensor) : cast(tensor, dtype).storage;

  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", description(dtype),
                                 shape_text(tensor.sizes));
  text.append((kAlignment - (kPrefix + text.size() + 1) % kAlignment) % kAlignment, ' ');
  text += '\n';
  if (text.size() > kMaxHeader) throw Error(Code::unsupported, "the tensor has too many dimensions for a .npy file");

  Plan plan;
  plan.literals = kMagic;
  plan.literals += static_cast<char>(text.size() & 0xff);
  plan.literals += static_cast<char>(text.size() >> 8);
  plan.literals += text;
  plan.file_size = plan.literals.size();
  plan.extents.push_back({0, plan.file_size, 0, false});
  if (payload->nbytes() != 0) {
    plan.extents.push_back({plan.file_size, payload->nbytes(), 0, true});
    plan.payloads.push_back(payload);
    plan.file_size += payload->nbytes();
  }
  return plan;
}

}  // namespace torchkeep
