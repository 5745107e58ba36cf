# SPDX-License-Identifier: BSD-3-Clause
"""For Lightning: its checkpoints written whole or not at all, and a resume that continues exactly.

    trainer = lightning.Trainer(plugins=[TorchkeepIO()], callbacks=[ExactResume(), ModelCheckpoint(...)])
    trainer.fit(model, torchkeep.batches(loader), ckpt_path="last")

Works with the package `lightning` and with `pytorch_lightning`, whichever the program has imported.
"""
from __future__ import annotations

import concurrent.futures
import copy
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torchkeep

if "pytorch_lightning" in sys.modules and "lightning" not in sys.modules:
    from lightning_fabric.plugins import CheckpointIO
    from pytorch_lightning import Callback
else:
    try:
        from lightning import Callback
        from lightning.fabric.plugins import CheckpointIO
    except ModuleNotFoundError:
        from lightning_fabric.plugins import CheckpointIO
        from pytorch_lightning import Callback

__all__ = ["ExactResume", "TorchkeepIO"]


class TorchkeepIO(CheckpointIO):
    """Writes Lightning's checkpoints with torchkeep.save and reads them with torchkeep.load.

    A file appears whole or not at all, is on the disk when the save returns, and is checked byte by byte when it is read.
    Files that Lightning wrote before are read as well, without running code from them.

    Args:
        background: return as soon as the state is copied, and write the file in a thread, one at a time. What fails is
            raised by the next save, or at the end of the training.
        durable, read_back, default: as in torchkeep.save().
    """

    def __init__(self, *, background: bool = False, durable: bool = True, read_back: bool = False,
                 default: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self._options: dict[str, Any] = {"durable": durable, "read_back": read_back, "default": default}
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "torchkeep") if background else None
        self._pending: concurrent.futures.Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str],
                        storage_options: Any | None = None) -> None:
        path = self._local(path)
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self._wait()
        if self._writer is None:
            torchkeep.save(checkpoint, path, **self._options)
        else:
            self._pending = self._writer.submit(torchkeep.save, _copied(checkpoint), path, **self._options)

    def load_checkpoint(self, path: str | os.PathLike[str], map_location: Any | None = None,
                        weights_only: bool | None = None, **_: Any) -> Any:
        """`weights_only` makes no difference: code from a file is never run."""
        self._wait()
        return torchkeep.load(self._local(path), map_location)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        self._wait()
        os.remove(self._local(path))

    def teardown(self) -> None:
        self._wait()

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    @staticmethod
    def _local(path: str | os.PathLike[str]) -> str:
        name = os.fspath(path)
        if "://" in name:
            raise torchkeep.InvalidArgumentError(f"{name}: torchkeep writes to local and mounted file systems only; give "
                                                 "ModelCheckpoint a dirpath without a scheme")
        return name


class ExactResume(Callback):
    """Keeps the random generators of every rank in Lightning's checkpoint, and sets them where the training continues.

    With `torchkeep.batches(loader)` as the training's loader the position in the data is exact too, in the middle of an
    epoch. Lightning keeps the rest: modules, optimizers, schedulers, loops and callbacks.
    """

    def __init__(self) -> None:
        self._saved: list[Any] | None = None

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["torchkeep_rng"] = _of_all_ranks(torchkeep.rng_state(), trainer.world_size)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Mapping[str, Any]) -> None:
        self._saved = checkpoint.get("torchkeep_rng")

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The last moment: what restores the checkpoint and makes the loaders draws numbers too."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        if len(saved) == trainer.world_size:
            torchkeep.load_rng_state(saved[trainer.global_rank], any_devices=True)
        elif trainer.global_rank == 0:
            warnings.warn(f"the checkpoint has the generators of {len(saved)} ranks, and there are {trainer.world_size}: they "
                          "go on as the program seeded them", torchkeep.LoadWarning, stacklevel=2)


def _of_all_ranks(state: Any, world_size: int) -> list[Any]:
    if world_size == 1:
        return [state]
    import torch.distributed

    states: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(states, state)
    return states


def _copied(value: Any, storages: dict[int, Any] | None = None) -> Any:
    """With copies of the tensors on the CPU, which training does not change; what shares memory shares it still."""
    import torch

    storages = {} if storages is None else storages
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_conj() or value.is_neg() or value.is_quantized:
            return value.detach().cpu().clone()
        live = value.untyped_storage()
        if live._cdata not in storages:
            storages[live._cdata] = live.cpu() if live.device.type != "cpu" else live.clone()
        empty = torch.empty(0, dtype=value.dtype)
        return empty.set_(storages[live._cdata], value.storage_offset(), value.shape, value.stride())
    if isinstance(value, dict):
        copied = copy.copy(value)  # keeps its class: an OrderedDict's _metadata is part of a state_dict
        copied.update((key, _copied(inner, storages)) for key, inner in value.items())
        return copied
    if type(value) in (list, tuple):
        return type(value)(_copied(inner, storages) for inner in value)
    return value
