# SPDX-License-Identifier: BSD-3-Clause
"""How modules, optimizers, schedulers and the rest of a training are captured and restored; what stands in a file is the
same as what the C++ library writes."""
import inspect

from ._adapter import Adapter, describe, listed, mismatch, torch_module
from ._errors import InvalidArgumentError
from ._generators import NumpyGenerator, TorchGenerator
from ._sampler import ResumableSampler


def unwrapped(module):
    """The module under torch.compile and DistributedDataParallel, so that its names do not depend on them."""
    torch = torch_module()
    while True:
        if hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            module = module.module
        else:
            return module


class Module(Adapter):
    """A torch.nn.Module: parameters, buffers, and what get_extra_state() adds."""

    in_place = True

    def __init__(self, module):
        self.module = unwrapped(module)

    def capture(self):
        return self.module.state_dict()

    def watched(self):
        return self.module.parameters(), self.module.buffers()

    def prepare(self, state):
        torch = torch_module()
        tensor = torch.Tensor
        own_way = not _is_method_of(torch.nn.Module, self.module, "state_dict", "load_state_dict")
        live = dict(self.module.state_dict(**({} if own_way else {"keep_vars": True})))
        if not hasattr(state, "keys"):
            raise mismatch(f"expected a module's state dict, found a {type(state).__name__}")
        problems = []
        if live.keys() != state.keys():
            problems += [f"{name}: not in the file" for name in live if name not in state]
            problems += [f"{name}: not in the module" for name in state if name not in live]
        for name, value in live.items():
            if name in state and isinstance(value, tensor):
                saved = state[name]
                if not isinstance(saved, tensor) or saved.dtype != value.dtype or saved.shape != value.shape:
                    problems.append(f"{name}: {describe(saved)} in the file, {describe(value)} in the module")
        if problems:
            raise mismatch(f"the state does not fit the module: {listed(problems)}")
        if own_way or not self._is_plain(live):
            return None, self.module.load_state_dict

        places = {name: value for name, value in live.items() if isinstance(value, tensor)}

        def change(filled):
            if any(value is not places.get(name, places) for name, value in filled.items()):  # else all is in its place
                self.module.load_state_dict(filled)

        return places, change

    def _is_plain(self, live):
        """Whether load_state_dict() would do nothing but copy each entry into the tensor of its name, and these tensors
        are those of `live`."""
        own = {**dict(self.module.named_parameters(remove_duplicate=False)),
               **dict(self.module.named_buffers(remove_duplicate=False))}
        tensor = torch_module().Tensor
        return (all(value is own.get(name) for name, value in live.items() if isinstance(value, tensor))
                and not any(part._load_state_dict_pre_hooks or part._load_state_dict_post_hooks
                            or _loads_its_own_way(part) for part in self.module.modules()))


def _is_method_of(kind, thing, *names):
    """Whether these methods of an object are what this base class of it made them."""
    return all(getattr(getattr(thing, name), "__func__", None) is getattr(kind, name) for name in names)


def _loads_its_own_way(module):
    loader = getattr(module._load_from_state_dict, "__func__", None)
    return (loader is not torch_module().nn.Module._load_from_state_dict
            and not getattr(loader, "__module__", "").startswith("torch.nn.modules."))


# State that has the parameter's shape, by its name in PyTorch's optimizers.
_LIKE_PARAMETER = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta",
                   "sum", "exp_inf", "ax", "prev", "step_size"}
# Hyperparameters that choose an implementation or came with a later version; a file may lack them.
_OPTIONAL = {"foreach", "fused", "capturable", "differentiable", "maximize", "nesterov", "decoupled_weight_decay",
             "param_names"}


