# SPDX-License-Identifier: BSD-3-Clause
"""The ranks of a training under torch.distributed: who they are, and what they tell each other."""
from __future__ import annotations

import io
import os
import socket
import struct
import sys
import time
import zlib
from collections.abc import Mapping
from typing import Any

from . import _core
from ._errors import Error, InvalidArgumentError

DEFAULT_SECONDS = 600.0  # between saves, where nothing else is asked for
NEVER = 1e15  # seconds: for an engine that shall not save by the clock
WARN_AFTER = 60.0  # seconds: then an event names the ranks that are waited for

# Of these, state_dict() is a collective: rank 0 alone would wait for the others for ever.
_COLLECTIVE = {"FullyShardedDataParallel": "torch.distributed.fsdp",
               "ZeroRedundancyOptimizer": "torch.distributed.optim"}


def default_group():
    """torch.distributed, where it is initialized with more than one rank; else None."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed if distributed.get_world_size() > 1 else None


class SaveClock:
    """When rank 0 wishes that all ranks save, by save_seconds."""

    def __init__(self, save_every: int, save_seconds: float) -> None:
        self._seconds = save_seconds or (0.0 if save_every else DEFAULT_SECONDS)
        self._last = time.monotonic()

    def is_due(self) -> bool:
        return self._seconds > 0 and time.monotonic() - self._last >= self._seconds

    def saved(self) -> None:
        self._last = time.monotonic()


class _Store:
    """The process group's own store as the board of _core.Ranks: nothing here waits for a key."""

    def __init__(self, store: Any, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def put(self, key: str, value: bytes) -> None:
        self._store.set(self._prefix + key, value)

    def get(self, key: str) -> bytes | None:
        # get() of a key that is not there waits for it, and check() does not.
        return self._store.get(self._prefix + key) if self._store.check([self._prefix + key]) else None

    def add(self, key: str, n: int) -> int:
        return self._store.add(self._prefix + key, n)


def _board(distributed: Any, group: Any, give_up_after: float) -> Any:
    """This process among the ranks of a group. Every rank opens these in the same order."""
    # A store outlives a restart of the ranks by torchrun.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if group is None or group is distributed.group.WORLD:
        inner = distributed.distributed_c10d._get_default_store()
    else:
        inner = group.get_group_store()
    return _core.Ranks(_Store(inner, f"torchkeep/{attempt}/"), distributed.get_rank(group),
                       distributed.get_world_size(group), socket.gethostname(), WARN_AFTER, give_up_after)


class Ranks:
    """All ranks of the default group, which open the same runs in the same order."""

    def __init__(self, distributed: Any, give_up_after: float) -> None:
        self.rank: int = distributed.get_rank()
        self.world: int = distributed.get_world_size()
        self._core = _board(distributed, None, give_up_after)
        self._expected: int | None = None  # step whose generators rank 0 gathers
        self.watch = self._core.watch
        self.reached = self._core.reached
        self.messages = self._core.messages
        self.wish_to_save = self._core.wish_to_save
        self.close = self._core.close

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def wish_to_stop(self, signal: int) -> None:
        """For signal handlers, too."""
        self._core.wish_to_stop(f"signal {signal}" if signal else "request_stop()")

    def agree(self, step: int | None, path: str) -> None:
        """Raises torchkeep.Error unless every rank continues from this checkpoint; None: from none."""
        self._core.agree(step, "" if step is None else _fingerprint(path), None)

    def disagree(self, error: BaseException) -> None:
        """This rank cannot resume: no rank does."""
        try:
            self._core.agree(None, "", f"{type(error).__name__}: {error}")
        except Error:
            pass  # the reason is this rank's own error

    # ---- the generators of every rank

    def offer(self, step: int, state: Mapping[str, Any] | None) -> None:
        """What the checkpoint of a step has of this rank's generators. Rank 0 gathers them when it captures its own, until
        withdraw()."""
        if self.leads:
            self._expected = step
            return
        import torch

        packed = io.BytesIO()
        torch.save(state, packed)
        self._core.put(f"generators/{self.rank}", struct.pack("<q", step) + packed.getvalue())

    def withdraw(self) -> None:
        self._expected = None

    def gather(self) -> dict[int, Any]:
        """The generators of the other ranks, at rank 0, of the step that they were offered for; empty at other times."""
        step = self._expected
        if step is None:
            return {}
        import torch

        prefix = struct.pack("<q", step)
        states = {}
        for rank in range(1, self.world):
            packed = self._core.await_value(f"generators/{rank}", prefix,
                                            f"the random generators of {self._core.describe(rank)} at step {step}")
            states[rank] = torch.load(io.BytesIO(packed[len(prefix):]), weights_only=True)
        return states


def _fingerprint(path: str) -> str:
    """Tells a checkpoint from another one of the same step: by its size and its end, where the zip's directory is."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16)))
        return f"{size}-{zlib.crc32(file.read()):08x}"


def refuse_collectives(named: Mapping[str, Any]) -> None:
    """Raises for what cannot be saved by one rank alone."""
    for name, thing in named.items():
        for kind in type(thing).__mro__:
            if kind.__module__.startswith(_COLLECTIVE.get(kind.__name__, "\0")):
                raise InvalidArgumentError(
                    f"'{name}' is a {kind.__name__}, whose state_dict() every rank must call at the same step: one rank "
                    "alone would wait for the others for ever. Gather it on all ranks at the steps for which "
                    "run.is_due(run.step + 1) says so, and track an object with state_dict() that returns what was "
                    "gathered")
