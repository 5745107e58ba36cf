# SPDX-License-Identifier: BSD-3-Clause
"""torch.optim.Optimizer and everything derived from it: its own load_state_dict() decides, and what that casts or spoils
is put right."""
from collections.abc import Mapping

from ._adapter import (Adapter, Judged, Plan, call_own, differences, is_class, is_of_torch, listed, mismatch, same,
                       torch_module)
from ._matching import NAMES, Matching, has_parameter_groups
from ._plain import as_number, plain, restored

# Hyperparameters that choose an implementation or came with a later version; a file may lack them.
_OPTIONAL = {"foreach", "fused", "capturable", "differentiable", "maximize", "nesterov", "decoupled_weight_decay",
             "param_names", "initial_lr"}
# What step() of PyTorch's own optimizers needs in a state that is not empty.
_NEEDED = {"Adadelta": ("square_avg", "acc_delta"), "Adagrad": ("sum",), "Adam": ("exp_avg", "exp_avg_sq"),
           "AdamW": ("exp_avg", "exp_avg_sq"), "Adamax": ("exp_avg", "exp_inf"), "ASGD": ("eta", "mu", "ax"),
           "NAdam": ("exp_avg", "exp_avg_sq", "mu_product"), "RAdam": ("exp_avg", "exp_avg_sq"), "RMSprop": ("square_avg",),
           "Rprop": ("prev", "step_size"), "SparseAdam": ("exp_avg", "exp_avg_sq"), "Muon": ("momentum_buffer",)}


