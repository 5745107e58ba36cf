# SPDX-License-Identifier: BSD-3-Clause
"""Which state of a file belongs to which parameter of an optimizer: by name where both sides have names, else by the order
of the model's keys, else by order."""
from collections.abc import Mapping

from ._adapter import describe, is_of_torch, listed, mismatch, torch_module
from ._names import spelling_in

NAMES = "param_names"  # in an optimizer's state dict: the parameters' names, one list for each group


def has_parameter_groups(state):
    """Whether it is a state dict as torch.optim.Optimizer makes it."""
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    return (isinstance(groups, (list, tuple)) and isinstance(state.get("state"), Mapping)
            and all(isinstance(group, Mapping) and isinstance(group.get("params"), (list, tuple)) for group in groups))


class Matching:
    """`order`: for each parameter here its number in the file; `groups`: for each group here its place in the file;
    `said`: what was assumed."""

    def __init__(self, adapter, state):
        self._adapter = adapter
        self._optimizer = adapter.optimizer
        self._state = state
        self._live = [list(group["params"]) for group in self._optimizer.param_groups]
        self._saved = [list(group["params"]) for group in state["param_groups"]]
        self.order = [number for group in self._saved for number in group]
        self.groups = list(range(len(self._saved)))
        self.said = []
        self._problems = []
        if not self._by_name():
            self._by_order()

    def require_fit(self, problems):
        """Raises an Error (mismatch) that lists what does not fit."""
        problems = self._problems + problems
        if not problems:
            problems = self._misplaced()
        if problems:
            raise mismatch(f"the state does not fit the {type(self._optimizer).__name__}: {listed(problems)}")

    def renumbered(self, state):
        """The file's state as this optimizer would have written it."""
        own_numbers = self._own_numbers()
        groups = []
        for here, there in enumerate(self.groups):
            group = {key: value for key, value in state["param_groups"][there].items() if key not in (NAMES, "params")}
            groups.append({**group, "params": own_numbers[here]})
        flat = [number for group in own_numbers for number in group]
        states = {here: state["state"][there] for here, there in zip(flat, self.order) if there in state["state"]}
        listed_numbers = {number for group in self._saved for number in group}
        others = {key: value for key, value in state["state"].items() if key not in listed_numbers}
        return {**{key: value for key, value in state.items() if key != NAMES},
                "state": {**states, **others}, "param_groups": groups}

    def _own_numbers(self):
        """The numbers, or names, that this optimizer's own state_dict() gives its parameters."""
        own = self._optimizer.state_dict()
        if has_parameter_groups(own) and [len(g["params"]) for g in own["param_groups"]] == [len(g) for g in self._live]:
            return [list(group["params"]) for group in own["param_groups"]]
        numbers = iter(range(sum(map(len, self._live))))
        return [[next(numbers) for _ in group] for group in self._live]

    # ---- by name

    def _by_name(self):
        """False where the two sides have no names in common."""
        best = None
        for live, aliases in self._names_here():
            for saved in self._names_there():
                known = {name for group in live for name in group}
                names = _translated(saved, aliases)
                shared = known & {name for group in names for name in group}
                if len(shared) == len(known) == sum(map(len, names)):
                    self._match(live, names)
                    return True
                if shared and (best is None or len(shared) > best[0]):
                    best = len(shared), live, names
        if best is None and self._is_named_by_us():
            best = 0, self._names_here()[0][0], self._names_there()[0]
        if best is None:
            return False
        self._lists(*best[1:])
        return True

    def _names_here(self):
        """(the parameters' names, which of them each name of a shared parameter stands for), each way to name them."""
        ours, given = self._adapter._names(), self._given_names(self._optimizer.param_groups)
        aliases = self._adapter.context.aliases()
        found = [(ours, aliases), (given, _themselves(given))]
        if ours:
            bare = _without_first(ours)
            others = {name.partition(".")[2] or name: own.partition(".")[2] or own for name, own in aliases.items()}
            found.append((bare, {**others, **_themselves(bare)}))
        return [(names, known) for names, known in found if _is_complete(names, self._live)]

    def _names_there(self):
        ours = self._state.get(NAMES)
        found = [ours, self._given_names(self._state["param_groups"])]
        found.append(self._saved if all(isinstance(number, str) for group in self._saved for number in group) else None)
        found += [_without_first(names) for names in found if _is_complete(names, self._saved)]
        return [names for names in found if _is_complete(names, self._saved)]

    def _is_named_by_us(self):
        return _is_complete(self._adapter._names(), self._live) and _is_complete(self._state.get(NAMES), self._saved)

    @staticmethod
    def _given_names(groups):
        """The names that groups have: PyTorch's own, of named_parameters(), or those of an older torchkeep."""
        names = [group.get(NAMES) for group in groups]
        return None if any(one is None for one in names) else names

    def _match(self, live, saved):
        places = {name: (g, number) for g, group in enumerate(saved) for name, number in zip(group, self._saved[g])}
        self.order = [places[name][1] for group in live for name in group]
        if len(live) != len(saved):
            self._problems.append(_group_count(len(saved), len(live)))
            return
        free = [g for g, group in enumerate(saved) if not group]
        self.groups = []
        for g, group in enumerate(live):
            there = sorted({places[name][0] for name in group}) or [free.pop(0) if free else g]
            self.groups.append(there[0])
            if len(there) > 1:
                self._problems.append(f"the parameters of group {g} are in groups {', '.join(map(str, there))} of the file")
            elif len(group) != len(saved[there[0]]):
                self._problems.append(f"group {there[0]} of the file is in several groups here")

    def _lists(self, live, saved):
        there = {name for group in saved for name in group}
        here = {name for group in live for name in group}
        self._problems += [f"{name}: not in the file" for group in live for name in group if name not in there]
        self._problems += [f"{name}: not in the optimizer" for group in saved for name in group if name not in here]
        if len(live) != len(saved):
            self._problems.append(_group_count(len(saved), len(live)))

    # ---- by order

    def _by_order(self):
        if len(self._live) != len(self._saved):
            self._problems.append(_group_count(len(self._saved), len(self._live)))
            return
        self._problems += [f"group {g}: {len(there)} parameters in the file, {len(here)} here"
                           for g, (there, here) in enumerate(zip(self._saved, self._live)) if len(there) != len(here)]
        if self._problems:
            return
        order = self._order_of_keys()
        if order is None:
            self.said.append("its state is matched by the order of the parameters: the file and this program have no names "
                             "in common for them")
        elif order:
            self.order = order

    def _order_of_keys(self):
        """Where the file holds the models too: the parameters' numbers by the order of its keys; empty: they have the
        order here; None: it cannot be told."""
        names = self._adapter._names()
        keys = [f"{name}.{key}" for name, _ in self._adapter.context.modules
                for key in self._adapter.context.model_keys.get(name, ())]
        if not _is_complete(names, self._live):
            return None
        flat = [name for group in names for name in group]
        known = set(flat)
        aliases = self._adapter.context.aliases()
        there = list(dict.fromkeys(name for name in (aliases.get(spelling_in(key, aliases)) for key in keys)
                                   if name in known))
        here = [name for name in self._adapter.context.parameter_names().values() if name in known]
        if len(there) != len(known):
            return None
        if there == here:
            return []
        if len(self._live) != 1 or flat != here:
            return None
        numbers = dict(zip(there, self._saved[0]))
        return [numbers[name] for name in flat]

    # ---- what cannot be

    def _misplaced(self):
        """State that is another parameter's, as its shape shows."""
        torch = torch_module()
        parameters = [parameter for group in self._live for parameter in group]
        lazy = torch.nn.parameter.is_lazy
        by_key = {}
        for index, (number, parameter) in enumerate(zip(self.order, parameters)):
            saved = self._state["state"].get(number)
            if isinstance(saved, Mapping) and not lazy(parameter):
                for key, value in saved.items():
                    if isinstance(value, torch.Tensor) and value.dim() > 0:
                        by_key.setdefault(key, []).append((index, parameter, value))
        return [problem for key, entries in by_key.items() for problem in self._misplaced_of(key, entries)]

    def _misplaced_of(self, key, entries):
        live = [self._live_shape(parameter, key) for _, parameter, _ in entries]
        shapes = [list(value.shape) for _, _, value in entries]
        own = [list(parameter.shape) for _, parameter, _ in entries]
        crossed = any(shapes != like and None not in like and sorted(shapes) == sorted(like) for like in (live, own))
        needed = key in _LIKE_PARAMETER and is_of_torch(self._optimizer)
        return [f"parameter {index}: {key} is {describe(value)} in the file, "
                f"{here if here is not None else like} here" for (index, _, value), shape, here, like
                in zip(entries, shapes, live, own)
                if shape != (here or like) and crossed or shape != like and (needed or here == like)]

    def _live_shape(self, parameter, key):
        own = self._optimizer.state.get(parameter)
        value = own.get(key) if isinstance(own, Mapping) else None
        return list(value.shape) if isinstance(value, torch_module().Tensor) else None


