// SPDX-License-Identifier: BSD-3-Clause
// The safetensors format: named tensors and a little text, nothing else. Files that the safetensors library reads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/format/plan.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// Limits that a reader checks before it asks for memory; the defaults are the safetensors library's own.
struct SafetensorsReadOptions {
  std::uint64_t max_header_bytes = 100'000'000;
  unsigned max_depth = 128;  ///< of nested arrays and objects in the header
};

/// The texts under "__metadata__", in the order of the file; a repeated name keeps its last text.
using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

/// A safetensors file whose header has been read.
struct SafetensorsFile {
  Value tensors;  ///< a dict from name to tensor, in the order of their bytes
  SafetensorsMetadata metadata;
};

/// Whether a file may be safetensors: a header length that fits, and a header that begins like a JSON object.
bool looks_like_safetensors(const ReadAt& file);

/// Reads the header and enforces every rule of the format: tensors without holes or overlaps up to the last byte of the
/// file, sizes that fit shapes, no name twice. Tensors are views of the file; the format has no checksums, so their
/// bytes are what is there. Throws Error (corrupt, refused, unsupported) naming the file and the byte in it.
SafetensorsFile open_safetensors(std::shared_ptr<const ReadAt> file, const SafetensorsReadOptions& options = {});

/// What plan_safetensors did about tensors that share memory, which the format cannot express.
struct SafetensorsPlan {
  Plan plan;
  /// Names left out because another name stands for the same elements; {left out, kept}. They are in the metadata, as
  /// the safetensors library's save_model() puts them there.
  std::vector<std::pair<std::string, std::string>> tied;
  /// Names whose elements overlap with another tensor's without being the same: written as copies.
  std::vector<std::string> copied;
};

/// Why the tensor cannot be written to safetensors ("complex128 is not a dtype of the format"); empty: it can.
std::string safetensors_obstacle(const Tensor& tensor);

/// The layout of the file that the safetensors library would write for these tensors: the same bytes where nothing is
/// shared and `metadata` has at most one entry (the library's order of entries is random). `tensors` is a mapping from
/// str to tensors of any strides. Throws Error (unsupported) that lists every entry the format cannot hold,
/// (mismatch) when `tensors` is not a mapping.
SafetensorsPlan plan_safetensors(const Value& tensors, const SafetensorsMetadata& metadata = {});

/// The tensors of a dict, in its order, as dicts of at most `most_bytes` of elements each, but for a tensor that is
/// longer by itself. Tensors that share memory stay together. At least one dict.
std::vector<Value> split_tensors(const Value& tensors, std::uint64_t most_bytes);

/// "model-00002-of-00003.safetensors", `number` counting from 1; "model.safetensors" of a single one.
std::string safetensors_shard_name(std::size_t number, std::size_t count);

/// The text of model.safetensors.index.json, by which transformers and others find the file of each tensor; `files` are
/// names of tensors and files, `total_size` the bytes of all tensors.
std::string safetensors_index(std::uint64_t total_size, const std::vector<std::pair<std::string, std::string>>& files);

}  // namespace torchkeep
