# SPDX-License-Identifier: BSD-3-Clause
"""How every step of a tracked optimizer passes the run's gate before anything of it changes."""
import functools
import sys
import types


def steps(thing):
    """Whether it is an optimizer, or behaves as one: what wraps one often is of no class of PyTorch's."""
    return callable(getattr(thing, "step", None)) and hasattr(thing, "param_groups")


def inside(thing):
    """The optimizers that step when `thing` does: itself, and what it holds, however deep."""
    found, seen, todo = [], set(), [thing]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, (list, tuple)):
            todo += one
        elif isinstance(one, dict):
            todo += one.values() if len(one) < 100 else ()  # not the state of 100,000 parameters
        elif steps(one):
            found.append(one)
            todo += getattr(one, "__dict__", {}).values()
    return found


class Gates:
    """The gates of a run: `passed(name)` is called before what is tracked under the name steps.

    They are in one hook that PyTorch calls before the step of every optimizer, in front of all others: a hook that clips
    weights through `.data` runs after it, whenever it was registered. Where a wrapper has a step() that PyTorch does not
    know of, that method is wrapped too, for it may write before the optimizer inside steps.
    """

    def __init__(self, passed):
        self._passed = passed
        self._names = {}  # by id; the optimizers are kept by `_kept`
        self._kept = []
        self._wrapped = []
        self._hook = None

    def add(self, name, thing):
        """Returns the function that gives the parameters which it trains; None where its steps cannot be seen."""
        if not steps(thing) or not self._watch_all():
            return None
        optimizers = inside(thing)
        if not self._is_seen(thing) and not self._wrap(name, thing) and not any(map(self._is_seen, optimizers)):
            return None
        for one in optimizers:
            self._names[id(one)] = name
            self._kept.append(one)
        # Frozen ones may be given to it all the same, and are written to elsewhere (MoCo's key encoder).
        return lambda: [parameter for group in thing.param_groups for parameter in group["params"]
                        if parameter.requires_grad]

    def _watch_all(self):
        if self._hook is not None:
            return True
        # Of an optimizer's class that is none of PyTorch's, that module may not be imported yet.
        register = getattr(sys.modules.get("torch.optim.optimizer"), "register_optimizer_step_pre_hook", None)
        if register is None:  # before PyTorch 2.0
            return False
        names, passed = self._names, self._passed

        def gate(optimizer, *_):
            name = names.get(id(optimizer))
            if name is not None:
                passed(name)

        self._hook = register(gate)
        self._hook.hooks_dict_ref().move_to_end(self._hook.id, last=False)
        return True

    @staticmethod
    def _is_seen(optimizer):
        return getattr(getattr(type(optimizer), "step", None), "hooked", False)

    def _wrap(self, name, thing):
        step, passed = thing.step, self._passed

        def gated(self, *args, **kwargs):
            passed(name)
            return step(*args, **kwargs)

        # A method, as a scheduler that is made later expects it.
        ours = types.MethodType(functools.wraps(step)(gated), thing)
        try:
            thing.step = ours
        except AttributeError:  # an object without a __dict__
            return False
        self._wrapped.append((thing, ours))
        return True

    def remove(self):
        """Leaves everything as it was before add()."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        for thing, ours in self._wrapped:
            if vars(thing).get("step") is ours:  # else somebody wrapped it once more
                del thing.step
        self._wrapped.clear()
        self._names.clear()
        self._kept.clear()
