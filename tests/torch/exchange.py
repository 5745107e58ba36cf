# SPDX-License-Identifier: BSD-3-Clause
"""The Python side of the exchange tests: calling the C++ tool, comparing bits, and the twin of its model."""
import contextlib
import os
import pathlib
import struct
import subprocess

import torch

torch.set_num_threads(1)  # sums in one order, here and in the tool

TOOL = pathlib.Path(os.environ["TORCHKEEP_BIN"]) / "exchange_tool"


def tool(*args):
    """Runs the C++ tool; its standard output."""
    done = subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, f"{args}: {done.stderr}"
    return done.stdout


def load(path):
    return torch.load(path, weights_only=True, map_location="cpu")


def raw(tensor):
    """The bytes of the elements, of every dtype."""
    dense = tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    return bytes(dense.untyped_storage())[: dense.numel() * dense.element_size()]


def same(a, b, path="", order=True):
    """Asserts equal types, keys (in order, unless order=False), and bits."""
    assert type(a) is type(b), f"{path}: {type(a)} and {type(b)}: {a} and {b}"
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape, a.stride(), a.device, a.requires_grad) == (
            b.dtype, b.shape, b.stride(), b.device, b.requires_grad), path
        assert raw(a) == raw(b), f"{path}: {a} and {b}"
    elif isinstance(a, dict):
        metadata = getattr(a, "_metadata", None), getattr(b, "_metadata", None)
        a, b = nameless(a), nameless(b)
        assert (list(a) == list(b)) if order else (set(a) == set(b)), f"{path}: {list(a)} and {list(b)}"
        for key in a:
            same(a[key], b[key], f"{path}.{key}", order)
        assert metadata[0] == metadata[1], path
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), f"{path}: {len(a)} and {len(b)} elements"
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, f"{path}[{i}]", order)
    elif isinstance(a, float):
        assert struct.pack("d", a) == struct.pack("d", b), f"{path}: {a!r} and {b!r}"
    else:
        assert a == b, f"{path}: {a!r} and {b!r}"


def nameless(state):
    """A dict without the parameters' names: each language has them in a place of its own, of which other tests are."""
    return type(state)((key, value) for key, value in state.items() if key != "param_names")


def same_form(a, b, path=""):
    """Asserts equal types, keys, shapes, dtypes and strides, whatever the numbers in tensors and floats."""
    assert type(a) is type(b), f"{path}: {type(a)} and {type(b)}: {a} and {b}"
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape, a.stride(), a.device) == (b.dtype, b.shape, b.stride(), b.device), path
    elif isinstance(a, dict):
        a, b = nameless(a), nameless(b)
        assert list(a) == list(b), f"{path}: {list(a)} and {list(b)}"
        for key in a:
            same_form(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), f"{path}: {len(a)} and {len(b)} elements"
        for i, (x, y) in enumerate(zip(a, b)):
            same_form(x, y, f"{path}[{i}]")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.ones(2))
        self.first = torch.nn.Linear(3, 4)
        self.second = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


@contextlib.contextmanager
def default_dtype(name):
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Case:
    """The twin of ExchangeCase in exchange_case.h."""

    def __init__(self, spec):
        self.spec = spec
        torch.manual_seed(2)
        self.net = Net().to(getattr(torch, spec["dtype"]))
        if spec["strided"]:
            self.net.second.weight.data = self.net.second.weight.data.t().contiguous().t()
        named = dict(self.net.named_parameters())
        for name in spec["frozen"]:
            named[name].requires_grad_(False)
        groups = []
        for group in spec["groups"]:
            params = [(name, named[name]) if spec["names"] else named[name] for name in group["params"]]
            groups.append({"params": params, **group["options"]})
        self.optimizer = getattr(torch.optim, spec["optimizer"])(groups, **spec["defaults"])

    def train(self, first, count):
        for i in range(first, first + count):
            x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1000 + i), dtype=torch.float32)
            x = x.to(self.net.first.weight.dtype)

            def closure():
                self.optimizer.zero_grad()
                loss = self.net(x).square().mean()
                loss.backward()
                return loss

            self.optimizer.step(closure)

    def state(self):
        return {"model": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state):
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