class Optimizer(Adapter):
    """Its parameters are named "<tracked module>.<name>" in the file and matched by name."""

    in_place = True
    gated = True

    def __init__(self, optimizer, name, context):
        self.optimizer = optimizer
        self.name = name
        self.context = context
        self._inner_checked = False

    def _names(self):
        """The parameters' names, per group; None when one is neither tracked nor in a tracked module."""
        known = self.context.parameter_names()
        groups = [[known.get(id(parameter)) for parameter in group["params"]] for group in self.optimizer.param_groups]
        return None if any(name is None for names in groups for name in names) else groups

    def untracked(self, tensors=()):
        """What the optimizer trains and neither anything that is tracked nor `tensors` (ids) has, in words."""
        known = {*self.context.parameter_names(), *tensors}
        return [f"parameter {i} of group {g}, shape {list(parameter.shape)}"
                for g, group in enumerate(self.optimizer.param_groups) for i, parameter in enumerate(group["params"])
                if id(parameter) not in known]

    def capture(self):
        state = plain(self._with_numbers(self.optimizer.state_dict()), self._package())
        self._check_inner(state)
        names = self._names()
        if names is not None and has_parameter_groups(state) and NAMES not in state:
            if [len(one) for one in names] == [len(group["params"]) for group in state["param_groups"]]:
                state = {**state, NAMES: names}
        return state

    def _with_numbers(self, state):
        """Hyperparameters as Python's numbers, which a program of PyTorch alone can use."""
        known = getattr(self.optimizer, "defaults", {})
        if not has_parameter_groups(state) or not any(as_number(value) is not value for group in state["param_groups"]
                                                      for key, value in group.items() if key in known):
            return state
        return {**state, "param_groups": [{key: as_number(value) if key in known else value for key, value in group.items()}
                                          for group in state["param_groups"]]}

    def _package(self):
        """The package whose objects may stand in the state: the optimizer's own."""
        package = type(self.optimizer).__module__.partition(".")[0]
        return None if package in ("torch", "builtins") else package

    def watched(self):
        torch = torch_module()
        return [value for state in self.optimizer.state.values() if isinstance(state, dict)
                for value in state.values() if isinstance(value, torch.Tensor)], ()

    def _check_inner(self, state):
        """Says once what an optimizer inside of this one keeps and state_dict() does not show."""
        if self._inner_checked:
            return
        torch = torch_module()
        for attribute, inner in vars(self.optimizer).items():
            if not isinstance(inner, torch.optim.Optimizer) or not inner.state:
                continue
            self._inner_checked = True
            shown = {value.data_ptr() for value in tensors_in(state)}
            hidden = sorted({str(key) for own in inner.state.values() if isinstance(own, dict) for key, value in own.items()
                             if isinstance(value, torch.Tensor) and value.numel() and value.data_ptr() not in shown})
            if hidden:
                self.context.warn(f"'{self.name}': its .{attribute} is another optimizer, whose state ({', '.join(hidden)}) "
                                  f"is not in {type(self.optimizer).__name__}.state_dict(), so it will not be saved: track "
                                  f"it under a name of its own")

    # ---- loading

    def prepare(self, state):
        if not isinstance(state, Mapping):
            raise mismatch(f"expected an optimizer's state dict, found a {type(state).__name__}")
        if not has_parameter_groups(state):
            if has_parameter_groups(self.optimizer.state_dict()):
                raise mismatch("expected an optimizer's state dict, with 'state' and 'param_groups'")
            return self._judged(None)
        matching = Matching(self, state)
        matching.require_fit(self._problems(state, matching))
        if not self._is_base() or self._pre_hooks():
            return self._judged(matching)
        if self._is_foreign():
            return self._judged(matching, as_it_is=True)
        targets = {"state": self._targets(matching.order)}
        return Plan(lambda filled: self._load(filled, matching, call_own, as_it_is=True), targets=targets)

    def _judged(self, matching, as_it_is=False):
        judged = Judged(self.optimizer)
        return Plan(lambda filled: self._load(filled, matching, lambda _, state: judged.load(state), as_it_is),
                    checked=False, undo=judged.undo)

    def _is_base(self):
        method = getattr(self.optimizer.load_state_dict, "__func__", None)
        # Since PyTorch wraps some of its methods, the code is compared and not the name.
        return getattr(method, "__code__", method) is torch_module().optim.Optimizer.load_state_dict.__code__

    def _pre_hooks(self):
        return getattr(self.optimizer, "_optimizer_load_state_dict_pre_hooks", None)

    def _is_foreign(self):
        """Whether code of the user's takes part in load_state_dict()."""
        setter = getattr(type(self.optimizer).__setstate__, "__module__", "")
        return bool(getattr(self.optimizer, "_optimizer_load_state_dict_post_hooks", None)
                    or not setter.startswith("torch.optim."))

    def _targets(self, order):
        """The state there is, by the parameters' numbers in the file: tensors with memory that nothing else uses."""
        torch = torch_module()
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        uses = {}
        tensors = [value for own in self.optimizer.state.values() if isinstance(own, dict)
                   for value in own.values() if _has_memory(value)]
        for tensor in [*filter(_has_memory, parameters), *tensors]:
            place = tensor.untyped_storage().data_ptr()
            uses[place] = uses.get(place, 0) + 1
        targets = {}
        for number, parameter in zip(order, parameters):
            own = self.optimizer.state.get(parameter)
            if isinstance(own, dict):
                targets[number] = {key: value for key, value in own.items() if isinstance(value, torch.Tensor)
                                   and _has_memory(value) and uses[value.untyped_storage().data_ptr()] == 1}
        return targets

    def _problems(self, state, matching):
        """What is known not to fit besides the names: what step() of one of PyTorch's own optimizers would miss."""
        if not is_of_torch(self.optimizer):
            return []
        kind = type(self.optimizer).__name__
        recorded = self.context.recorded.get(self.name) or {}
        of = f"the file is of {recorded['class'].rpartition(':')[2]} and not of {kind}" if "class" in recorded else (
            f"the file is of another optimizer than {kind}")
        for live, there in zip(self.optimizer.param_groups, matching.groups):
            group = state["param_groups"][there]
            lacking = [key for key in live if key in self.optimizer.defaults and key not in group and key not in _OPTIONAL]
            if lacking:
                return [f"group {there} lacks {', '.join(lacking)}: {of}"]
        for own in state["state"].values():
            lacking = [key for key in _NEEDED.get(kind, ()) if isinstance(own, Mapping) and own and key not in own]
            if lacking:
                return [f"the state has {', '.join(map(str, own))} and not {', '.join(lacking)}: {of}"]
        return []

    def _load(self, filled, matching, load, as_it_is=False):
        state = restored(filled, self._package())
        if matching is None:
            state = {key: value for key, value in state.items() if key != NAMES} if NAMES in state else state
            load(self.optimizer, state)
            self._tell(differences(self.optimizer.state_dict(), state))
            return
        own = matching.renumbered(state)
        self._take_types(own["param_groups"])
        said = self._overridden(own["param_groups"])
        groups = [dict(group) for group in self.optimizer.param_groups]
        shown = self.optimizer.state_dict()["param_groups"]
        load(self.optimizer, {**own, "state": _as_they_are(own["state"])} if as_it_is else own)
        said += self._fill_groups(groups, shown, own["param_groups"])
        self._put_right(own)
        for message in matching.said + said:
            self.context.warn(f"'{self.name}': {message}")

    def _take_types(self, groups):
        """Numbers and members of enums as this program has them: a file has Python's numbers."""
        import enum
        import sys

        numpy = sys.modules.get("numpy")
        kinds = (enum.Enum,) if numpy is None else (enum.Enum, numpy.generic)
        for group, live in zip(groups, self.optimizer.param_groups):
            for key, value in live.items():
                if key in group and isinstance(value, kinds) and type(group[key]) is not type(value):
                    try:
                        group[key] = type(value)(group[key])
                    except (TypeError, ValueError):  # then it is as the file has it
                        pass

    def _overridden(self, groups):
        """What this program asks for and the file overrides."""
        recorded = self.context.recorded.get(self.name)
        if not isinstance(recorded, Mapping):
            return []
        said = []
        there = recorded.get("class")
        if there is not None and not is_class(there, self.optimizer):
            said.append(f"the optimizer is {type(self.optimizer).__qualname__} here and {there.rpartition(':')[2]} in the "
                        "checkpoint, whose state is used")
        asked = recorded.get("hyperparameters") or []
        for g, (own, group, was) in enumerate(zip(self.hyperparameters(), groups, asked)):
            for key, value in own.items():
                # A schedule moves what the program asked for; so what was asked then is compared too.
                if key in was and key in group and not equal(was[key], value) and not equal(group[key], value):
                    of = f" of group {g}" if len(groups) > 1 else ""
                    said.append(f"{key}{of} is {value!r} here and {was[key]!r} in the checkpoint, which is used")
        return said

    def hyperparameters(self):
        """What the program asks for, per group: plain values of the optimizer's defaults."""
        defaults = getattr(self.optimizer, "defaults", {})
        return [{key: number(group.get("initial_lr", group[key]) if key == "lr" else group[key]) for key in defaults
                 if key in group and key != "params" and is_simple(group[key])} for group in self.optimizer.param_groups]

    def _fill_groups(self, before, shown, saved):
        """Options that the file's groups lack and __setstate__ did not fill in. Those that its own state_dict() does not
        show either are the program's, and no file has them."""
        said = []
        for g, (old, group) in enumerate(zip(before, self.optimizer.param_groups)):
            for key in [key for key in old if key not in group]:
                group[key] = old[key]
                if key not in _OPTIONAL and key in shown[g] and key not in saved[g]:
                    said.append(f"group {g} of the checkpoint has no {key}; {old[key]!r} of this program is used")
        return said

    def _put_right(self, state):
        """What load_state_dict() cast or spoilt, where the state is plain; the rest is told."""
        shown = self.optimizer.state_dict()
        wrong = differences(shown.get("state"), state["state"], "state") if has_parameter_groups(shown) else ["state"]
        if not wrong:
            return
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for number, parameter in enumerate(parameters):
            own, saved = self.optimizer.state.get(parameter), state["state"].get(number)
            if not isinstance(own, dict) or not isinstance(saved, Mapping):
                continue
            seen = shown["state"].get(number, {})
            for key, value in saved.items():
                if key in own and own[key] is seen.get(key) and _is_spoilt(own[key], value):
                    own[key] = moved(value, parameter.device)
        again = self.optimizer.state_dict()
        self._tell(differences(again.get("state"), state["state"], "state"))

    def _tell(self, changed):
        if changed:
            self.context.warn(f"'{self.name}': after {type(self.optimizer).__name__}.load_state_dict() the optimizer shows "
                              f"another state than the file: {listed(changed, 5)}")


