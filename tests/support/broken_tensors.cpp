// SPDX-License-Identifier: BSD-3-Clause
// The catalogue: tensors that their storages do not hold, and other rebuilds with wrong arguments.
#include "support/broken_files.h"
#include "support/file_parts.h"

namespace torchkeep::testing {
namespace {

using namespace parts;

BrokenFile pickled(const std::string& name, std::string_view body, std::optional<Code> code, const char* message = "",
                   const PtReadOptions& options = {}) {
  return {"tensor." + name, torch_zip(pickle(body)), code, message, options};
}

BrokenFile strided(const std::string& name, std::int64_t offset, std::initializer_list<std::int64_t> sizes,
                   std::initializer_list<std::int64_t> strides, std::optional<Code> code, const char* message = "") {
  return pickled(name, tensor(storage("0", 4), offset, sizes, strides), code, message);
}

std::string plain() {
  return tensor(storage("0", 4), 0, {4}, {1});
}
std::string utils(const char* name) {
  return global("torch._utils", name);
}
std::string no_hooks() {
  return global("collections", "OrderedDict") + ")R";
}

std::vector<BrokenFile> views() {
  constexpr Code corrupt = Code::corrupt;
  constexpr std::int64_t kMax = 0x7fffffffffffffff;
  auto two_types = torch_records(pickle(tuple({storage("1", 0), storage("1", 0, "IntStorage")})));
  two_types.push_back({.name = "archive/data/1", .data = ""});
  return {
      strided("honest", 0, {2, 2}, {2, 1}, std::nullopt),
      strided("transposed", 0, {2, 2}, {1, 2}, std::nullopt),
      strided("expanded", 0, {1000, 1000}, {0, 0}, std::nullopt),
      strided("empty_beyond_the_storage", 4, {0}, {1}, std::nullopt),
      strided("past_the_storage", 0, {5}, {1}, corrupt, "needs 5 elements, its storage has 4"),
      strided("offset_past_the_storage", 4, {1}, {1}, corrupt, "needs 5 elements"),
      strided("stride_past_the_storage", 0, {2}, {4}, corrupt, "needs 5 elements"),
      strided("negative_offset", -1, {1}, {1}, corrupt, "negative storage offset"),
      strided("negative_size", 0, {-1}, {1}, corrupt, "negative size or stride"),
      strided("negative_stride", 3, {4}, {-1}, corrupt, "negative size or stride"),
      strided("sizes_without_strides", 0, {2, 2}, {1}, corrupt, "2 sizes but 1 strides"),
      strided("strides_without_sizes", 0, {}, {1}, corrupt, "0 sizes but 1 strides"),
      strided("shape_overflows", 0, {kMax, kMax}, {0, 0}, corrupt, "overflows 64 bits"),
      strided("shape_times_itemsize_overflows", 0, {kMax}, {0}, corrupt, "overflows 64 bits"),
      strided("strides_overflow", 0, {3}, {kMax}, corrupt, "overflow 64 bits"),
      strided("offset_overflows", kMax, {2}, {1}, corrupt, "overflow 64 bits"),
      strided("expanded_to_a_terabyte", 0, {1ll << 38}, {0}, Code::refused, "Limits::max_expanded_bytes"),
      strided("sliding_window_of_a_terabyte", 0, {1ll << 19, 1ll << 19, 2}, {0, 0, 1}, Code::refused,
              "Limits::max_expanded_bytes"),
      pickled("too_many_dimensions",
              call(utils("_rebuild_tensor"), {storage("0", 4), number(0), "(" + std::string(130, 'N') + "t", ")"}),
              Code::refused, "130 dimensions, more than the limit of 64"),
      pickled("sizes_of_texts", call(utils("_rebuild_tensor"), {storage("0", 4), number(0), tuple({text("2")}), ")"}),
              corrupt, "a tuple of ints"),
      pickled("size_over_64_bits",
              call(utils("_rebuild_tensor"),
                   {storage("0", 4), number(0), tuple({"\x8a\x0a" + std::string(10, '\x7f')}), ")"}),
              corrupt, "a tuple of ints"),
      pickled("without_a_storage", call(utils("_rebuild_tensor"), {text("0"), number(0), ")", ")"}), corrupt,
              "expected a storage"),
      pickled("with_hooks",
              call(utils("_rebuild_tensor_v2"), {storage("0", 4), number(0), ")", ")", "\x89", no_hooks() + "K\1Ns"}),
              Code::unsupported, "backward hooks"),
      pickled("unknown_metadata",
              call(utils("_rebuild_tensor_v2"), {storage("0", 4), number(0), ")", ")", "\x89", no_hooks(),
                                                 empty_dict() + entry(text("spin"), "\x88")}),
              Code::unsupported, "tensor metadata 'spin'"),
      pickled("too_few_arguments", call(utils("_rebuild_tensor_v2"), {storage("0", 4)}), corrupt,
              "1 arguments, expected 6 to 7"),
      pickled("too_many_arguments", global("torch._utils", "_rebuild_tensor") + "(" + std::string(40, 'N') + "tR",
              corrupt, "40 arguments"),
      pickled("wider_than_its_storage",
              call(utils("_rebuild_tensor_v3"), {storage("0", 16, "UntypedStorage"), number(0), tuple({number(4)}),
                                                 tuple({number(1)}), "\x89", no_hooks(), global("torch", "float64")}),
              corrupt, "needs 4 elements, its storage has 2"),
      pickled("of_no_dtype",
              call(utils("_rebuild_tensor_v3"),
                   {storage("0", 16, "UntypedStorage"), number(0), ")", ")", "\x89", no_hooks(), text("float64")}),
              corrupt, "expected a dtype"),
      pickled("one_storage_of_two_types", tuple({storage("0", 4), storage("0", 4, "IntStorage")}), corrupt,
              "record 'data/0' is float32 here and int32 elsewhere"),
      pickled("one_storage_of_one_type_and_of_bytes", tuple({storage("0", 4), storage("0", 16, "UntypedStorage")}),
              std::nullopt),
      {"tensor.one_empty_storage_of_two_types", zip(two_types), std::nullopt},
      pickled("one_storage_of_two_sizes", tuple({storage("0", 4), storage("0", 2)}), corrupt,
              "record 'data/0' has 16 bytes, its tensor expects 8"),
  };
}

std::vector<BrokenFile> wrapped() {
  constexpr Code corrupt = Code::corrupt, unsupported = Code::unsupported;
  const std::string coo = call(global("torch.serialization", "_get_layout"), {text("torch.sparse_coo")});
  const std::string odd = call(global("torch.serialization", "_get_layout"), {text("torch.jagged")});
  const std::string size = call(global("torch", "Size"), {numbers({4, 4})});
  const std::string channel = global("torch", "per_channel_affine");
  const std::string four = "](K\1K\1K\1K\1e";
  const auto quantized = [](const std::string& parameters) {
    return call(utils("_rebuild_qtensor"), {storage("0", 16, "QInt8Storage"), number(0), numbers({4, 4}),
                                            numbers({4, 1}), parameters, "\x89", no_hooks()});
  };
  const auto numpy = [](const std::string& shape, const std::string& bytes) {
    const std::string dtype = call(global("numpy", "dtype"), {text("f4"), "\x89", "\x88"}) +
                              tuple({number(3), text("<"), "N", "N", "N", number(-1), number(-1), number(0)}) + "b";
    return call(global("numpy.core.multiarray", "_reconstruct"), {global("numpy", "ndarray"), numbers({0}), "C\1b"}) +
           tuple({number(1), shape, dtype, "\x89", "C" + std::string(1, static_cast<char>(bytes.size())) + bytes}) +
           "b";
  };
  const std::string load = global("torch.storage", "_load_from_bytes");
  const auto bytes_of = [](const std::string& file) { return "B" + u32(file.size()) + file; };
  const Stream stream = parts::stream();
  std::string nested = torch_zip(pickle(call(load, {bytes_of(stream.bytes())})));
  return {
      pickled("parameter_of_a_number", call(utils("_rebuild_parameter"), {"K\1", "\x88", no_hooks()}), corrupt,
              "expected a tensor"),
      pickled("parameter_of_itself", "]q\1" + call(utils("_rebuild_parameter"), {"h\1", "\x88", no_hooks()}), corrupt,
              "expected a tensor"),
      pickled("sparse_without_a_layout", call(utils("_rebuild_sparse_tensor"), {text("coo"), ")"}), corrupt,
              "expected a layout"),
      pickled("sparse_of_another_layout", call(utils("_rebuild_sparse_tensor"), {odd, ")"}), unsupported,
              "a tensor of layout jagged"),
      pickled("sparse_parts_missing", call(utils("_rebuild_sparse_tensor"), {coo, tuple({plain()})}), corrupt,
              "wrong number of parts"),
      pickled("sparse_parts_that_do_not_fit",
              call(utils("_rebuild_sparse_tensor"), {coo, tuple({plain(), plain(), size})}), corrupt,
              "do not fit each other"),
      pickled("quantized_without_a_scheme", quantized(tuple({text("x")})), corrupt, "no quantization scheme"),
      pickled("quantized_axis_outside", quantized(tuple({channel, four, four, number(2)})), corrupt,
              "axis 2 of a tensor of 2 dimensions"),
      pickled("quantized_with_few_scales", quantized(tuple({channel, "]", "]", number(0)})), corrupt,
              "0 scales and 0 zero points for 4 channels"),
      pickled("nested_of_numbers", call(utils("_rebuild_nested_tensor"), {"K\1", "K\1", "K\1", "K\1"}), corrupt,
              "expected a tensor"),
      pickled("meta_of_negative_size",
              call(utils("_rebuild_meta_tensor_no_storage"),
                   {global("torch", "float32"), numbers({-1}), numbers({1}), "\x89"}),
              corrupt, "negative size or stride"),
      pickled("meta_that_overflows",
              call(utils("_rebuild_meta_tensor_no_storage"),
                   {global("torch", "float32"), numbers({1ll << 40, 1ll << 40}), numbers({1, 1}), "\x89"}),
              corrupt, "overflows 64 bits"),
      pickled("numpy_honest", numpy(numbers({2}), "01234567"), std::nullopt),
      pickled("numpy_too_few_bytes", numpy(numbers({1ll << 40}), "01234567"), corrupt, "do not fit its shape"),
      pickled("numpy_shape_overflows", numpy(numbers({1ll << 40, 1ll << 40}), "01234567"), corrupt,
              "do not fit its shape"),
      pickled("file_inside_that_is_broken", call(load, {bytes_of("\x80\2junk")}), corrupt, "in the file of torch.save"),
      pickled("file_inside_without_a_storage", call(load, {bytes_of(pickle("N"))}), unsupported,
              "does not hold a storage"),
      pickled("file_inside_a_file_inside_a_file",
              call(load, {bytes_of(torch_zip(pickle(call(load, {bytes_of(nested)}))))}), Code::refused,
              "inside 2 others"),
  };
}

}  // namespace

std::vector<BrokenFile> broken_tensors() {
  std::vector<BrokenFile> files = views();
  for (BrokenFile& file : wrapped()) files.push_back(std::move(file));
  return files;
}

}  // namespace torchkeep::testing
