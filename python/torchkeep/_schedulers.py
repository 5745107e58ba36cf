# SPDX-License-Identifier: BSD-3-Clause
"""Learning rate schedulers, with schedulers, tensors and arrays among their attributes."""
import inspect
from collections.abc import Mapping

from ._adapter import Adapter, Judged, Plan, copied, differences, is_class, is_of_torch, listed, mismatch, same, torch_module
from ._plain import plain, restored

_NESTED = "torchkeep.nested"  # stands for an attribute that is a scheduler itself


def is_scheduler(thing):
    lr_scheduler = torch_module().optim.lr_scheduler
    return isinstance(thing, (lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau))


class Scheduler(Adapter):
    """Arguments come from the file; the warning of the context tells where they differ from the program's."""

    def __init__(self, scheduler, name, context):
        self.scheduler = scheduler
        self.name = name
        self.context = context

    def capture(self):
        return plain(_captured(self.scheduler))

    def prepare(self, state):
        state = restored(state)
        problems, said = [], []
        self._compare(self.scheduler, state, "", problems, said)
        recorded = self.context.recorded.get(self.name)
        there = recorded.get("class") if isinstance(recorded, Mapping) else None
        if there is not None and not is_class(there, self.scheduler):
            said.insert(0, f"the scheduler is {type(self.scheduler).__name__} here and {there.rpartition(':')[2]} in the "
                           "checkpoint, which is used")
        if problems:
            of = f" of {there.rpartition(':')[2]}" if there is not None and not is_class(there, self.scheduler) else ""
            raise mismatch(f"the state{of} does not fit the {type(self.scheduler).__name__}: {listed(problems)}")
        judged = Judged(_Nested(self.scheduler))

        def change():
            judged.load(state)
            changed = differences(plain(_captured(self.scheduler)), plain(state), lacking=False)
            if changed:
                said.append(f"after {type(self.scheduler).__name__}.load_state_dict() the scheduler shows another state than "
                            f"the file: {listed(changed, 5)}")
            for message in said:
                self.context.warn(f"'{self.name}': {message}")

        own = _is_own_way(self.scheduler)
        return Plan(change, checked=not own, undo=judged.undo)

    def _compare(self, scheduler, state, path, problems, said):
        """What does not fit, of a scheduler and of those inside of it, and what the file overrides."""
        kind = type(scheduler).__name__
        if not isinstance(state, Mapping):
            problems.append(f"{path or 'the state'}: expected the state of a {kind}, found a {type(state).__name__}")
            return
        if _is_own_way(scheduler):
            return
        live = _captured(scheduler)
        arguments = set(inspect.signature(type(scheduler)).parameters) & set(live) - {"last_epoch"}
        lacking = sorted(arguments - set(state))
        # One of PyTorch's own schedulers has had its arguments since it is there.
        if lacking and is_of_torch(scheduler):
            problems.append(f"{_at(path)}the file lacks {', '.join(lacking)}: it is of another scheduler than {kind}")
        elif lacking:
            said.append(f"{_at(path)}the checkpoint has no {', '.join(lacking)}; this program's is used")
        for key, nested in _nested_of(scheduler):
            self._compare_nested(key, nested, state, path, problems, said)
        said += [f"{_at(path)}{key} is {live[key]!r} here and {state[key]!r} in the checkpoint, which is used"
                 for key in sorted(arguments & set(state) - dict(_nested_of(scheduler)).keys())
                 if not same(plain(live[key]), plain(state[key])) and live[key] is not None]

    def _compare_nested(self, key, nested, state, path, problems, said):
        saved = state.get(key)
        if isinstance(nested, list):
            if not isinstance(saved, (list, tuple)) or len(saved) != len(nested):
                found = len(saved) if isinstance(saved, (list, tuple)) else type(saved).__name__
                problems.append(f"{_at(path)}{len(nested)} schedulers in {key} here, {found} in the file")
                return
            for i, (one, inner) in enumerate(zip(nested, saved)):
                self._compare(one, inner, f"{path}{key}.{i}.", problems, said)
        elif isinstance(saved, Mapping) and _NESTED in saved:
            self._compare(nested, saved[_NESTED], f"{path}{key}.", problems, said)
        else:
            problems.append(f"{_at(path)}expected the state of a {type(nested).__name__} in {key}")


def _at(path):
    return f"{path[:-1]}: " if path else ""


def _is_own_way(scheduler):
    method = getattr(scheduler.load_state_dict, "__func__", None)
    return not getattr(method, "__module__", "").startswith("torch.optim.")


def _nested_of(scheduler):
    """(attribute, scheduler or list of schedulers), of those that are in its state dict."""
    found = []
    for key, value in vars(scheduler).items():
        if key == "optimizer":
            continue
        if is_scheduler(value) or isinstance(value, list) and value and all(map(is_scheduler, value)):
            found.append((key, value))
    return found


def _captured(scheduler):
    """Its state dict, with the states of schedulers that are attributes, and without functions: like the functions of
    LambdaLR, they are the program's."""
    state = dict(scheduler.state_dict())
    for key, value in list(state.items()):
        if is_scheduler(value):
            state[key] = {_NESTED: _captured(value)}
        elif isinstance(value, list) and value and all(map(is_scheduler, value)):
            state[key] = [_captured(one) for one in value]
        elif _is_code(value):
            del state[key]
    return state


def _is_code(value):
    return callable(value) and not isinstance(value, type) and not hasattr(value, "state_dict")


class _Nested:
    """A scheduler, with a state dict that has those of its nested ones."""

    def __init__(self, scheduler):
        self.scheduler = scheduler

    def state_dict(self):
        return _captured(self.scheduler)

    def load_state_dict(self, state):
        own = copied(state)
        nested = dict(_nested_of(self.scheduler))
        for key, value in nested.items():
            if isinstance(own.get(key), Mapping) and _NESTED in own[key]:
                _Nested(value).load_state_dict(own[key][_NESTED])
                own[key] = value
            elif isinstance(value, list) and key not in _loads_itself(self.scheduler):
                for one, inner in zip(value, own.get(key, ())):
                    _Nested(one).load_state_dict(inner)
                own[key] = value
        self.scheduler.load_state_dict(own)


def _loads_itself(scheduler):
    """The lists of schedulers that its own load_state_dict() loads."""
    lr_scheduler = torch_module().optim.lr_scheduler
    kinds = tuple(getattr(lr_scheduler, name) for name in ("SequentialLR", "ChainedScheduler") if hasattr(lr_scheduler, name))
    return ("_schedulers",) if isinstance(scheduler, kinds) else ()
