// SPDX-License-Identifier: BSD-3-Clause
// What each callable on the allow-list makes of its arguments. Nothing is called: these are shapes of data.
#pragma once

#include <optional>

#include "arguments.h"
#include "heap.h"

namespace torchkeep::pickle {

// Tensors (rebuild.cpp)
Slot rebuild_tensor(Heap& heap, const Arguments& args);
Slot rebuild_tensor_v2(Heap& heap, const Arguments& args);
Slot rebuild_tensor_v3(Heap& heap, const Arguments& args);
Slot rebuild_quantized(Heap& heap, const Arguments& args);
Slot rebuild_meta(Heap& heap, const Arguments& args);
Slot rebuild_sparse(Heap& heap, const Arguments& args);
Slot rebuild_nested(Heap& heap, const Arguments& args);

// What wraps or converts another tensor, and tensors of PyTorch before 0.4 (rebuild_wrapped.cpp)
Slot rebuild_parameter(Heap& heap, const Arguments& args, bool has_state);
Slot rebuild_from_type(Heap& heap, const Arguments& args, Slot tuple);
Slot rebuild_device_tensor_from_numpy(Heap& heap, const Arguments& args);
Slot rebuild_device_tensor_from_cpu(Heap& heap, const Arguments& args);
Slot load_from_bytes(Heap& heap, const Arguments& args);
Slot make_old_tensor(Heap& heap, const Arguments& args, Slot tuple);
/// BUILD of such a tensor; false when `target` and `state` are not one.
bool build_old_tensor(Heap& heap, Slot target, Slot state);

// Python's and PyTorch's plain objects (construct.cpp)
Slot make_container(Heap& heap, const Arguments& args, ObjectKind kind);
Slot make_ordered_dict(Heap& heap, const Arguments& args);
Slot make_default_dict(Heap& heap, const Arguments& args, Slot tuple);
Slot make_size(Heap& heap, const Arguments& args);
Slot make_device(Heap& heap, const Arguments& args);
Slot make_complex(Heap& heap, const Arguments& args);
Slot make_bytearray(Heap& heap, const Arguments& args);
Slot make_bytes(Heap& heap, const Arguments& args);
Slot encode_latin1(Heap& heap, const Arguments& args);
Slot make_layout(Heap& heap, const Arguments& args, Slot tuple);
Slot reconstruct(Heap& heap, const Arguments& args, Slot tuple);
Slot first_argument(const Arguments& args);

// NumPy (numpy.cpp): nothing where PyTorch has no dtype for it.
std::optional<Slot> numpy_array(Heap& heap, Slot state);
Slot numpy_scalar(Heap& heap, const Arguments& args, Slot tuple);
Slot numpy_from_buffer(Heap& heap, const Arguments& args, Slot tuple);

/// Adds a tensor whose parts came from the file, after checking them.
Slot add_tensor(Heap& heap, const Arguments& args, Tensor tensor);

}  // namespace torchkeep::pickle
