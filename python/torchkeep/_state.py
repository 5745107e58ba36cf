# SPDX-License-Identifier: BSD-3-Clause
"""Which adapter an object gets, and the adapters of what has no file of its own."""
import random
import sys
from collections.abc import Mapping

from ._adapter import Adapter, Judged, Plan, class_name, describe, listed, mismatch, torch_module
from ._errors import InvalidArgumentError
from ._generators import NumpyGenerator, NumpyRandomState, PythonGenerator, TorchGenerator
from ._matching import has_parameter_groups
from ._modules import Module
from ._names import CleanNames, Context
from ._optimizers import Optimizer
from ._plain import plain, restored
from ._sampler import ResumableSampler
from ._schedulers import Scheduler, is_scheduler
from ._values import Value, is_value


class Sampler(Adapter):
    """A ResumableSampler."""

    def __init__(self, sampler, name, context):
        self.sampler = sampler
        self.name = name
        self.context = context

    def capture(self):
        return self.sampler.state_dict()

    def prepare(self, state):
        seed = self.sampler.state_dict()["seed"]
        judged = Judged(self.sampler)

        def change():
            judged.load(state)
            used = self.sampler.state_dict()["seed"]
            if used != seed:
                self.context.warn(f"'{self.name}': seed is {seed} here and {used} in the checkpoint, which is used")

        return Plan(change, checked=False, undo=judged.undo)


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

        return Plan(change, targets=self.tensor.detach())


class Stateful(Adapter):
    """Any object with state_dict() and load_state_dict(state)."""

    def __init__(self, thing):
        self.thing = thing

    def capture(self):
        return plain(self.thing.state_dict())

    def prepare(self, state):
        judged = Judged(self.thing)
        return Plan(lambda: judged.load(restored(state)), checked=False, undo=judged.undo)


class Gradients(Adapter):
    """Accumulated gradients of the tracked modules, by "<tracked module>.<name>"."""

    def __init__(self, modules):
        self.modules = modules  # [(tracked name, module)], filled by all track() calls

    def _parameters(self):
        return {f"{prefix}.{clean(name)}": parameter for prefix, module in self.modules
                for clean in [CleanNames(module).clean] for name, parameter in module.named_parameters()}

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

        return Plan(change)


def adapter_for(name, thing, context):
    """The adapter of an object of the user's; the context gets to know it."""
    adapter = _adapter_of(name, thing, context)
    context.add(name, adapter)
    return adapter


def _adapter_of(name, thing, context):
    torch = torch_module()
    if isinstance(thing, ResumableSampler):
        return Sampler(thing, name, context)
    if torch is not None:
        if isinstance(thing, torch.nn.Module):
            return Module(thing, name, context)
        if isinstance(thing, torch.optim.Optimizer):
            return Optimizer(thing, name, context)
        if is_scheduler(thing):
            return Scheduler(thing, name, context)
        if isinstance(thing, torch.Generator):
            return TorchGenerator(thing)
        if isinstance(thing, torch.Tensor):
            return Tensor(thing)
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        return Stateful(thing)
    return _adapter_of_data(name, thing)


def _adapter_of_data(name, thing):
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(thing, numpy.random.Generator):
            return NumpyGenerator(thing)
        if isinstance(thing, numpy.random.RandomState):
            return NumpyRandomState(thing)
    if isinstance(thing, random.Random) and not isinstance(thing, random.SystemRandom):
        return PythonGenerator(thing)
    if hasattr(thing, "_metadata") or has_parameter_groups(thing):
        raise InvalidArgumentError(f"a state dict cannot be tracked as '{name}': it is a picture of one moment; track the "
                                   f"object itself: run.track({name}=...)")
    objects = _objects_in(thing)
    if is_value(thing) and not objects:
        return Value(thing)
    inside = f" with {objects[0]} in it" if objects else ""
    advice = ("; track each of them under a name of its own: run.track({'optimizer0': ..., 'optimizer1': ...})"
              if objects else "")
    raise InvalidArgumentError(f"a {type(thing).__name__}{inside} cannot be tracked as '{name}': expected a module, an "
                               "optimizer, a scheduler, a sampler, a generator, a tensor, plain data (numbers, strings, "
                               f"lists, dicts, arrays), or an object with state_dict() and load_state_dict(){advice}")


def likely_names(things):
    """The arguments of a call that names these objects: "model=..., optimizer=..."."""
    names = []
    for thing in things:
        kind = type(_adapter_of("", thing, Context(None))).__name__.lower() if _is_trackable(thing) else "name"
        name = {"module": "model", "stateful": type(thing).__name__.lower()}.get(kind, kind)
        names.append(name if name not in names else f"{name}{len(names) + 1}")
    return ", ".join(f"{name}=..." for name in names)


def _is_trackable(thing):
    try:
        return bool(_adapter_of("", thing, Context(None)))
    except InvalidArgumentError:
        return False


def recorded(adapters):
    """What a checkpoint keeps of the program: by name the class, and what was asked for, of optimizers and schedulers."""
    notes = {}
    for name, adapter in adapters.items():
        if isinstance(adapter, Optimizer):
            notes[name] = {"class": class_name(adapter.optimizer), "hyperparameters": adapter.hyperparameters()}
        elif isinstance(adapter, Scheduler):
            notes[name] = {"class": class_name(adapter.scheduler)}
    return notes


def _objects_in(thing):
    """The classes of objects in a list or dict that are restored by methods of their own."""
    parts = thing.values() if isinstance(thing, Mapping) else thing if isinstance(thing, (list, tuple)) else ()
    return [type(part).__name__ for part in parts if hasattr(part, "state_dict") and hasattr(part, "load_state_dict")]
