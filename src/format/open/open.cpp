// SPDX-License-Identifier: BSD-3-Clause
// Opens a file with the reader of its format.
#include "open.h"

#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/format/safetensors.h>
#include <torchkeep/state/compound.h>

#include "legacy/stream.h"
#include "tar/tar.h"

namespace torchkeep {
namespace open {
namespace {

// A tensor in a pickle holds a file of torch.save, which holds storages and nothing else.
constexpr int kMaxDepth = 2;
// Reading a file inside a pickle costs more than its bytes; a pickle may name the same bytes many times.
constexpr std::uint64_t kNestedExpansion = 16;

pickle::LoadedStorage load_nested(Bytes bytes, const PtReadOptions& options, int depth) {
  if (depth >= kMaxDepth) {
    throw Error(Code::refused, fmt::format("a file of torch.save inside {} others", kMaxDepth));
  }
  PtReadOptions inner = options;
  inner.limits.max_expansion = std::min(inner.limits.max_expansion, kNestedExpansion);
  inner.limits.max_free_bytes = 0;
  inner.open_sibling = nullptr;
  const auto memory = std::make_shared<MemoryReadAt>(std::string(as_text(bytes)));
  OpenedFile opened;
  try {
    opened = open_at_depth(memory, inner, depth + 1);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("in the file of torch.save that it holds: {}", error.what()));
  }
  const bool is_storage = opened.value.is(Kind::opaque) && opened.value.as_opaque().form == Opaque::Form::persistent &&
                          opened.value.as_opaque().args.is(Kind::tensor);
  if (!is_storage) throw Error(Code::unsupported, "a file of torch.save inside a pickle that does not hold a storage");
  const Tensor& tensor = opened.value.as_opaque().args.as_tensor();
  return {materialize(*tensor.storage), tensor.dtype, tensor.storage_offset, tensor.sizes.at(0)};
}

}  // namespace

pickle::ReadContext make_context(const PtReadOptions& options, int depth) {
  pickle::ReadContext context;
  context.limits = options.limits;
  context.unknown_classes = options.unknown_classes;
  context.keep_builtin_classes = options.keep_builtin_classes;
  context.load_nested = [options, depth](Bytes bytes) { return load_nested(bytes, options, depth); };
  return context;
}

Value read_pickle_at(const ReadAt& file, std::uint64_t& position, std::uint64_t end, std::uint64_t limit,
                     pickle::ReadContext context) {
  const std::uint64_t begin = position;
  const std::uint64_t behind = pickle::find_end(file, begin, end, limit);
  std::string bytes(static_cast<std::size_t>(behind - begin), '\0');
  file.read_at(begin, std::as_writable_bytes(std::span(bytes)));
  context.base = begin - context.base;
  position = behind;
  return pickle::read(as_bytes(bytes), context);
}

OpenedFile read_raw_pickle(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth) {
  pickle::ReadContext context = make_context(options, depth);
  context.where.file = file->name();
  OpenedFile opened;
  opened.format = FileFormat::pickle;
  std::uint64_t position = 0;
  opened.value = read_pickle_at(*file, position, file->size(), options.limits.max_pickle_bytes, std::move(context));
  opened.end = position;
  if (position != file->size()) {
    // The head of a stream of torch.save is an int, its magic number: one that is not known is no value to give out.
    if (opened.value.is(Kind::integer)) {
      throw Error(
          Code::corrupt,
          fmt::format("an int with {} bytes behind it: the magic number of torch.save, damaged, or no checkpoint",
                      file->size() - position),
          {.file = file->name(), .record = {}, .offset = position, .key = {}});
    }
    opened.hidden.push_back(fmt::format("{} bytes behind the end of the pickle", file->size() - position));
  }
  return opened;
}

OpenedFile read_safetensors(std::shared_ptr<const ReadAt> file) {
  SafetensorsFile safetensors = open_safetensors(std::move(file));
  OpenedFile opened;
  opened.format = FileFormat::safetensors;
  opened.has_other_storages = true;
  opened.value = std::move(safetensors.tensors);
  opened.metadata = std::move(safetensors.metadata);
  return opened;
}

OpenedFile open_at_depth(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth) {
  switch (recognize_start(*file)) {
    case FileFormat::torch_zip:
    case FileFormat::torch_script:
      return open_zip(std::move(file), options, depth);
    case FileFormat::torch_stream:
      return legacy::read_stream(std::move(file), options, depth);
    case FileFormat::torch_tar:
      return tar::read(std::move(file), options, depth);
    case FileFormat::pickle:
      return read_raw_pickle(std::move(file), options, depth);
    case FileFormat::safetensors_index:
      return read_index(std::move(file), options, depth);
    case FileFormat::safetensors:
    case FileFormat::dcp:  // a folder, which no bytes begin
      break;
  }
  return read_safetensors(std::move(file));
}

}  // namespace open

std::string_view to_string(FileFormat format) noexcept {
  switch (format) {
    case FileFormat::torch_zip:
      return "torch.save zip";
    case FileFormat::torch_script:
      return "TorchScript or LibTorch archive";
    case FileFormat::torch_stream:
      return "torch.save stream of PyTorch before 1.6";
    case FileFormat::torch_tar:
      return "torch.save tar of PyTorch before 0.1.10";
    case FileFormat::pickle:
      return "pickle";
    case FileFormat::safetensors_index:
      return "index of sharded safetensors";
    case FileFormat::dcp:
      return "DCP folder";
    case FileFormat::safetensors:
      break;
  }
  return "safetensors";
}

OpenedFile open_file(std::shared_ptr<const ReadAt> file, const PtReadOptions& options) {
  const std::uint64_t size = file->size();
  OpenedFile opened = open::open_at_depth(std::move(file), options, 0);
  if (opened.end == 0) opened.end = size;
  return opened;
}

Value read_all(const OpenedFile& file, unsigned threads, bool map) {
  if (!map) load_storages(file.records, threads);
  Value value = file.has_other_storages ? file.value.clone() : file.value;
  check_compounds(value);
  return value;
}

}  // namespace torchkeep