class Optimizer(Adapter):
    """A torch.optim.Optimizer. Its parameters are named "<tracked module>.<name>" in the file and matched by name."""

    in_place = True
    gated = True

    def __init__(self, optimizer, modules):
        self.optimizer = optimizer
        self.modules = modules  # [(tracked name, module)], filled by all track() calls

    def names(self):
        """The parameters' names, per group; None when a parameter is in no tracked module."""
        known = {}
        for prefix, module in self.modules:
            for name, parameter in module.named_parameters():
                known.setdefault(id(parameter), f"{prefix}.{name}")
        groups = [[known.get(id(parameter)) for parameter in group["params"]] for group in self.optimizer.param_groups]
        return None if any(name is None for names in groups for name in names) else groups

    def strangers(self, tensors=()):
        """What the optimizer trains and neither a tracked module nor `tensors` (ids) has, in words."""
        known = {id(parameter) for _, module in self.modules for parameter in module.parameters()}.union(tensors)
        return [f"parameter {i} of group {g}, shape {tuple(parameter.shape)}"
                for g, group in enumerate(self.optimizer.param_groups) for i, parameter in enumerate(group["params"])
                if id(parameter) not in known]

    def capture(self):
        state = self.optimizer.state_dict()
        names = self.names()
        if names is not None:
            state = {**state, "param_groups": [
                {"param_names": own, **{key: value for key, value in group.items() if key != "param_names"}}
                for own, group in zip(names, state["param_groups"])]}
        return state

    def watched(self):
        torch = torch_module()
        return [value for state in self.optimizer.state.values() if isinstance(state, dict)
                for value in state.values() if isinstance(value, torch.Tensor)], ()

    def prepare(self, state):
        if not isinstance(state, dict) or "state" not in state or "param_groups" not in state:
            raise mismatch("expected an optimizer's state dict, with 'state' and 'param_groups'")
        groups, live = state["param_groups"], self.optimizer.state_dict()["param_groups"]
        if len(groups) != len(live):
            raise mismatch(f"{len(groups)} parameter groups in the file, {len(live)} here")
        order, problems = self._match(groups, live)
        self._check_hyperparameters(groups, live, problems)
        if not problems:
            self._check_shapes(state["state"], order, problems)
        if problems:
            raise mismatch(f"the state does not fit the {type(self.optimizer).__name__}: {listed(problems)}")
        targets = {"state": self._targets(order)} if self._is_plain() else None
        return targets, lambda filled: self._load(filled, order)

    def _is_plain(self):
        """Whether load_state_dict() would not look at the state that is there before it puts in the new one."""
        return (_is_method_of(torch_module().optim.Optimizer, self.optimizer, "load_state_dict")
                and not getattr(self.optimizer, "_optimizer_load_state_dict_pre_hooks", None))

    def _targets(self, order):
        """The state there is, by the parameters' numbers in the file."""
        pairs = [(number, self.optimizer.state.get(parameter)) for number, parameter in zip(order, self._parameters())]
        return {number: dict(own) for number, own in pairs if own}

    def _match(self, groups, live):
        """The number in the file of each parameter here, in order."""
        names, order, problems = self.names(), [], []
        by_name = names is not None and all("param_names" in group for group in groups)
        for g, (group, own) in enumerate(zip(groups, live)):
            if not by_name:
                if len(group["params"]) != len(own["params"]):
                    problems.append(f"group {g}: {len(group['params'])} parameters in the file, {len(own['params'])} here")
                order += group["params"]
                continue
            numbers = dict(zip(group["param_names"], group["params"]))
            problems += [f"{name}: not in the file" for name in names[g] if name not in numbers]
            problems += [f"{name}: not in the optimizer" for name in numbers if name not in names[g]]
            order += [numbers.get(name) for name in names[g]]
        return order, problems

    def _check_hyperparameters(self, groups, live, problems):
        for g, (group, own) in enumerate(zip(groups, live)):
            lacking = [key for key in self.optimizer.defaults if key not in group and key not in _OPTIONAL]
            if lacking:
                problems.append(f"group {g} lacks {', '.join(lacking)}: the file is of another optimizer")
            elif group.get("decoupled_weight_decay", None) not in (None, own.get("decoupled_weight_decay")):
                problems.append(f"group {g}: decoupled_weight_decay {group['decoupled_weight_decay']} in the file, "
                                f"{own.get('decoupled_weight_decay')} here: the file is of another optimizer")

    def _parameters(self):
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _check_shapes(self, states, order, problems):
        torch = torch_module()
        for number, parameter in zip(order, self._parameters()):
            own = self.optimizer.state.get(parameter, {})
            for key, value in (states.get(number) or {}).items():
                if not isinstance(value, torch.Tensor):
                    continue
                like = own.get(key) if isinstance(own.get(key), torch.Tensor) else (
                    parameter if key in _LIKE_PARAMETER and value.dim() > 0 else None)
                if like is not None and like.shape != value.shape:
                    problems.append(f"parameter {number}: {key} is {describe(value)} in the file, "
                                    f"{list(like.shape)} here")

    def _load(self, state, order):
        numbers = iter(range(len(order)))
        groups = [{key: value for key, value in group.items() if key not in ("param_names", "params")}
                  for group in state["param_groups"]]
        for group, own in zip(groups, self.optimizer.param_groups):
            group["params"] = [next(numbers) for _ in own["params"]]
        states = {here: state["state"][there] for here, there in enumerate(order) if there in state["state"]}
        others = {key: value for key, value in state["state"].items() if not isinstance(key, int)}
        self.optimizer.load_state_dict({**state, "state": {**states, **others}, "param_groups": groups})
        self._restore_dtypes(states)

    def _restore_dtypes(self, states):
        # Optimizer.load_state_dict casts state to the parameter's dtype; a run keeps the bits. An optimizer that has its
        # state in another form than a file shows the file's form by its state_dict().
        cast = [(number, key, parameter, saved) for number, parameter in enumerate(self._parameters())
                for key, saved in states.get(number, {}).items()
                if self._is_cast(saved, (self.optimizer.state.get(parameter) or {}).get(key), parameter)]
        shown = self.optimizer.state_dict()["state"] if cast else {}
        for number, key, parameter, saved in cast:
            if getattr(shown.get(number, {}).get(key), "dtype", saved.dtype) != saved.dtype:
                own = self.optimizer.state[parameter]
                own[key] = saved.to(own[key].device)

    @staticmethod
    def _is_cast(saved, loaded, parameter):
        tensor = torch_module().Tensor
        return (isinstance(saved, tensor) and isinstance(loaded, tensor)
                and saved.dtype != loaded.dtype == parameter.dtype)


