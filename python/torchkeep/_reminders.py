# SPDX-License-Identifier: BSD-3-Clause
"""What a run says once, by name: what trains and is not tracked, or is no longer what was tracked."""
import inspect
import weakref

from . import _state
from ._adapter import torch_module

_MANY = 1000  # parts of an object: what has more is data

_watches = weakref.WeakSet()  # of the runs that are open
_hook = None  # the handle of PyTorch's global hook, while there is one of them


class OptimizerWatch:
    """Sees the steps of all optimizers of torch.optim and their subclasses, and knows which of them a run saves."""

    def __init__(self, adapters, modules):
        self._adapters = adapters  # {name: adapter}, of the run
        self._modules = modules  # [(name, module)]
        self._is_open = False
        self._step = 0
        self._stepped = set()  # ids of the run's own optimizers, in this step of the run
        self._others = weakref.WeakKeyDictionary()  # {optimizer: the steps of the run in which it made some, two at most}
        self._told = weakref.WeakSet()

    def open(self):
        """To be called when everything is tracked."""
        global _hook
        self._own = {id(part) for adapter in self._adapters.values() for part in _optimizers_in(adapter)}
        self._were_covered = {name for name, one in self._optimizers() if not one.untracked(self._tensors())}
        self._is_open = True
        _watches.add(self)
        if _hook is None and torch_module() is not None:
            from torch.optim.optimizer import register_optimizer_step_post_hook

            _hook = register_optimizer_step_post_hook(_on_step)

    def close(self):
        global _hook
        self._is_open = False
        _watches.discard(self)
        if not _watches and _hook is not None:
            _hook.remove()
            _hook = None

    def owns(self, optimizer):
        return id(optimizer) in self._own

    def see(self, optimizer):
        """An optimizer made a step; in its own thread, in the middle of whatever."""
        if self.owns(optimizer):
            self._stepped.add(id(optimizer))
        elif optimizer not in self._told and not any(other.owns(optimizer) for other in list(_watches)):
            steps = self._others.setdefault(optimizer, set())
            if len(steps) < 2:
                steps.add(self._step)

    def finish_step(self):
        """One line for each thing that is to be said after a step of the run."""
        if not self._is_open:
            return
        if self._others:
            yield from self._unknown_optimizers()
        self._step += 1
        self._stepped.clear()
        if self._step & (self._step - 1) == 0:  # after 1, 2, 4, 8 ... steps: it looks at every parameter
            yield from self._replaced_parameters()

    def _unknown_optimizers(self):
        tracked = {id(parameter): name for name, module in self._modules for parameter in module.parameters()}
        for optimizer, steps in list(self._others.items()):
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            names = sorted({tracked[id(one)] for one in parameters if id(one) in tracked})
            if not names and len(steps) < 2:
                continue  # perhaps one that lives for a step only, as in an inner loop
            del self._others[optimizer]
            self._told.add(optimizer)
            kind = type(optimizer).__name__
            if names:
                yield (f"an optimizer that is not tracked makes steps, {kind}, and trains {_quoted(names)}: its state will "
                       "not be saved; give it to run.track() before resume(), and track again what the program replaces")
            else:
                yield (f"an optimizer that is not tracked makes steps, {kind}, on parameters that are in no tracked module: "
                       f"neither is saved{self._idle()}")

    def _idle(self):
        idle = [name for name, one in self._optimizers() if not self._stepped & {id(part) for part in _optimizers_in(one)}]
        if not idle:
            return ""
        return (f"; {_quoted(idle)} made no step meanwhile: the run keeps the objects that were given to run.track(), so "
                "when the program replaces its model or optimizer during the run, it goes on saving the old ones")

    def _replaced_parameters(self):
        for name, one in self._optimizers():
            unknown = one.untracked(self._tensors()) if name in self._were_covered else ()
            if unknown:
                self._were_covered.discard(name)
                yield (f"optimizer '{name}' trains what is no longer in a tracked module, so its values will not be saved: "
                       f"{'; '.join(unknown)}; was a part of the model replaced after the optimizer was made?")

    def _optimizers(self):
        return [(name, one) for name, one in self._adapters.items() if isinstance(one, _state.Optimizer)]

    def _tensors(self):
        return tracked_tensors(self._adapters)


def tracked_tensors(adapters):
    """The ids of the tensors that are tracked as such, and of those in the state of other objects."""
    ids = {id(one.tensor) for one in adapters.values() if isinstance(one, _state.Tensor)}
    for one in adapters.values():
        if isinstance(one, _state.Stateful):
            ids.update(id(part) for part in parts_of(one.thing) if _is_tensor(part))
    return ids


def is_scheduled(optimizer):
    """Whether a schedule moves its learning rate: that leaves an initial_lr in the groups. Where the optimizer's own code
    does so too, only a scheduler of PyTorch shows itself, which wraps its step()."""
    if not any("initial_lr" in group for group in optimizer.param_groups):
        return False
    methods = (inspect.unwrap(one) for kind in type(optimizer).__mro__ for one in vars(kind).values()
               if inspect.isfunction(one))
    sets_it = any("initial_lr" in one.__code__.co_consts for one in methods if inspect.isfunction(one))
    return not sets_it or getattr(optimizer.step, "_wrapped_by_lr_sched", False)


def moves(adapter, optimizer):
    """Whether a tracked object is a schedule of this optimizer: PyTorch's, or anything else that holds it (Accelerate's
    and timm's schedulers, an own one) and is neither an optimizer nor a module."""
    thing = adapter.scheduler if isinstance(adapter, _state.Scheduler) else getattr(adapter, "thing", None)
    groups = optimizer.param_groups
    return thing is not None and any(getattr(part, "param_groups", None) is groups for part in parts_of(thing))


def parts_of(thing, depth=3):
    """A tracked object and what it holds in attributes, lists and dicts, so far down; wrappers hold what they wrap."""
    seen, layer = {id(thing)}, [thing]
    yield thing
    for _ in range(depth):
        if len(seen) > _MANY:
            return
        layer = [part for one in layer for part in _held_by(one) if id(part) not in seen and not seen.add(id(part))]
        yield from layer


def _held_by(thing):
    torch = torch_module()
    if isinstance(thing, (str, bytes, int, float, type)) or (torch and isinstance(thing, (torch.Tensor, torch.nn.Module))):
        return []
    if isinstance(thing, dict):
        held = list(thing.values())
    elif isinstance(thing, (list, tuple, set)):
        held = list(thing)
    else:
        held = [value for name, value in getattr(thing, "__dict__", {}).items() if name not in ("state", "param_groups")]
    return held if len(held) < _MANY else []


def _optimizers_in(adapter):
    """The optimizers whose state is saved with this object."""
    torch = torch_module()
    if torch is None:
        return []
    thing = getattr(adapter, "optimizer", None) or getattr(adapter, "thing", None)
    if isinstance(adapter, _state.Stateful) and not _has_groups(thing.state_dict()):
        return []
    return [part for part in parts_of(thing) if isinstance(part, torch.optim.Optimizer)] if thing is not None else []


def _has_groups(state, depth=3):
    if isinstance(state, dict):
        return "param_groups" in state or (depth > 0 and any(_has_groups(one, depth - 1) for one in state.values()))
    return isinstance(state, (list, tuple)) and depth > 0 and any(_has_groups(one, depth - 1) for one in state)


def _is_tensor(thing):
    torch = torch_module()
    return torch is not None and isinstance(thing, torch.Tensor)


def _quoted(names):
    return ", ".join(f"'{name}'" for name in names)


def _on_step(optimizer, args, kwargs):
    for watch in list(_watches):
        watch.see(optimizer)
