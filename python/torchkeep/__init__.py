# SPDX-License-Identifier: BSD-3-Clause
"""Exact, crash-proof checkpoints of PyTorch training runs.

    import torchkeep

    torchkeep.save({"model": model.state_dict(), "step": 7}, "checkpoint.pt")   # torch.load opens it
    checkpoint = torchkeep.load("checkpoint.pt")                                # whoever wrote it
    print(torchkeep.inspect("checkpoint.pt"))                                   # without PyTorch

    with torchkeep.Run("runs/a", save_every=200) as run:                        # a whole training run
        run.track(model=model, optimizer=optimizer, scheduler=scheduler)
        for step in run.steps(10_000):
            ...
            run.finish_step(loss=loss)
"""
from ._batches import Batches, batches
from ._core import __version__
from ._errors import Error, InvalidArgumentError, NotFoundError, RefusedError, SystemFailure
from ._files import load, save
from ._flatten import state_dict_of
from ._generators import load_rng_state, rng_state
from ._load_into import LoadWarning, load_into
from ._opaque import Opaque
from ._inspect import Checkpoint, ObjectInfo, TensorInfo, inspect, verify
from ._run import CheckpointFile, Event, Run, RunWarning, SaveMetrics, checkpoints, find_checkpoint, pin, unpin
from ._sampler import ResumableSampler

__all__ = [
    "Batches", "Checkpoint", "CheckpointFile", "Error", "Event", "InvalidArgumentError", "LoadWarning", "NotFoundError",
    "ObjectInfo", "Opaque", "RefusedError", "ResumableSampler", "Run", "RunWarning", "SaveMetrics", "SystemFailure",
    "TensorInfo", "__version__", "batches", "checkpoints", "find_checkpoint", "inspect", "load", "load_into",
    "load_rng_state", "pin", "rng_state", "save", "state_dict_of", "unpin", "verify",
]