class Scheduler(Adapter):
    """A learning rate scheduler. Arguments come from the file; `warn` is told where they differ from the program's."""

    def __init__(self, scheduler, name, warn):
        self.scheduler = scheduler
        self.name = name
        self.warn = warn

    def capture(self):
        return self.scheduler.state_dict()

    def prepare(self, state):
        live = self.scheduler.state_dict()
        missing = [key for key in live if key not in state]
        if missing:
            raise mismatch(f"the file lacks {', '.join(missing)}: it is of another scheduler than "
                           f"{type(self.scheduler).__name__}")
        arguments = set(inspect.signature(type(self.scheduler)).parameters) & set(live) - {"last_epoch"}
        different = [key for key in sorted(arguments) if live[key] != state[key]]

        def change():
            self.scheduler.load_state_dict(state)
            for key in different:
                self.warn(f"'{self.name}': {key} is {live[key]!r} here and {state[key]!r} in the checkpoint, which is used")

        return change


class Sampler(Adapter):
    """A ResumableSampler."""

    checks = False

    def __init__(self, sampler):
        self.sampler = sampler

    def capture(self):
        return self.sampler.state_dict()

    def prepare(self, state):
        return lambda: self.sampler.load_state_dict(state)


class Tensor(Adapter):
    """A tensor, restored in place."""

    in_place = True

    def __init__(self, tensor):
        self.tensor = tensor

    def capture(self):
        return self.tensor.detach()

    def prepare(self, state):
        torch = torch_module()
        if not isinstance(state, torch.Tensor) or state.shape != self.tensor.shape or state.dtype != self.tensor.dtype:
            raise mismatch(f"{describe(state)} in the file, {describe(self.tensor)} here")

        def change(filled):
            with torch.no_grad():
                self.tensor.copy_(filled)

        return self.tensor.detach(), change


class Stateful(Adapter):
    """Any object with state_dict() and load_state_dict(state)."""

    checks = False

    def __init__(self, thing):
        self.thing = thing

    def capture(self):
        return self.thing.state_dict()

    def prepare(self, state):
        return lambda: self.thing.load_state_dict(state)


class Gradients(Adapter):
    """Accumulated gradients of the tracked modules, by "<tracked module>.<name>"."""

    def __init__(self, modules):
        self.modules = modules

    def _parameters(self):
        return {f"{prefix}.{name}": parameter for prefix, module in self.modules
                for name, parameter in module.named_parameters()}

    def capture(self):
        return {name: parameter.grad.detach() for name, parameter in self._parameters().items()
                if parameter.grad is not None}

    def prepare(self, state):
        parameters = self._parameters()
        problems = [f"{name}: of no parameter here" for name in state if name not in parameters]
        problems += [f"{name}: shape {list(gradient.shape)} in the file, {list(parameters[name].shape)} here"
                     for name, gradient in state.items()
                     if name in parameters and gradient.shape != parameters[name].shape]
        if problems:
            raise mismatch(f"the gradients do not fit: {listed(problems)}")

        def change():
            for name, parameter in parameters.items():
                gradient = state.get(name)
                parameter.grad = None if gradient is None else gradient.to(parameter.device)

        return change


def adapter_for(name, thing, modules, warn):
    """The adapter of an object of the user's."""
    torch = torch_module()
    if isinstance(thing, ResumableSampler):
        return Sampler(thing)
    if torch is not None:
        if isinstance(thing, torch.nn.Module):
            return Module(thing)
        if isinstance(thing, torch.optim.Optimizer):
            return Optimizer(thing, modules)
        if isinstance(thing, (torch.optim.lr_scheduler.LRScheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)):
            return Scheduler(thing, name, warn)
        if isinstance(thing, torch.Generator):
            return TorchGenerator(thing)
        if isinstance(thing, torch.Tensor):
            return Tensor(thing)
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        return Stateful(thing)
    if hasattr(thing, "bit_generator"):
        return NumpyGenerator(thing)
    raise InvalidArgumentError(f"a {type(thing).__name__} cannot be tracked as '{name}': expected a module, an optimizer, "
                               "a scheduler, a sampler, a generator, a tensor, or an object with state_dict() and "
                               "load_state_dict()")
