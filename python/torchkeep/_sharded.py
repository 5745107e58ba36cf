# SPDX-License-Identifier: BSD-3-Clause
"""DTensors: the part that this rank holds, and where it lies in the whole."""
from __future__ import annotations

import sys
from typing import Any

from ._errors import Error, InvalidArgumentError
from ._ranks import _board

PEER_TIMEOUT = 1800.0  # seconds


def _dtensor() -> Any:
    module = sys.modules.get("torch.distributed.tensor")
    return module.DTensor if module is not None else ()


class Parts:
    """The DTensors of a state, by their key paths."""

    def __init__(self, state: Any, distributed: Any, group: Any) -> None:
        self._distributed = distributed
        self._group = group
        self._dtensors: dict[str, Any] = {}
        self._kind = _dtensor()
        self.local = self._with_local(state, ())
        self.placed = [(path, *self._place(path, tensor)) for path, tensor in self._dtensors.items()]

    def _with_local(self, value: Any, path: tuple[str, ...]) -> Any:
        """A copy of the containers with the local tensors in place of DTensors."""
        if self._kind and isinstance(value, self._kind):
            self._dtensors[".".join(path)] = value
            local = value.to_local().detach()
            return local.wait() if hasattr(local, "wait") else local
        if type(value) is dict or type(value).__name__ == "OrderedDict":
            return {key: self._with_local(one, (*path, str(key))) for key, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._with_local(one, (*path, str(i))) for i, one in enumerate(value))
        return value

    def _place(self, path: str, tensor: Any) -> tuple[list[int], list[int], list[int]]:
        """Sizes of the whole, the offset of this rank's part, and the ranks that hold the same part."""
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        mesh, placements = tensor.device_mesh, tensor.placements
        coordinate = mesh.get_coordinate()
        if coordinate is None:
            raise Error(f"'{path}' is a DTensor of a mesh that rank {self._distributed.get_rank()} is not part of; save it "
                        "with the group of its mesh", "unsupported", key=path)
        if any(one.is_partial() for one in placements):
            raise Error(f"'{path}' is a DTensor with the placement Partial, of which no rank has an element: "
                        "redistribute() it first", "unsupported", key=path)
        shape, offset = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
        if tuple(shape) != tuple(tensor.to_local().shape):
            raise Error(f"'{path}': expected a local part of shape {tuple(shape)} for {placements}, found "
                        f"{tuple(tensor.to_local().shape)}", "unsupported", key=path)
        same = mesh.mesh[tuple(slice(None) if one.is_replicate() else at for one, at in zip(placements, coordinate))]
        ranks = sorted(self._distributed.get_group_rank(self._group or self._distributed.group.WORLD, int(rank))
                       for rank in same.flatten().tolist())
        return list(tensor.shape), list(offset), ranks if len(ranks) > 1 else []

    def restored(self, value: Any, like: Any) -> Any:
        """What was loaded, with DTensors where `like` has them."""
        if self._kind and isinstance(like, self._kind):
            local = value.to(like.to_local().device)
            return self._kind.from_local(local, like.device_mesh, like.placements, run_check=False, shape=like.shape,
                                         stride=like.stride()).requires_grad_(like.requires_grad)
        if isinstance(value, dict) and isinstance(like, dict):
            known = {str(key): key for key in like}
            return {known.get(str(key), key): self.restored(one, like[known[str(key)]]) if str(key) in known else one
                    for key, one in value.items()}
        if isinstance(value, (list, tuple)) and isinstance(like, (list, tuple)) and len(value) == len(like):
            return type(value)(self.restored(one, other) for one, other in zip(value, like))
        return value


def _distributed() -> Any:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_initialized():
        raise InvalidArgumentError("group= needs torch.distributed: call init_process_group() first")
    return distributed


def save(state: Any, folder: Any, group: Any, durable: bool, replace: Any) -> None:
    distributed = _distributed()
    board = _board(distributed, group, PEER_TIMEOUT)
    try:
        parts = Parts(state, distributed, group)
        board.save(parts.local, folder, parts.placed, durable, replace)
    finally:
        board.close()


def load(folder: Any, like: Any, group: Any) -> Any:
    distributed = _distributed()
    board = _board(distributed, group, PEER_TIMEOUT)
    try:
        parts = Parts(like, distributed, group)
        return parts.restored(board.load(parts.local, folder, parts.placed), like)
    finally:
        board.close()
