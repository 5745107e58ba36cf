# SPDX-License-Identifier: BSD-3-Clause
"""A training run in one directory: everything that decides the next step is saved in time, and found again."""
import contextlib
import dataclasses
import logging
import os
import platform
import sys
import threading
import warnings
import weakref
from collections.abc import Mapping

from . import _batches, _core, _state
from ._accumulation import Accumulation
from ._adapter import outside
from ._errors import InvalidArgumentError
from ._gate import Gates
from ._generators import Generators
from ._ranks import NEVER, Ranks, SaveClock, default_group, refuse_collectives
from ._reminders import OptimizerWatch, is_scheduled, moves, tracked_tensors
from ._signals import StopSignals
from ._values import Value, Values

logger = logging.getLogger("torchkeep")

_FRONT_ENTRIES = ("rng", "gradients")
_CHOICES = {"best": ("min", "max"), "resume": ("if_any", "required", "never"), "role": ("writer", "reader"),
            "lock": ("required", "if_available"), "proof": ("hash", "counters")}


class RunWarning(UserWarning):
    """Something of a run is likely to be lost, or is not as it should be."""


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    `kind` is "cleaned", "started", "resumed", "set_aside", "saved", "save_failed", "pruned", "stop_requested",
    "finished" or "warning"; `message` is one line for people. `error`, of "save_failed", is the exception that says why,
    with the one that led to it as its __cause__.
    """

    kind: str
    message: str
    step: int
    path: str
    bytes: int
    seconds: float
    count: int
    is_warning: bool
    blocked_seconds: float = 0.0
    staged_bytes: int = 0
    error: BaseException | None = None


@dataclasses.dataclass(frozen=True)
class SaveMetrics:
    """What a save cost: the file's size, the seconds it took and those the training waited, the bytes copied aside
    because they were about to change, and whether it was written while the training went on."""

    step: int
    bytes: int
    seconds: float
    blocked_seconds: float
    staged_bytes: int
    background: bool


def _reporter(on_event):
    tell = on_event if on_event is not None else _tell_by_default
    return lambda *fields: tell(Event(*fields))


def _tell_by_default(event):
    """Warnings go to `warnings`, and to the logger "torchkeep" where logging is set up. The start, a stop and the end are
    a line each: of that logger where it lets them through, else on stderr. The rest is for the logger alone."""
    logs = logger.hasHandlers()
    if event.is_warning:
        if logs:
            level = logging.ERROR if event.kind == "save_failed" else logging.WARNING
            logger.log(level, event.message, exc_info=event.error)
        warnings.warn(event.message, RunWarning, stacklevel=outside())
    elif event.kind in ("saved", "pruned") or (logs and logger.isEnabledFor(logging.INFO)):
        logger.info(event.message)
    elif sys.stderr is not None:
        sys.stderr.write(f"torchkeep: {event.message}\n")


class Run:
    """One run in one directory, the same directory as the C++ library's `tk::Run`: each can continue the other's.

        with torchkeep.Run("runs/a", save_every=200, keep_last=3) as run:
            run.track(model=model, optimizer=optimizer, scheduler=scheduler)
            for step in run.steps(10_000):
                ...                              # forward, backward, optimizer.step(), scheduler.step()
                run.finish_step(loss=loss)       # saves when due

    Killed at any moment, the same program started again continues at the last checkpoint, bit for bit. SIGTERM, SIGINT
    and SIGUSR1 make the next finish_step() save and end the loop; `raise SystemExit(run.exit_code())` then tells the
    script around the program to run it again. A save that fails is a warning, and training goes on; when saving has
    become impossible, the loop over steps() ends and the end of the `with` block raises. Saves are written by
    a thread of their own while the training goes on; every step of a tracked optimizer passes a gate (the first of its
    step pre-hooks), which copies aside what is not written yet. All calls come from one thread.

    Args:
        directory: made when missing, and locked: one process writes.
        save_every: save every so many steps; 0: not by steps.
        save_seconds: save when so many seconds have passed; 0: not by time, unless save_every is 0 too: then 600.
        save_on_best: save also whenever best_metric is better than at every step before; keep_best is at least 1 then.
        keep_last: keep the newest so many checkpoints; 0: all. The newest and pinned ones always stay.
        keep_every: keep every checkpoint whose step is a multiple of this.
        keep_best, best_metric, best: keep so many with the best value of this metric; best is "min" or "max". Only steps
            that are saved count: see save_on_best.
        resume: "if_any", "required" (no checkpoint is an error) or "never" (a checkpoint is an error).
        role: "writer", or "reader": resumes and never writes. None: where torch.distributed is initialized with several
            ranks, all of them open the run, rank 0 writes, and all resume, save and stop together; else "writer".
        may_be_missing: names that a checkpoint may lack because they are tracked only since.
        any_devices: resume with another number of CUDA devices too: those on both sides get their generators back.
        rng: save Python's, NumPy's and torch's random generators.
        gradients: save accumulated gradients, for a finish_step() between two optimizer steps.
        signals: handle SIGTERM, SIGINT and SIGUSR1 (in the main thread).
        durable: wait for the disk.
        read_back: read every checkpoint back and check each checksum before its name appears.
        stop_after_failures: stop after so many failed saves in a row, for nothing of it would be left; 0: never.
        verify_first: resume() checks a checkpoint whole before the first byte is changed: twice the reading.
        background: write checkpoints while the training goes on; False: finish_step() returns when the file is there.
        staging_limit: bytes that a save may copy aside at once; beyond, the training waits. None: a quarter of the
            memory that this process may use (the machine's, or its cgroup's).
        lock: "required", or "if_available": on a file system without locks (some network and user-space ones) write too;
            nothing keeps a second process from writing there at the same time then.
        peer_timeout: seconds that ranks wait for each other, before a resume is an error and a save is given up.
        proof: how a save in the background proves that what it wrote is the state at finish_step(). "hash": by a hash
            of the memory that it reads while the training goes on, taken in finish_step(); whatever writes there, a
            checkpoint is that state byte for byte, or is taken again. "counters": by PyTorch's version counters, which
            costs finish_step() nothing and misses writes through `.data`, NumPy and raw pointers.
        on_event: called with every Event, when the work of the call that led to it is done; what it raises comes out of
            that call. None: warnings go to `warnings`; start, stop and end are a line each on stderr; where logging is
            set up, all of it goes to the logger "torchkeep".

    Raises:
        torchkeep.Error: busy (another process writes there), invalid_argument, io.
    """

    def __init__(self, directory, *, save_every=0, save_seconds=0.0, save_on_best=False, keep_last=3, keep_every=0,
                 keep_best=0, best_metric="", best="min", resume="if_any", role=None, may_be_missing=(),
                 any_devices=False, rng=True, gradients=False, signals=True, durable=True, read_back=True,
                 stop_after_failures=5, verify_first=False, background=True, staging_limit=None, lock="required",
                 proof="hash", peer_timeout=1800.0, on_event=None):
        group = default_group() if role is None else None
        self._clock = SaveClock(save_every, save_seconds) if group is not None else None
        if group is not None:
            role = "writer" if group.get_rank() == 0 else "reader"
            save_seconds = 0.0 if save_every else NEVER
            if save_on_best:
                raise InvalidArgumentError("save_on_best saves at steps that only one rank knows of, which would be without "
                                           "the generators of the other ranks: use save_every and keep_best")
        role = "writer" if role is None else role
        options = {"save_every": save_every, "save_seconds": float(save_seconds),
                   "save_on_best": save_on_best, "keep_last": keep_last,
                   "keep_every": keep_every, "keep_best": keep_best, "best_metric": best_metric, "best": best,
                   "resume": resume, "role": role, "may_be_missing": list(may_be_missing),
                   "any_devices": any_devices, "rng": rng, "gradients": gradients, "durable": durable,
                   "read_back": read_back, "stop_after_failures": stop_after_failures, "verify_first": verify_first,
                   "background": background, "lock": lock, "proof": proof}
        if staging_limit is not None:
            options["staging_limit"] = staging_limit
        for name, choices in _CHOICES.items():
            if options[name] not in choices:
                raise InvalidArgumentError(f"expected {name} to be one of {', '.join(choices)}; found {options[name]!r}")
        self.directory = os.fsdecode(directory)
        self._ranks = Ranks(group, float(peer_timeout)) if group is not None else None
        with self._or_none():
            self._engine = _core.Engine(self.directory, options, _reporter(on_event))
        self._things = {}  # what is tracked, by name
        self._options = options
        self._context = _state.Context(self._engine_warn())
        self._modules = self._context.modules  # [(tracked name, module)]
        self._values = Values()
        self._accumulation = None if gradients else Accumulation()
        self._adapters = {}
        self._warned = set()
        self._completed = False  # what the run itself tracks is tracked
        self._stepped = False  # a step was finished
        self._idle = False  # the block of `with` ended and no step was left to be made
        self._total = None  # of steps()
        self._turn = None  # of the loop over steps(): "begun", then "ended" by finish_step()
        self._watch = OptimizerWatch(self._adapters, self._modules)
        self._signals = StopSignals(self._stopper()) if signals else None
        self._gates = Gates(self._before_step())
        self._closer = weakref.finalize(self, _close, self._engine, self._signals, self._watch, self._gates,
                                        self._ranks, threading.get_ident())

    # ---- tracking

    def track(self, *named, **objects):
        """Adds objects to every checkpoint, each under its name.

        What they can be: a module (also compiled or DDP-wrapped), an optimizer (its parameters are named
        "<tracked module>.<name>" in the file, whatever the order of the calls), a learning rate scheduler, a
        ResumableSampler, a generator of torch, NumPy or Python, a tensor (restored in place), or any object with
        state_dict() and load_state_dict(): GradScaler, StatefulDataLoader, your own. Plain data too: a list, a dict, a set
        or an array is restored in place, a number, a string or None is read and written as `run.values[name]`. What is
        None may be missing in a checkpoint. A dict as the only argument takes names that are no Python names. Raises
        torchkeep.Error (invalid_argument) for a name that is taken or reserved, and after resume().
        """
        for name, thing in {**_named(named), **objects}.items():
            if name in _FRONT_ENTRIES:
                raise InvalidArgumentError(f"'{name}' is an entry of every checkpoint; choose another name")
            adapter = _state.adapter_for(name, thing, self._context)
            gated = self._gates.add(name, thing) if self._options["role"] == "writer" else None
            self._engine.track(name, adapter, thing is not None, gated)
            self._adapters[name] = adapter
            self._things[name] = thing
            if isinstance(adapter, Value):
                self._values._add(name, adapter)

    def _before_step(self):
        """What is called before what is tracked under a name steps: the gate, and a look at its gradients, of which it says
        once when they are of before a finish_step(). It does not hold the run."""
        accumulation, engine, adapters, warned = self._accumulation, self._engine, self._adapters, self._warned

        def passed(name):
            engine.gate(name)
            optimizer = getattr(adapters.get(name), "optimizer", None)
            if (accumulation is not None and optimizer is not None and accumulation.carried(name, optimizer)
                    and "gradients" not in warned):
                warned.add("gradients")
                engine.warn(f"'{name}' uses gradients that were accumulated over a finish_step(), which are not saved: a run "
                            "that is resumed there lacks them. Call finish_step() once for each step of the optimizer, or "
                            "open the run with gradients=True")

        return passed

    @property
    def values(self):
        """The plain values that are tracked, by name: what a number or a string is after resume(), and what the next
        checkpoint has of it.

            run.track(best=float("inf"))
            ...
            run.values["best"] = min(run.values["best"], loss)
        """
        return self._values

    def _engine_warn(self):
        engine = self._engine
        return lambda message: engine.warn(message)

    def resume(self):
        """Continues from the newest checkpoint that verifies; returns its step, or 0 at the beginning.

        steps() calls it. Damaged newer checkpoints are set aside, kept and reported. Raises torchkeep.Error: mismatch
        (all that does not fit, in one list, before anything was changed), corrupt (all checkpoints are damaged),
        not_found, invalid_argument. After an error it can be called again.
        """
        torch = sys.modules.get("torch")
        self._engine.add_provenance({**({"pytorch": str(torch.__version__)} if torch else {}), "language": "Python",
                                     "python": platform.python_version()})
        if self._adapters and not self._completed:
            self._track_generators_and_gradients()
            self._completed = True
            for message in self._completeness():
                self._engine.warn(message)
        tracked = _state.recorded(self._adapters)
        self._engine.on_provenance(lambda provenance: self._context.note({}, provenance))
        step = self._resume() if self._ranks is None else self._resume_together()
        # What the checkpoint overrides stays what the run was asked for.
        kept = {name: {**own, **{key: value for key, value in self._context.recorded.get(name, {}).items()
                                 if key == "hyperparameters"}} for name, own in tracked.items()}
        self._engine.add_provenance({"tracked": kept})
        if torch is not None:
            _batches.continued(self._adapters.values(), step > 0 and self._options["rng"], self._engine_warn())
        if self._options["role"] == "writer":
            self._watch.open()
        return step

    def _resume(self):
        return self._engine.resume()

    def _resume_together(self):
        """All ranks from one checkpoint, or an error on all of them."""
        with self._or_none():
            refuse_collectives(self._things)
            step = self._engine.resume()
        saved = self._engine.saved
        self._ranks.agree(saved, "" if saved is None else _core.find_checkpoint(self.directory, str(saved), None, "min"))
        self._ranks.watch(step)
        return step

    @contextlib.contextmanager
    def _or_none(self):
        """What a rank cannot do, none does: the others get its error instead of waiting for it."""
        try:
            yield
        except BaseException as error:
            if self._ranks is not None:
                self._ranks.disagree(error)
                self._ranks.close()
            raise

    def _stopper(self):
        """What a signal calls: with several ranks, all of them stop at one step."""
        return self._engine.request_stop if self._ranks is None else self._ranks.wish_to_stop

    def _meet(self, number, is_last):
        """Before a step is noted as done: whether all ranks save at it."""
        for message in self._ranks.messages():
            self._engine.warn(message)
        if self._ranks.leads and self._clock.is_due():
            self._ranks.wish_to_save("save_seconds")
        meeting = self._ranks.reached(number)
        if meeting is not None and meeting[0] == "stop":
            self._engine.warn(f"all ranks stop at step {number}: {meeting[1]}")
            self._engine.request_stop(0)
        elif meeting is not None:
            self._engine.save_next()
        saves = is_last or meeting is not None or self._engine.is_due(number)
        if saves:
            self._clock.saved()
        return saves

    @contextlib.contextmanager
    def _gathered(self, step):
        """While rank 0 saves this step, it gets the generators of all ranks; None: no step is saved."""
        if self._ranks is None or step is None or not self._options["rng"]:
            yield
            return
        self._ranks.offer(step, None if self._ranks.leads else Generators().own())
        try:
            yield
        finally:
            self._ranks.withdraw()

    def is_due(self, step):
        """Whether finish_step(step) saves by save_every (or save_seconds, in one process): on every rank alike, for those
        who gather a state that every rank must be asked for."""
        return self._engine.is_due(step)

    def _track_generators_and_gradients(self):
        # The generators come last: nothing that restores may draw after them.
        if self._options["gradients"]:
            gradients = _state.Gradients(self._modules)
            self._engine.track("gradients", gradients, False, None)
        if self._options["rng"]:
            generators = Generators(self._options["any_devices"], self._ranks, self._engine_warn())
            self._engine.track("rng", generators, True, None)

    # ---- the loop

    def steps(self, total):
        """Yields the number of steps already done, from where the run continues up to total - 1, like
        range(start, total); ends early when a stop was asked for. Call finish_step() once in the loop's body."""
        if not self._engine.resumed:
            self.resume()
        self._total = total
        try:
            while self._engine.step < total and not self._engine.stopping:
                step = self._engine.step
                self._turn = "begun"
                self._engine.begin_step()
                yield step
                if self._turn == "begun" and not self._engine.stopping:
                    raise InvalidArgumentError("call run.finish_step() once in the body of the loop over run.steps()")
        finally:
            self._turn = None

    def finish_step(self, step=None, /, **metrics):
        """Notes that a step is done: logs its metrics (numbers, strings, tensors of one element); saves when that is due
        or a stop was asked for. `step` is the number of steps done; left out, one more than before."""
        self._engine.require_turn()
        before = self._engine.step
        if self._turn == "ended":
            raise InvalidArgumentError("finish_step() was called a second time in one turn of the loop over run.steps(), "
                                       "which counts one step a turn: call it once, at the end of the body, or write the "
                                       "loop as `while run.step < total and not run.stopping:` after run.resume()")
        if "step" in metrics:
            raise InvalidArgumentError("the number of the step is an argument without a name: run.finish_step(3, loss=loss)")
        plain = {name: _plain(name, value) for name, value in metrics.items()}
        for message in (*self._unattended_samplers(), *self._watch.finish_step()):
            self._engine.warn(message)
        if self._accumulation is not None:
            self._accumulation.finish({name: one.optimizer for name, one in self._adapters.items()
                                       if isinstance(one, _state.Optimizer)})
        number = before + 1 if step is None else step
        is_last = self._turn is not None and number >= self._total
        saves = self._ranks is not None and self._meet(number, is_last)
        try:
            with self._gathered(number if saves else None):
                self._engine.finish_step(number, plain, is_last)
        finally:
            if self._engine.step > before:
                self._stepped = True
                self._turn = self._turn and "ended"

    def save_now(self):
        """Saves the state after the last finished step and waits for it; True when it is saved, now or before: the
        checkpoint of a step is never written anew. False when that failed (an event says why), in the middle of a step
        (then its finish_step() saves), and for a reader."""
        with self._gathered(self._engine.step):
            return self._engine.save_now()

    def wait(self):
        """Returns when no save is under way. Not to be called in the middle of a step."""
        self._engine.wait()

    def last_save(self):
        """What the last save that succeeded cost, as SaveMetrics; None before the first."""
        metrics = self._engine.last_save()
        return None if metrics is None else SaveMetrics(*metrics)

    def finish(self):
        """Saves the last state, unless that is done, and notes that training is over: unless a stop was asked for before
        the last step of steps(). In the middle of a step nothing is saved, and a warning says so."""
        with self._gathered(self._engine.step):
            self._engine.finish(self._is_complete)

    def request_stop(self):
        """Makes the next finish_step() save and end the loop, as SIGTERM does."""
        self._engine.step  # raises on a closed run
        self._stopper()(0)

    @property
    def step(self):
        """The last finished step."""
        return self._now("step")

    @property
    def stopping(self):
        """True once a stop was asked for and the state is saved (or, as an event said, could not be): leave the loop."""
        return self._now("stopping")

    @property
    def finished(self):
        """True when finish() was reached at the last step, now or in an earlier process."""
        return self._now("finished")

    def exit_code(self):
        """For the script around the program: 0 finished (also when the block of `with` came to its end and had no step left
        to make), 75 run me again, 74 the last state is not saved."""
        return 0 if self._idle else self._now("exit_code")

    def _now(self, name):
        return getattr(self._engine, name) if self._closer.alive else self._ended[name]

    def close(self):
        """Waits for the save under way, and gives the directory's lock and the signal handlers back. Begins no save."""
        if self._closer.alive:
            self._engine.require_turn()  # else it stays open
            try:
                self._engine.wait()
            finally:
                self._end()

    def _end(self):
        if self._closer.alive:
            self._ended = {name: getattr(self._engine, name) for name in ("step", "stopping", "finished", "exit_code")}
            self._closer()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        """Without an exception: finish(), unless the loop over steps() was left early, which only saves; then raises
        torchkeep.Error (io) when saving has become impossible, so that no training ends well without a checkpoint. With
        one: begins no save, for the state may be in the middle of a step, but lets the one under way come to its end."""
        try:
            if kind is None and self._closer.alive and self._engine.resumed:
                self._conclude()
        finally:
            self.close()

    def _conclude(self):
        if self._is_complete or (self._total is None and self._stepped):
            self.finish()
        elif self._stepped:
            if not self._engine.stopping:
                with self._gathered(self._engine.step):
                    self._engine.save_last()
        elif self._total is None:  # a loop of the program's own that had nothing left to do
            self._idle = self._engine.step > 0 and not self._engine.stop_requested
        self._engine.require_saved()

    @property
    def _is_complete(self):
        return self._total is not None and self._engine.step >= self._total

    def __repr__(self):
        tracked = ", ".join(self._adapters) or "nothing"
        return f"Run({self.directory!r}, step {self.step}, tracks {tracked}{'' if self._closer.alive else ', closed'})"

    # ---- what would be lost

    def _completeness(self):
        adapters = self._adapters.items()
        optimizers = [(name, one) for name, one in adapters if isinstance(one, _state.Optimizer)]
        for name, one in optimizers:
            unknown = one.untracked(tracked_tensors(self._adapters))
            if unknown:
                count = "a parameter" if len(unknown) == 1 else f"{len(unknown)} parameters"
                yield (f"optimizer '{name}' trains {count} that are in no tracked module, so their values will not be "
                       f"saved, and its state is saved by order instead of by name: {'; '.join(unknown)}")
        if not self._options["rng"]:
            droppers = [f"{name}.{path}" for name, module in self._modules for path, part in module.named_modules()
                        if getattr(part, "p", 0) and "Dropout" in type(part).__name__]
            if droppers:
                yield ("the generators are not saved (rng=False), so a resumed run drops other elements in "
                       f"{', '.join(droppers)}")
        scheduled = [f"'{name}'" for name, one in optimizers
                     if is_scheduled(one.optimizer)
                     and not any(moves(other, one.optimizer) for other in self._adapters.values())]
        if scheduled:
            yield (f"{', '.join(scheduled)} has an initial_lr, so a scheduler moves its learning rate, but no scheduler is "
                   "tracked that does: its position will not be saved")

    def _unattended_samplers(self):
        for name, one in self._adapters.items():
            if isinstance(one, _state.Sampler) and one.sampler.is_unattended and name not in self._warned:
                self._warned.add(name)
                yield (f"'{name}' drew samples, but nothing says which were used, so its saved position stands still: loop "
                       "over torchkeep.batches(loader), or call sampler.advance(n)")


