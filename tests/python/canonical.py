# SPDX-License-Identifier: BSD-3-Clause
"""Describes Python objects the way value_tool describes Values: one entry per object, in breadth-first order."""
import collections
import ctypes
import struct
import zlib

import torch


def _hex_float(number):
    return struct.pack(">d", number).hex()


def _hex_int(number):
    return number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, "little", signed=True).hex() if number else ""


def storage_bytes(tensor):
    storage = tensor.untyped_storage()
    return ctypes.string_at(storage.data_ptr(), storage.nbytes()) if storage.nbytes() else b""


class _Description:
    def __init__(self):
        self.nodes, self.numbers, self.storages, self.alive = [], {}, {}, []

    def run(self, root):
        self.number(root)
        entries = []
        for node in self.nodes:  # grows while it is walked
            entries.append(self.describe(node))
        return entries

    def number(self, value):
        has_identity = isinstance(value, (list, dict, set, bytearray, torch.Tensor)) or (type(value) is tuple and value)
        if has_identity:
            if id(value) in self.numbers:
                return self.numbers[id(value)]
            self.numbers[id(value)] = len(self.nodes)
        self.nodes.append(value)
        return len(self.nodes) - 1

    def items(self, mapping):
        return [self.number(part) for item in mapping.items() for part in item]

    def attributes(self, value):
        attributes = vars(value)
        return self.number(attributes) if attributes else None

    def describe(self, value):
        kind = type(value)
        if value is None:
            return ["None"]
        if kind is bool:
            return ["bool", value]
        if kind is int:
            return ["int", _hex_int(value)]
        if kind is float:
            return ["float", _hex_float(value)]
        if kind is complex:
            return ["complex", _hex_float(value.real), _hex_float(value.imag)]
        if kind is str:
            return ["str", value.encode("utf-8", "surrogatepass").hex()]
        if kind in (bytes, bytearray):
            return [kind.__name__, value.hex()]
        if kind in (list, tuple, torch.Size):
            name = "torch.Size" if kind is torch.Size else kind.__name__
            return [name, [self.number(element) for element in value]]
        if kind is set:
            return ["set", sorted(value)]
        if kind in (dict, collections.Counter):
            return [kind.__name__, self.items(value)]
        if kind is collections.OrderedDict:
            items = self.items(value)
            return ["OrderedDict", items, self.attributes(value)]
        if kind is torch.dtype:
            return ["dtype", str(value).removeprefix("torch.")]
        if kind is torch.device:
            return ["device", str(value)]
        if isinstance(value, torch.Tensor):
            return self.describe_tensor(value)
        raise TypeError(f"canonical.py cannot describe a {kind}")

    def describe_tensor(self, tensor):
        if tensor.is_nested:
            parts = (tensor.values(), tensor._nested_tensor_size(), tensor._nested_tensor_strides(),
                     tensor._nested_tensor_storage_offsets())
            return ["nested", [self.part(part) for part in parts]]
        if tensor.layout != torch.strided:
            return self.describe_sparse(tensor)
        entry = {"dtype": str(tensor.dtype).removeprefix("torch."), "sizes": list(tensor.shape),
                 "strides": list(tensor.stride()), "offset": tensor.storage_offset(), "grad": tensor.requires_grad,
                 "parameter": isinstance(tensor, torch.nn.Parameter), "conj": tensor.is_conj(), "neg": tensor.is_neg(),
                 "device": str(tensor.device)}
        if tensor.is_quantized:
            entry.update(_quantizer(tensor))
        if tensor.device.type == "meta":
            entry["storage"] = None
        else:
            data = storage_bytes(tensor)
            key = tensor.untyped_storage()._cdata
            entry.update(storage=self.storages.setdefault(key, len(self.storages)), nbytes=len(data), crc=zlib.crc32(data))
        return ["tensor", entry, self.attributes(tensor)]

    def part(self, tensor):
        self.alive.append(tensor)
        return self.number(tensor)

    def describe_sparse(self, tensor):
        layout = str(tensor.layout).removeprefix("torch.")
        if layout == "sparse_coo":
            parts = [tensor._indices(), tensor._values()]
        elif layout in ("sparse_csr", "sparse_bsr"):
            parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
        else:
            parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
        coalesced = tensor.is_coalesced() if layout == "sparse_coo" else None
        return ["sparse", layout, [self.part(part) for part in parts], list(tensor.shape), coalesced]


def _quantizer(tensor):
    if tensor.qscheme() == torch.per_tensor_affine:
        return {"scheme": "per_tensor_affine", "scale": _hex_float(tensor.q_scale()), "zero_point": tensor.q_zero_point()}
    return {"scheme": str(tensor.qscheme()).removeprefix("torch."),
            "scale": storage_bytes(tensor.q_per_channel_scales()).hex(),
            "zero_point": storage_bytes(tensor.q_per_channel_zero_points()).hex(), "axis": tensor.q_per_channel_axis()}


def describe(root):
    return _Description().run(root)
