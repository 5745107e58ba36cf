# SPDX-License-Identifier: BSD-3-Clause
"""Optimizer state of any form, options that a file lacks, and what a file overrides."""
import collections
import enum

import numpy
import pytest
import torch
from canonical import describe
from fits import describe_any, loaded, net, resumed, saved

import torchkeep


class Mode(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


Pair = collections.namedtuple("Pair", "a b")


class Keeps(torch.optim.SGD):
    """State of every form, made by its first step."""

    make = staticmethod(lambda parameter: None)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if "kept" not in state:
                    state["kept"] = self.make(parameter)
                parameter.sub_(parameter.grad, alpha=group["lr"])


FORMS = {
    "a string": lambda p: "left", "bytes": lambda p: b"\x00\xff", "an enum": lambda p: Mode.RIGHT, "None": lambda p: None,
    "a list of tensors": lambda p: [torch.randn(2), torch.randn(3, dtype=torch.float64)],
    "a tuple of tensors": lambda p: (torch.randn(2), None, torch.arange(3)),
    "a dict of tensors": lambda p: {"q": torch.randn(4).half(), "n": 3},
    "a deque of tensors": lambda p: collections.deque([torch.randn(2)], maxlen=3),
    "a named tuple": lambda p: Pair(torch.randn(2), "b"),
    "another dtype": lambda p: torch.randn(3, dtype=torch.float64),
    "integers": lambda p: torch.arange(5, dtype=torch.int8),
    "a counter that is a tensor": lambda p: torch.tensor(7, dtype=torch.int64),
    "another shape": lambda p: torch.randn(p.shape[0], 1),
    "a bool": lambda p: True, "a large int": lambda p: 2**70, "nothing in a list": lambda p: [],
    "a NumPy number": lambda p: numpy.float64(0.25), "numbers of other widths": lambda p: [
        numpy.float32(0.1), numpy.uint8(255), numpy.bool_(True), numpy.float16(0.5), numpy.complex64(1j), numpy.int32(-3)],
    "a number as a key": lambda p: {numpy.int64(3): torch.ones(1)}, "a frozenset": lambda p: frozenset([1, "a"]),
    "a quantized tensor": lambda p: torch.quantize_per_tensor(torch.randn(4), 0.1, 0, torch.qint8),
    "quantized by its rows": lambda p: torch.quantize_per_channel(
        torch.randn(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, torch.quint8),
    "an array": lambda p: numpy.arange(3.0),
    "a complex tensor": lambda p: torch.randn(2, dtype=torch.complex64), "a sparse tensor": lambda p: torch.eye(2).to_sparse(),
    "a boolean mask": lambda p: torch.tensor([True, False]), "uint8": lambda p: torch.arange(4, dtype=torch.uint8),
    "a set": lambda p: {1, 2}, "a range": lambda p: range(3), "a dtype": lambda p: torch.float16,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_optimizer_state_of_any_form_comes_back_bit_for_bit(name, dtype, tmp_path):
    def build():
        model = torch.nn.Linear(3, 2, dtype=dtype)
        optimizer = Keeps(model.parameters(), lr=0.1)
        optimizer.make = FORMS[name]
        return model, optimizer

    model, optimizer = build()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    saved(tmp_path, model=model, optimizer=optimizer)
    other, again = build()
    assert resumed(tmp_path, role="reader", model=other, optimizer=again) == []
    for parameter, twin in zip(model.parameters(), other.parameters()):
        kept, back = optimizer.state[parameter]["kept"], again.state[twin]["kept"]
        if not isinstance(kept, numpy.float64):
            assert type(back) is type(kept)
        assert describe_any(back) == describe_any(kept)


class Since(torch.optim.SGD):
    """Gained an option, and fills it in for the files of before."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)
        self.defaults["careful"] = True
        for group in self.param_groups:
            group["careful"] = True

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("careful", False)


class Unknown(torch.optim.SGD):
    """Gained an option, and does not fill it in."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)
        for group in self.param_groups:
            group["careful"] = True


def test_options_added_since_are_what_the_optimizer_makes_of_them(tmp_path):
    model = net()
    path = saved(tmp_path, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    since, unknown = Since(model.parameters()), Unknown(model.parameters())
    loaded(path, model=model, optimizer=since)
    assert since.param_groups[0]["careful"] is False
    told = loaded(path, model=model, optimizer=unknown)
    assert unknown.param_groups[0]["careful"] is True
    assert any("has no careful; True of this program is used" in message for message in told)


class Private(torch.optim.SGD):
    """Options of the program that are in no state dict: they begin with "_"."""

    def __init__(self, parameters, **options):
        super().__init__(parameters, **options)
        for group in self.param_groups:
            group["_kind"] = type(self)

    def state_dict(self):
        state = super().state_dict()
        for group in state["param_groups"]:
            group.pop("_kind")
        return state


def test_options_that_an_optimizer_does_not_show_are_the_programs(tmp_path):
    model = net()
    saved(tmp_path, model=model, optimizer=Private(model.parameters(), lr=0.1))
    other = Private(model.parameters(), lr=0.1)
    assert resumed(tmp_path, role="reader", model=model, optimizer=other) == []
    assert other.param_groups[0]["_kind"] is Private


class InTwo:
    """An optimizer without 'param_groups' in its state dict, by methods of its own."""

    def __init__(self, inner):
        self.inner = inner
        self.slow = [parameter.detach().clone() for parameter in inner.param_groups[0]["params"]]

    def state_dict(self):
        return {"inner": self.inner.state_dict(), "slow": self.slow}

    def load_state_dict(self, state):
        self.inner.load_state_dict(state["inner"])
        self.slow = state["slow"]


class Lookahead(torch.optim.Optimizer):
    def __init__(self, inner):
        self.parts = InTwo(inner)

    param_groups = property(lambda self: self.parts.inner.param_groups)
    state = property(lambda self: self.parts.inner.state)
    defaults = property(lambda self: self.parts.inner.defaults)
    state_dict = property(lambda self: self.parts.state_dict)
    load_state_dict = property(lambda self: self.parts.load_state_dict)

    def step(self, closure=None):
        self.parts.inner.step()


class Keyed(torch.optim.SGD):
    """Its state dict has names for numbers."""

    def __init__(self, named):
        self.named = dict(named)
        super().__init__(self.named.values(), lr=0.1, momentum=0.9)

    def state_dict(self):
        names = {id(parameter): name for name, parameter in self.named.items()}
        groups = [{**group, "params": [names[id(one)] for one in group["params"]]} for group in self.param_groups]
        return {"state": {names[id(one)]: dict(own) for one, own in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state):
        for group, new in zip(self.param_groups, state["param_groups"]):
            assert all(isinstance(one, str) for one in new["params"])
            group.update({key: value for key, value in new.items() if key != "params"})
        for name, own in state["state"].items():
            self.state[self.named[name]] = dict(own)


@pytest.mark.parametrize("make", [
    lambda model: Lookahead(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)),
    lambda model: Keyed(model.named_parameters()),
], ids=["without groups", "by names"])
def test_optimizers_with_a_state_dict_of_their_own_form_are_loaded_their_way(make, tmp_path):
    model = net()
    optimizer = make(model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    saved(tmp_path, model=model, optimizer=optimizer)
    other = net()
    again = make(other)
    assert resumed(tmp_path, role="reader", model=other, optimizer=again) == []
    assert describe(again.state_dict()) == describe(optimizer.state_dict())


class Outer(torch.optim.Optimizer):
    """Has another optimizer inside, whose state it does not show."""

    def __init__(self, parameters):
        super().__init__(parameters, {"rho": 0.05})
        self.base = torch.optim.SGD(self.param_groups, lr=0.1, momentum=0.9)
        self.param_groups = self.base.param_groups

    def step(self, closure=None):
        self.base.step()


def test_an_inner_optimizer_that_is_not_saved_is_told_once(tmp_path):
    model = net()
    optimizer = Outer(model.parameters())
    with torchkeep.Run(tmp_path, signals=False, durable=False, save_every=1, on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        for _ in run.steps(3):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            run.finish_step()
    told = [event.message for event in events if event.is_warning]
    assert len(told) == 1 and ".base is another optimizer, whose state (momentum_buffer)" in told[0]


def test_numpy_numbers_and_enums_are_hyperparameters(tmp_path):
    def build():
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=numpy.float64(0.1), momentum=0.9)
        optimizer.param_groups[0].update(decay=numpy.float32(0.1), side=Mode.LEFT, flag=numpy.bool_(True))
        return model, optimizer

    model, optimizer = build()
    path = saved(tmp_path, model=model, optimizer=optimizer)
    assert type(torchkeep.load(path)["optimizer"]["param_groups"][0]["lr"]) is float
    other, again = build()
    again.param_groups[0]["side"] = Mode.RIGHT
    assert resumed(tmp_path, role="reader", model=other, optimizer=again) == []
    group = again.param_groups[0]
    assert type(group["lr"]) is numpy.float64 and type(group["decay"]) is numpy.float32
    assert group["decay"] == numpy.float32(0.1) and group["side"] is Mode.LEFT and type(group["flag"]) is numpy.bool_


def test_what_the_program_asks_for_and_the_file_overrides_is_said(tmp_path):
    model = net()
    saved(tmp_path, model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.3))

    def told(make):
        return resumed(tmp_path, role="reader", model=model, optimizer=make(model.parameters()))

    assert told(lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3)) == []
    messages = "\n".join(told(lambda p: torch.optim.AdamW(p, lr=0.5, betas=(0.5, 0.9))))
    assert "lr is 0.5 here and 0.1 in the checkpoint, which is used" in messages
    assert "betas is (0.5, 0.9) here" in messages and "weight_decay is 0.01 here" in messages
    (message,) = told(lambda p: torch.optim.RAdam(p, lr=0.1, weight_decay=0.3, decoupled_weight_decay=True))
    assert "the optimizer is RAdam here and AdamW in the checkpoint" in message


def test_a_schedule_and_a_rate_set_by_hand_are_not_taken_for_other_arguments(tmp_path):
    def train(total, by_hand):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        with torchkeep.Run(tmp_path / str(by_hand), signals=False, durable=False, on_event=(events := []).append) as run:
            run.track(model=model, optimizer=optimizer, schedule=schedule)
            for step in run.steps(total):
                optimizer.step()
                if by_hand:
                    optimizer.param_groups[0]["lr"] = 0.1 / (step + 2)
                else:
                    schedule.step()
                run.finish_step()
        return [event.message for event in events if event.is_warning]

    for by_hand in (False, True):
        assert train(2, by_hand) == [] and train(4, by_hand) == []


class Projector:
    """Of the optimizer's own package, and no more than what it holds."""

    def __init__(self, rank):
        self.rank = rank
        self.matrix = torch.randn(rank, 2)


class Finalized(Projector):
    def __del__(self):
        pass


class Projected(Keeps):
    make = staticmethod(lambda parameter: Projector(3))


def test_an_object_of_the_optimizers_own_package_comes_back_as_what_it_holds(tmp_path):
    def build():
        model = net()
        return model, Projected(model.parameters(), lr=0.1)

    def step(model, optimizer):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()

    model, optimizer = build()
    step(model, optimizer)
    path = saved(tmp_path, model=model, optimizer=optimizer)
    other, again = build()
    assert resumed(tmp_path, role="reader", model=other, optimizer=again) == []
    for parameter, twin in zip(model.parameters(), other.parameters()):
        kept, back = optimizer.state[parameter]["kept"], again.state[twin]["kept"]
        assert type(back) is Projector and back.rank == 3 and torch.equal(back.matrix, kept.matrix)
    content = torchkeep.load(path)
    for name in (f"{__name__}:Finalized", "collections:UserDict", "subprocess:Popen", "torch.nn:Linear"):
        content["optimizer"]["state"][0]["kept"]["class"] = name
        torchkeep.save(content, path)
        with pytest.raises(torchkeep.Error, match="cannot be made from its attributes"):
            resumed(tmp_path, role="reader", model=build()[0], optimizer=Projected(other.parameters(), lr=0.1))
