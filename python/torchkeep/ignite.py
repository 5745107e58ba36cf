# SPDX-License-Identifier: BSD-3-Clause
"""For PyTorch-Ignite: a save handler for `Checkpoint`, and the random generators as one of its objects.

    saved = {"trainer": trainer, "model": model, "optimizer": optimizer, "data": sampler, "rng": Generators()}
    handler = Checkpoint(saved, TorchkeepSaver("runs/a"), n_saved=2)
    saved["handler"] = handler  # knows which files it keeps
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=100), handler)
    ...
    Checkpoint.load_objects(saved, torchkeep.load("runs/a/checkpoint_200.pt"))
"""
from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from ignite.handlers.checkpoint import BaseSaveHandler

import torchkeep

__all__ = ["Generators", "TorchkeepSaver"]


class TorchkeepSaver(BaseSaveHandler):
    """Writes what ignite's Checkpoint gives it with torchkeep.save: whole or not at all, and on the disk.

    In a distributed training the process of rank 0 writes, as with ignite's DiskSaver.

    Args:
        dirname: the folder; made when it is not there.
        durable, read_back, default: as in torchkeep.save().
    """

    def __init__(self, dirname: str | os.PathLike[str], **options: Any) -> None:
        self.dirname = pathlib.Path(dirname)
        self.dirname.mkdir(parents=True, exist_ok=True)
        self._options = options

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        if _rank() == 0:
            torchkeep.save(dict(checkpoint), self.dirname / filename, **self._options)

    def remove(self, filename: str) -> None:
        if _rank() == 0:
            (self.dirname / filename).unlink(missing_ok=True)


class Generators:
    """The default generators of PyTorch, Python and NumPy with the methods that Checkpoint asks for."""

    def state_dict(self) -> dict[str, Any]:
        return torchkeep.rng_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        torchkeep.load_rng_state(state, any_devices=True)


def _rank() -> int:
    import ignite.distributed

    return int(ignite.distributed.get_rank())