def is_simple(value):
    if isinstance(value, (tuple, list)):
        return all(map(is_simple, value))
    return isinstance(value, (bool, int, float, str, type(None))) or (
        hasattr(value, "item") and getattr(value, "size", None) is not None and getattr(value, "ndim", 1) == 0)


def number(value):
    """A hyperparameter as a file has it: a tensor or a NumPy number becomes Python's."""
    if isinstance(value, (tuple, list)):
        return type(value)(number(part) for part in value)
    return value if isinstance(value, (bool, int, str, type(None))) or type(value) is float else value.item()


def equal(a, b):
    return same(number(a), number(b)) or (is_simple(a) and is_simple(b) and number(a) == number(b))


def tensors_in(value):
    torch = torch_module()
    if isinstance(value, torch.Tensor):
        if _has_memory(value):
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_in(part)


def _has_memory(value):
    torch = torch_module()
    return (isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value) and value.layout == torch.strided
            and not value.is_meta)


def _is_spoilt(loaded, saved):
    """Whether the method gave the file's value another dtype or form, and not another meaning."""
    tensor = torch_module().Tensor
    if isinstance(saved, tensor) and isinstance(loaded, tensor):
        return saved.shape == loaded.shape and saved.dtype != loaded.dtype
    return type(saved) is type(loaded) and not isinstance(saved, (bool, int, float, type(None)))


def moved(value, device):
    """The value with its tensors on a device."""
    torch = torch_module()
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        parts = {key: moved(part, device) for key, part in value.items()}
        if all(parts[key] is value[key] for key in parts):
            return value
        made = value.copy()
        made.update(parts)
        return made
    if type(value) in (list, tuple) or isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = [moved(part, device) for part in value]
        if all(one is other for one, other in zip(parts, value)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if type(value).__name__ == "deque":
        return type(value)((moved(part, device) for part in value), value.maxlen)
    return value


def _as_they_are(states):
    """States that Optimizer.load_state_dict() moves to the parameter's device and leaves as they are otherwise: it would
    cast tensors to the parameter's dtype, and make strings and enums anew from their parts."""
    torch = torch_module()

    class Kept(torch.Tensor):
        def to(self, *, device=None, **_):
            return moved(self.kept, device)

    def keep(value):
        made = torch.Tensor._make_subclass(Kept, torch.empty(0))
        made.kept = value
        return made

    simple = (bool, int, float, complex, type(None))
    return {number: {key: value if key == "step" and isinstance(value, torch.Tensor) or type(value) in simple else keep(value)
                     for key, value in own.items()} if isinstance(own, dict) else own for number, own in states.items()}
