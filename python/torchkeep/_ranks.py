# SPDX-License-Identifier: BSD-3-Clause
"""What the ranks of one training tell each other while rank 0 saves for all: where they continue, the states of their
generators, and the step at which they stop. It goes through the store of the process group, in threads of its own: there is
no collective, and nothing waits for a rank that has no run."""
import collections
import datetime
import io
import itertools
import json
import os
import socket
import threading
import time
import zlib

from ._adapter import torch_module
from ._errors import Error
from ._files import load, save
from ._generators import Generators

_MEET_SECONDS = 300.0  # for rank 0 to have resumed, and for a decision where all stop
_ANSWER_SECONDS = 30.0  # for a rank to come to the step that is being saved
_KEPT = 64  # steps whose generators a rank still knows: how far it may be ahead of rank 0
_FOREVER = datetime.timedelta(days=1000)
_END = b"end"

_opened = collections.Counter()  # runs by the name of their folder: the n-th of one name is the same run on all ranks


def join(directory, role):
    """The Ranks of a run; None where this process is no rank of several."""
    distributed = getattr(torch_module(), "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    store = getattr(distributed.distributed_c10d, "_get_default_store", lambda: None)()
    if store is None or distributed.get_world_size() < 2:
        return None
    name = os.path.basename(os.path.abspath(directory))
    _opened[name] += 1
    prefix = f"torchkeep/{name}/{_opened[name]}"
    return Ranks(lambda: distributed.PrefixStore(prefix, store.clone()), distributed.get_rank(),
                 distributed.get_world_size(), role)


def digest(modules):
    """Of the values of all parameters, by the name of the tracked module."""
    torch, digests = torch_module(), {}
    for name, module in modules:
        value = 0
        for key, parameter in module.named_parameters():
            value = zlib.crc32(key.encode(), value)
            if not parameter.is_meta and type(parameter.data) is torch.Tensor and not torch.nn.parameter.is_lazy(parameter):
                value = zlib.crc32(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy(), value)
        digests[name] = value
    return digests


class Ranks:
    """One rank's part in a run. `wish` may be called in a signal handler; the other methods in the training's thread."""

    def __init__(self, connect, rank, world, role):
        self.rank = rank
        self._world = world
        self._role = role
        self._connect = connect
        self._store = connect()
        self._changed = threading.Condition()
        self._states = collections.OrderedDict()  # of the generators, by step
        self._step = 0  # that this rank has finished, or is finishing
        self._hold = None  # the step that it does not pass before all know where they stop
        self._stop_at = None
        self._wished = None  # the signal that asked for a stop, or 0
        self._told = False
        self._met = False
        self._closed = False
        self._requests = 0  # of generators, that rank 0 made
        self._silent = set()  # ranks that did not answer
        self._threads = []
        self.stop_signal = 0
        self.warnings = []

    # ---- the start

    def meet(self, step, directory, digests):
        """Called when this rank has resumed. Raises Error where it continues elsewhere than rank 0, or begins with other
        parameters of the same name."""
        here = {"step": step, "host": socket.gethostname(), "directory": os.path.abspath(directory), "role": self._role,
                "digests": digests}
        self._step = step
        self._note(step)
        self._listen(self._answer_stops)
        if self._role == "reader":
            self._listen(self._answer_generators)
        self._store.set(f"here/{self.rank}", json.dumps(here))
        self._met = True
        if self._role == "reader" and self.rank != 0:
            if self._wait_for(("here/0",), _MEET_SECONDS):
                self._compare(here, json.loads(self._store.get("here/0")))
            else:
                self.warnings.append("rank 0 has not resumed, so nothing says whether all ranks continue at one step")

    def _compare(self, here, first):
        if here["step"] != first["step"]:
            raise Error(f"rank {self.rank} on {here['host']} continues at step {here['step']} of {here['directory']}, rank 0 on "
                        f"{first['host']} at step {first['step']} of {first['directory']}: the ranks of a training continue from "
                        "one checkpoint; give all of them one directory, on a file system that they share", "mismatch")
        other = sorted(name for name, value in here["digests"].items() if value != first["digests"].get(name, value))
        if here["step"] == 0 and other:
            raise Error(f"rank {self.rank} begins with other parameters than rank 0 in {', '.join(map(repr, other))}, and only rank "
                        "0's are saved: wrap the model in DistributedDataParallel before run.resume(), or seed all ranks alike "
                        "before it is made; where each rank has a part of its own, open the run with role=\"writer\" in a "
                        "directory for each rank", "mismatch")

    # ---- generators

    def own(self, state):
        """Of the generators in a checkpoint those of this rank; rank 0's where it has none."""
        if self.rank == 0 or self._role == "writer":
            return state
        others = state.get("ranks", {})
        if self.rank not in others:
            self.warnings.append(f"the checkpoint has no generators of rank {self.rank}, which continues with rank 0's: give it a seed "
                                 "of its own after run.resume(), or it draws what rank 0 draws")
        return others.get(self.rank, state)

    def generators(self, step):
        """The states of the other ranks' generators, at this step, by rank. Waits until they come to it."""
        if not self._met or self._role == "reader":
            return {}
        others = [rank for rank in range(self._world) if rank != self.rank and self._is_reader(rank)]
        self._requests += 1
        for rank in others:
            self._store.set(f"want/{self._requests}/{rank}", str(step))
        known = {}
        for rank in others:
            answers = f"generators/{self._requests}/{rank}", f"last/{step}/{rank}"
            self._wait_for(answers, 0 if rank in self._silent else _ANSWER_SECONDS)
            for key in answers:
                content = self._store.get(key) if self._store.check([key]) else _END
                if content != _END:
                    known[rank] = load(io.BytesIO(content))
            if rank not in known and rank not in self._silent:
                self._silent.add(rank)
                self.warnings.append(f"rank {rank} did not come to step {step} within {_ANSWER_SECONDS:.0f} s, so the checkpoint lacks its "
                                     "generators: call finish_step() on all ranks")
        return known

    def _is_reader(self, rank):
        key = f"here/{rank}"
        return self._store.check([key]) and json.loads(self._store.get(key))["role"] == "reader"

    def _answer_generators(self, store):
        for number in itertools.count(1):
            wanted = self._get(store, f"want/{number}/{self.rank}")
            if wanted == _END or self._closed:
                return
            step = int(wanted)
            with self._changed:
                self._changed.wait_for(lambda: self._step >= step or self._closed)
            store.set(f"generators/{number}/{self.rank}", self._packed(step))

    def _packed(self, step):
        content = io.BytesIO()
        if step in self._states:
            save(self._states[step], content)
        return content.getvalue() or _END

    def _note(self, step):
        if self._role != "reader":
            return
        self._states[step] = Generators().capture()
        while len(self._states) > _KEPT:
            self._states.popitem(last=False)

    # ---- the stop

    def wish(self, number):
        self._wished = number

    def finished(self, step):
        """A step is done here, and not finished in the run. True where all ranks stop: waits until that is known."""
        self._note(step)
        if self._wished is not None and not self._told:
            self._told = True
            for rank in range(self._world):
                self._store.set(f"wish/{rank}", str(self._wished))
        with self._changed:
            self._step = step
            self._changed.notify_all()
            waits = self._hold is not None and step >= self._hold
            if waits and not self._changed.wait_for(lambda: self._stop_at is not None, _MEET_SECONDS):
                self._stop_at = step
                self.warnings.append(f"not all ranks said at which step they can stop: this one, {self.rank}, stops at step {step}")
            return self._stop_at is not None and step >= self._stop_at

    def _answer_stops(self, store):
        wish = self._get(store, f"wish/{self.rank}")
        if wish == _END:
            return
        with self._changed:
            self.stop_signal = int(wish)
            self._hold = self._step + 1
            store.set(f"at/{self.rank}", str(self._step))
        if self.rank == 0:
            # Every rank holds one step after the one that it named: none is past this one.
            last = max(int(self._get(store, f"at/{rank}")) for rank in range(self._world))
            for rank in range(self._world):
                store.set(f"stop/{rank}", str(last + 1))
        decision = self._get(store, f"stop/{self.rank}")
        with self._changed:
            self._stop_at = 0 if decision == _END else int(decision)  # without rank 0 each where it is
            self._changed.notify_all()

    # ---- threads

    def _listen(self, answer):
        def work():
            try:
                answer(self._connect())
            except RuntimeError:  # the store is gone, and with it the process group
                pass

        self._threads.append(threading.Thread(target=work, daemon=True, name="torchkeep ranks"))
        self._threads[-1].start()

    @staticmethod
    def _get(store, key):
        store.wait([key], _FOREVER)
        return store.get(key)

    def _wait_for(self, keys, seconds):
        """Until one is there; False when the time is over. Ctrl-C ends it."""
        until, pause = time.monotonic() + seconds, 0.0002
        while not any(self._store.check([key]) for key in keys):
            if time.monotonic() >= until:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return True

    def close(self):
        """Leaves to the others what they may still ask this rank for, and ends its threads."""
        if self._closed or not self._met:
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        try:
            self._store.set(f"last/{self._step}/{self.rank}", self._packed(self._step))
            self._leave(f"at/{self.rank}", str(self._step))
            self._leave(f"wish/{self.rank}", _END)
            self._leave(f"want/{self._next_request()}/{self.rank}", _END)
            for rank in range(self._world) if self.rank == 0 else (self.rank,):
                self._leave(f"stop/{rank}", _END)
        except RuntimeError:
            return  # the process group is gone
        for thread in self._threads:
            thread.join(1)

    def _leave(self, key, value):
        if not self._store.check([key]):
            self._store.set(key, value)

    def _next_request(self):
        return next(number for number in itertools.count(1) if not self._store.check([f"want/{number}/{self.rank}"]))
