# SPDX-License-Identifier: BSD-3-Clause
"""One training of the sweep: a case's objects, its steps, and all of its state as digests that are equal where the bits are."""
import collections
import enum
import hashlib
import inspect
import random

import models
import numpy
import torch

CUT, TOTAL = 7, 12  # no multiple of the intervals that optimizers have: 5, 6, 10
WAYS = ("closure", "plain", "second order, closure", "second order, plain", "fused", "both")


class Training:
    """A case's model, optimizer and scheduler, seeded alike whether it begins or continues. `way` is how the optimizer is
    stepped: with a closure, after one, both, with a graph of the gradients, or by its own fused backward."""

    def __init__(self, case, model, way):
        random.seed(7)
        numpy.random.seed(7)
        torch.manual_seed(7)
        self.model = models.KINDS[model]()
        if case.dtype is not None:
            self.model.to(case.dtype)
        self.dtype = next(self.model.parameters()).dtype
        self.optimizer, self.scheduler = case.make(self.model)
        self.way = way
        self.losses = []

    def objects(self):
        tracked = {"model": self.model, "optimizer": self.optimizer}
        return {**tracked, "scheduler": self.scheduler} if self.scheduler is not None else tracked

    def step(self):
        number = len(self.losses)
        x = torch.randn(8, *self.model.inputs, dtype=torch.float32).to(self.dtype)
        target = torch.stack([x.flatten(1).sum(1), x.flatten(1).mean(1), x.flatten(1)[:, 0], -x.flatten(1)[:, 1]], 1)
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        loss = self._optimize(lambda: torch.nn.functional.mse_loss(self.model(x, number), target))
        self.losses.append(float(loss))
        if self.scheduler is not None:
            step_scheduler(self.scheduler, number + 1, self.losses[-1])

    def _optimize(self, forward):
        seen = []

        @torch.enable_grad()  # not every optimizer does, around a closure
        def closure():
            self.optimizer.zero_grad()
            loss = forward()
            seen.append(loss.detach())
            if self.way != "fused":
                loss.backward(create_graph=self.way.startswith("second order"))
            return loss

        if self.way == "fused":
            self.optimizer.fused_backward(closure(), 0.01)
        elif self.way == "both":  # sharpness-aware: the gradients there are, then those of the closure
            closure()
            self.optimizer.step(closure)
        elif self.way.endswith("closure"):
            self.optimizer.step(closure)
        else:
            closure()
            self.optimizer.step()
        return seen[0]

    def state(self):
        """Digests of all that there is, by its part."""
        parts = {**{name: thing.state_dict() for name, thing in self.objects().items()}, "losses": self.losses,
                 "rates": [group.get("lr") for group in getattr(self.optimizer, "param_groups", ())]}
        return {name: digest(part) for name, part in parts.items()}


def step_scheduler(scheduler, number, loss):
    if hasattr(scheduler, "step_update"):  # timm's
        scheduler.step_update(number, loss)
        scheduler.step(number, loss)
    elif next(iter(inspect.signature(scheduler.step).parameters), "") in ("metrics", "metric"):
        scheduler.step(loss)
    else:
        scheduler.step()


def generators():
    return torch.get_rng_state(), random.getstate(), numpy.random.get_state()


def set_generators(state):
    torch.set_rng_state(state[0])
    random.setstate(state[1])
    numpy.random.set_state(state[2])


def digest(value):
    """Equal for equal bits: dtypes, shapes, keys and kinds of containers are part of it, the order of keys is not."""
    hasher = hashlib.sha256()
    _describe(value, hasher.update, set())
    return hasher.hexdigest()[:24]


def _describe(value, add, above):
    if isinstance(value, torch.Tensor):
        dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
        add(f"T{value.dtype}{tuple(value.shape)}".encode())
        add(dense.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, (numpy.ndarray, numpy.generic)):
        add(f"N{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, enum.Enum) or isinstance(value, (int, float, complex, str, bytes, type(None), type)):
        add(f"{type(value).__name__} {value!r};".encode())
    elif id(value) in above:
        add(b"again")
    else:
        _describe_inside(value, add, above | {id(value)})


def _describe_inside(value, add, above):
    if isinstance(value, collections.abc.Mapping):
        add(f"{type(value).__name__}{{".encode())
        for key in sorted(value, key=repr):
            _describe(key, add, above)
            _describe(value[key], add, above)
    elif isinstance(value, (list, tuple, collections.deque)):
        add(f"{type(value).__name__}[{len(value)}".encode())
        for item in value:
            _describe(item, add, above)
    elif isinstance(value, (set, frozenset)):
        add(f"{type(value).__name__}{sorted(map(repr, value))}".encode())
    elif callable(value) and hasattr(value, "__qualname__"):
        add(value.__qualname__.encode())
    elif isinstance(value, random.Random):
        _describe(value.getstate(), add, above)
    elif isinstance(value, torch.Generator):
        _describe(value.get_state(), add, above)
    else:
        add(type(value).__qualname__.encode())
        _describe(getattr(value, "__dict__", {}), add, above)
