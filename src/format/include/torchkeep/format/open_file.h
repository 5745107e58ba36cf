// SPDX-License-Identifier: BSD-3-Clause
// Any file that torchkeep reads, recognised by its bytes and never by its name.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/base/bytes.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// The formats that are read.
enum class FileFormat : std::uint8_t {
  torch_zip,     ///< torch.save since PyTorch 1.6, torch::pickle_save
  torch_script,  ///< a TorchScript archive, or torch::save of LibTorch
  torch_stream,  ///< torch.save before PyTorch 1.6
  torch_tar,     ///< torch.save before PyTorch 0.1.10
  pickle,        ///< pickle.dump
  safetensors,
  safetensors_index,  ///< JSON that says in which safetensors file beside it each tensor is
  dcp,                ///< a folder of torch.distributed.checkpoint (torchkeep/format/dcp.h)
};

/// "torch.save zip", "safetensors": for people.
std::string_view to_string(FileFormat format) noexcept;

/// Says which format a file has, by its first bytes and (in a zip) the names of its records. Throws Error (unsupported)
/// that says what the file is where that is known (a zip of several checkpoints, gzip, a Git LFS pointer ...),
/// (corrupt) otherwise.
FileFormat recognize(const ReadAt& file, const Limits& limits = {});

/// Reads the structure of a file of any format; see open_pt().
OpenedFile open_file(std::shared_ptr<const ReadAt> file, const PtReadOptions& options = {});

}  // namespace torchkeep
