// SPDX-License-Identifier: BSD-3-Clause
// Taking parts of a checkpoint, renaming its parameters, changing dtypes, and making it fit another format.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <torchkeep/format/safetensors.h>
#include <torchkeep/state/dtype.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// Only some parts of `checkpoint`, by their paths (as find_path takes them). One path: the part itself becomes the
/// whole. Several: a checkpoint with these parts where they were, of which the containers above them keep their kind.
/// Throws Error (not_found) that lists every path that leads nowhere.
Value select_parts(const Value& checkpoint, const std::vector<std::string>& paths);

/// The same, but the containers above one path stay too.
Value keep_parts(const Value& checkpoint, const std::vector<std::string>& paths);

/// A name that begins with `from` begins with `to` instead.
struct Renaming {
  std::string from;
  std::string to;
};

/// Renames parameters: the str keys in the model sections, the modules in the `_metadata` beside them, and the names in
/// an optimizer's param_names, so that all still fit each other. Each renaming is tried once, in order. A checkpoint
/// that is itself one section is treated as one.
/// Throws Error (mismatch) when two parameters would get one name, (not_found) when a renaming fits no name.
Value rename_parameters(const Value& checkpoint, const std::vector<Renaming>& renamings);

/// Converts the floating-point tensors of the model sections to `dtype`, while they are read; optimizer states, random
/// generators and all else stay as they are. Shared storages stay shared. Quantized, integer and complex tensors stay.
/// Throws Error (unsupported) for a dtype that cast() does not convert to.
Value cast_model(const Value& checkpoint, DType dtype);

/// Takes out every object that torchkeep does not interpret, which a .pt file for PyTorch's safe loader cannot hold,
/// and every entry whose key is or holds one; returns their places: "callbacks.<my.Class> (object of my.Class)". Throws
/// Error (unsupported) when the whole is one. `keep_builtin_classes`: see PtReadOptions; those objects stay.
std::vector<std::string> drop_objects(Value& checkpoint, bool keep_builtin_classes = false);

/// What Module.state_dict() would give for a module out of a TorchScript or LibTorch archive, where a module is a dict
/// of its parameters, buffers, attributes and submodules: an OrderedDict of the tensors by their dotted names. What is
/// no tensor is listed in `left_out` ("training (bool True)"), but for what every archived module has. The archive of
/// an optimizer (with "param_groups") comes back as it is. Throws Error (mismatch) when two tensors have one name.
Value flatten_module(const Value& archive, std::vector<std::string>& left_out);

/// Whether this is a whole pickled torch.nn.Module, of any class: an object with parameters, buffers and submodules.
bool is_module(const Value& value);

/// What Module.state_dict() of a pickled module would give: an OrderedDict of its parameters and persistent buffers by
/// their dotted names, in that order; without `_metadata`, which only the module's classes know. Throws Error
/// (mismatch) for anything else, (refused) for more than a million submodules or tensors.
Value state_dict_of(const Value& module);

/// The checkpoint with every pickled module in it replaced by its state dict.
Value flatten_modules(const Value& checkpoint);

/// A checkpoint as flat names and tensors.
struct FlatTensors {
  Value tensors;  ///< a dict: the path of each tensor -> the tensor
  /// What has no place in a file of tensors, with its path: "epoch (int 3)", "z (complex128 is not a dtype ...)".
  std::vector<std::string> left_out;
};

/// All tensors of a checkpoint by their paths, and what cannot be carried to safetensors. Throws Error (mismatch) when
/// two tensors have one path ("a.b" in one dict, "b" in a dict "a").
FlatTensors flatten_for_safetensors(const Value& checkpoint);

/// Adds the names that the metadata of a safetensors file records as left out ({"lm_head": "embedding"}) as tensors
/// that share the memory of the ones that were kept; returns the names it added.
std::vector<std::string> restore_tied(Value& tensors, const SafetensorsMetadata& metadata);

}  // namespace torchkeep