def _named(arguments):
    """The names and objects of a call of track()."""
    if len(arguments) <= 1 and all(isinstance(one, Mapping) for one in arguments):
        return dict(*arguments)
    names = _state.likely_names(arguments)
    raise InvalidArgumentError(f"track() takes objects by their names in the checkpoint: write run.track({names})")


def _close(engine, signals, watch, gates, ranks, thread):
    """For close(), for a run that is no longer held, and for the end of the program."""
    watch.close()
    gates.remove()
    try:
        if threading.get_ident() == thread:  # and not that of some garbage collection
            engine.wait()
    finally:
        try:
            engine.close()
        finally:
            if ranks is not None:
                ranks.close()
            if signals is not None:
                signals.close()


def _plain(name, value):
    if isinstance(value, (bool, int, float, str, type(None))) and type(value).__module__ == "builtins":
        return value
    item = getattr(value, "item", None)  # a tensor or a NumPy number
    if item is None:
        return value
    count = value.numel() if hasattr(value, "numel") else getattr(value, "size", 1)
    if count != 1:
        raise InvalidArgumentError(f"the metric '{name}' is a {type(value).__name__} of shape {tuple(value.shape)}: expected "
                                   f"a number or a tensor of one element, such as {name}.mean()")
    return item()


# ---- the directory, for everybody

@dataclasses.dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint of a run directory."""

    step: int
    path: str
    pinned: bool


def checkpoints(directory):
    """The checkpoints in a run directory, oldest first."""
    return [CheckpointFile(*one) for one in _core.list_checkpoints(directory)]


def find_checkpoint(directory, name="last", *, metric=None, best="min"):
    """The path of a checkpoint: "last", "best" (by the run's best_metric, or by `metric` and `best`), or a step."""
    return _core.find_checkpoint(directory, str(name), metric, best)


def pin(directory, step):
    """Keeps the checkpoint of a step whatever the run's options say, also while it is running."""
    _core.pin(directory, step)


def unpin(directory, step):
    """Removes a pin; False when there was none."""
    return _core.unpin(directory, step)