# State that has the parameter's shape, by its name in PyTorch's optimizers.
_LIKE_PARAMETER = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta",
                   "sum", "exp_inf", "ax", "prev", "step_size"}


def _is_complete(names, groups):
    """Whether there is a name of its own for every parameter."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(one, (list, tuple)) for one in names):
        return False
    if [len(one) for one in names] != [len(one) for one in groups]:
        return False
    flat = [name for one in names for name in one]
    return bool(flat) and all(isinstance(name, str) for name in flat) and len(set(flat)) == len(flat)


def _translated(names, aliases):
    """The file's names as this program has them. Where two of them are one parameter here, they stay two."""
    found = [[aliases.get(spelling_in(name, aliases), name) for name in group] for group in names]
    flat = [name for group in found for name in group]
    return found if len(set(flat)) == len(flat) else names


def _themselves(names):
    return {name: name for group in names or () for name in group}


def _without_first(names):
    """Without the part before the first dot, which is the name of the tracked module."""
    return [[name.partition(".")[2] or name for name in group] for group in names]


def _group_count(there, here):
    groups = "1 parameter group" if there == 1 else f"{there} parameter groups"
    later = (" (a group that the run added later, with add_param_group(), has to be added before the state is loaded)"
             if there > here else "")
    return f"{groups} in the file, {here} here{later}"
