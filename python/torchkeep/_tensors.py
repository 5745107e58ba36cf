# SPDX-License-Identifier: BSD-3-Clause
"""The rare kinds of tensors, taken apart and put together with PyTorch's own functions. Called by the extension."""
import torch


def location_of(storage):
    """Where torch.load would put the storage back: "cuda:0"."""
    return torch.serialization.location_tag(storage)


def quantizer_of(tensor):
    """(scheme, scale, zero point), or (scheme, scales, zero points, axis)."""
    scheme = str(tensor.qscheme()).removeprefix("torch.")
    if tensor.qscheme() == torch.per_tensor_affine:
        return scheme, tensor.q_scale(), tensor.q_zero_point()
    return scheme, tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points(), tensor.q_per_channel_axis()


def sparse_parts(tensor):
    """(layout, indices, plain indices or None, values, shape, is coalesced or None)."""
    layout = str(tensor.layout).removeprefix("torch.")
    if layout == "sparse_coo":
        return layout, tensor._indices(), None, tensor._values(), tuple(tensor.shape), tensor.is_coalesced()
    if layout in ("sparse_csr", "sparse_bsr"):
        return layout, tensor.crow_indices(), tensor.col_indices(), tensor.values(), tuple(tensor.shape), None
    if layout in ("sparse_csc", "sparse_bsc"):
        return layout, tensor.ccol_indices(), tensor.row_indices(), tensor.values(), tuple(tensor.shape), None
    raise TypeError(f"a tensor of layout {tensor.layout} cannot be saved")


def nested_parts(tensor):
    """(buffer, sizes, strides, offsets)."""
    return (tensor.values(), tensor._nested_tensor_size(), tensor._nested_tensor_strides(),
            tensor._nested_tensor_storage_offsets())


def note_writes(tensors):
    """Raises the version counters of tensors whose memory was written to."""
    increment = getattr(torch.autograd.graph, "increment_version", None)  # since PyTorch 2.1
    if increment is None:
        return
    counted = [tensor for tensor in tensors if not tensor.is_inference()]
    try:
        increment(counted)
    except TypeError:  # before PyTorch 2.5: one at a time
        for tensor in counted:
            increment(tensor)


def restorer(map_location):
    """What torch.load does with a storage and the place it was saved from."""
    return torch.serialization._get_restore_location(map_location)


def strided(storage, dtype, offset, sizes, strides):
    """A view of an UntypedStorage."""
    return torch.empty((0,), dtype=dtype, device=storage.device).set_(storage, offset, sizes, strides)


def quantized(storage, dtype, offset, sizes, strides, quantizer):
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)
    scheme, *numbers = quantizer
    return torch._utils._rebuild_qtensor(typed, offset, sizes, strides, (getattr(torch, scheme), *numbers), False, None)


def meta(dtype, sizes, strides):
    return torch._utils._rebuild_meta_tensor_no_storage(dtype, sizes, strides, False)


def sparse(layout, indices, plain, values, sizes, coalesced):
    # Not torch._utils._rebuild_sparse_tensor: what that makes is kept alive until the next torch.load. The indices were
    # checked when the file was read (SparseTensor::validate).
    layout, sizes = getattr(torch, layout), torch.Size(sizes)
    if layout == torch.sparse_coo:
        return torch.sparse_coo_tensor(indices, values, sizes, check_invariants=False, is_coalesced=coalesced)
    return torch.sparse_compressed_tensor(indices, plain, values, sizes, layout=layout, check_invariants=False)


def nested(buffer, sizes, strides, offsets):
    # Every part lies in the buffer: NestedTensor::validate.
    return torch._utils._rebuild_nested_tensor(buffer, sizes, strides, offsets)


def finish(tensor, conj, neg):
    """Sets the lazy bits."""
    bits = {name: True for name, is_set in (("conj", conj), ("neg", neg)) if is_set}
    torch._C._set_tensor_metadata(tensor, bits)
    return tensor


def typed_storage(storage, dtype, first, count):
    """A storage that was saved by itself: elements `first` and on of the memory."""
    begin, end = first * dtype.itemsize, (first + count) * dtype.itemsize
    if (begin, end) != (0, storage.nbytes()):
        storage = storage[begin:end]
    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def tensor_of_storage(storage):
    """The tensor of all elements of a storage."""
    is_typed = isinstance(storage, torch.storage.TypedStorage)
    dtype = storage.dtype if is_typed else torch.uint8
    untyped = storage._untyped_storage if is_typed else storage
    return torch.empty(0, dtype=dtype, device=untyped.device).set_(untyped, 0, (untyped.nbytes() // dtype.itemsize,))


def zeros_of(tensor):
    """The zeros that a tensor without memory stands for (torch._efficientzerotensor), or None for another tensor."""
    return torch.zeros_like(tensor) if tensor._is_zerotensor() else None


def special(name, args):
    """A layout or memory format by what a pickle says of it, or None."""
    text = args[0] if name == "torch.serialization._get_layout" and args else name
    found = getattr(torch, text.removeprefix("torch."), None) if isinstance(text, str) else None
    return found if isinstance(found, (torch.layout, torch.memory_format)) else None
