# SPDX-License-Identifier: BSD-3-Clause
"""Exact, crash-proof checkpoints of PyTorch training runs.

    import torchkeep

    torchkeep.save({"model": model.state_dict(), "step": 7}, "checkpoint.pt")   # torch.load opens it
    checkpoint = torchkeep.load("checkpoint.pt")                                # whoever wrote it
    print(torchkeep.inspect("checkpoint.pt"))                                   # without PyTorch
"""
from ._core import __version__
from ._errors import Error, InvalidArgumentError, NotFoundError, RefusedError, SystemFailure
from ._files import load, save
from ._inspect import Checkpoint, ObjectInfo, TensorInfo, inspect, verify

__all__ = [
    "Checkpoint", "Error", "InvalidArgumentError", "NotFoundError", "ObjectInfo", "RefusedError", "SystemFailure",
    "TensorInfo", "__version__", "inspect", "load", "save", "verify",
]
