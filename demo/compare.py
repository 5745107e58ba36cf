# SPDX-License-Identifier: BSD-3-Clause
"""Compares checkpoints: every tensor by dtype, shape, strides and bytes, everything else by value and type."""
import struct
from dataclasses import dataclass, field

import torch


@dataclass
class Comparison:
    tensors: int = 0
    bytes: int = 0
    values: int = 0
    different: list = field(default_factory=list)  # key paths
    different_tensors: int = 0

    @property
    def equal(self):
        return not self.different and self.tensors > 0


def leaves(value, path=""):
    """(key path, leaf) of everything in nested dicts, lists and tuples, and of the empty ones themselves."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)) and value:
        for index, child in enumerate(value):
            yield from leaves(child, f"{path}.{index}")
    else:
        yield path, value


def bits(leaf):
    """What must be the same for two leaves to be the same."""
    if isinstance(leaf, torch.Tensor):
        raw = leaf.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return leaf.dtype, leaf.shape, leaf.stride(), raw
    if isinstance(leaf, float):
        return float, struct.pack("<d", leaf)
    return type(leaf), repr(leaf)


def compare(expected, found):
    """Compares two states. A key path that only one of them has is a difference."""
    result = Comparison()
    expected, found = dict(leaves(expected)), dict(leaves(found))
    for path in {**expected, **found}:
        leaf = expected.get(path, found.get(path))
        is_tensor = isinstance(leaf, torch.Tensor)
        if path not in expected or path not in found or bits(expected[path]) != bits(found[path]):
            result.different.append(path)
            result.different_tensors += is_tensor
        if is_tensor:
            result.tensors += 1
            result.bytes += leaf.numel() * leaf.element_size()
        else:
            result.values += 1
    return result
