# SPDX-License-Identifier: BSD-3-Clause
"""What an object's own load_state_dict() takes, load_into() and resume() take, and end with the same bits."""
import collections
import copy
import enum
import io
import random
import warnings

import numpy
import pytest
import torch
from canonical import describe
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import torchkeep


def resumed(path, role="writer", **objects):
    """Resumes the newest checkpoint; the warnings."""
    events = []
    with torchkeep.Run(path, signals=False, durable=False, role=role, on_event=events.append) as run:
        run.track(**objects)
        run.resume()
        resumed.values = dict(run.values)
    return [event.message for event in events if event.is_warning]


def saved(path, **objects):
    """One checkpoint of a run."""
    with torchkeep.Run(path, signals=False, durable=False, background=False, on_event=lambda event: None) as run:
        run.track(**objects)
        run.resume()
        run.finish_step()
    return torchkeep.find_checkpoint(path)


def loaded(path, **objects):
    """load_into(); the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torchkeep.load_into(path, **objects)
    return [str(one.message) for one in caught if issubclass(one.category, torchkeep.LoadWarning)]


# ---- modules

class Grows(torch.nn.Module):
    """Takes the size of what it loads, by a method of its own."""

    def __init__(self, count=3):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(count, 2))

    def load_state_dict(self, state, *arguments, **options):
        self.table = torch.nn.Parameter(torch.empty_like(state["table"]))
        return super().load_state_dict(state, *arguments, **options)


class Renames(torch.nn.Module):
    """Had its layer under another name once."""

    def __init__(self):
        super().__init__()
        self.new = torch.nn.Linear(3, 2)

    def _load_from_state_dict(self, state, prefix, *rest):
        for key in [key for key in state if key.startswith(prefix + "old.")]:
            state[prefix + "new." + key[len(prefix + "old."):]] = state.pop(key)
        super()._load_from_state_dict(state, prefix, *rest)


class Remembers(torch.nn.Linear):
    """Extra state that is no tensor."""

    extra = None

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


def with_hook():
    module = torch.nn.Linear(3, 2)
    module.register_load_state_dict_pre_hook(
        lambda module, state, prefix, *_: state.update({prefix + "weight": state.pop(prefix + "kernel")})
        if prefix + "kernel" in state else None)
    return module


def lazy(called=False):
    module = torch.nn.Sequential(torch.nn.LazyLinear(4), torch.nn.LazyBatchNorm1d())
    if called:
        module(torch.randn(5, 7))
    return module


def norm_before_it_counted():
    state = torch.nn.BatchNorm1d(3).state_dict()
    del state["num_batches_tracked"]
    state._metadata[""]["version"] = 1
    return state


def linear_as(**names):
    state = torch.nn.Linear(3, 2).state_dict()
    return collections.OrderedDict((names.get(key, key), value) for key, value in state.items())


MODULES = {
    "resizes itself": (Grows, lambda: Grows(5).state_dict()),
    "renames what it loads": (Renames, lambda: linear_as(weight="old.weight", bias="old.bias")),
    "a hook that renames": (with_hook, lambda: linear_as(weight="kernel")),
    "lazy": (lazy, lambda: lazy(called=True).state_dict()),
    "lazy, and called already": (lambda: lazy(called=True), lambda: lazy(called=True).state_dict()),
    "weight norm, of before parametrizations": (
        lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2)),
        lambda: torch.nn.utils.weight_norm(torch.nn.Linear(3, 2)).state_dict()),
    "weight norm of today": (lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2)),
                             lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2)).state_dict()),
    "spectral norm": (lambda: torch.nn.utils.spectral_norm(torch.nn.Linear(3, 2)),
                      lambda: torch.nn.utils.spectral_norm(torch.nn.Linear(3, 2)).state_dict()),
    "without num_batches_tracked": (lambda: torch.nn.BatchNorm1d(3), norm_before_it_counted),
    "a number of one element": (lambda: Scalar(()), lambda: Scalar((1,)).state_dict()),
    "parameters in a ParameterList": (lambda: torch.nn.ParameterList([torch.randn(2), torch.randn(3)]),
                                      lambda: torch.nn.ParameterList([torch.randn(2), torch.randn(3)]).state_dict()),
}


class Scalar(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.randn(shape))


@pytest.mark.parametrize("way", ["load_into", "resume"])
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Lazy modules")
def test_what_a_strict_load_state_dict_takes_is_taken_and_ends_with_the_same_bits(name, way, tmp_path):
    make, state = MODULES[name]
    torch.manual_seed(1)
    content = {"model": state(), "step": 1, "metrics": {}, "provenance": {}}
    torchkeep.save(content, tmp_path / "step-00000001.pt")
    expected, module = make(), make()
    expected.load_state_dict(copy.deepcopy(content["model"]))
    if way == "load_into":
        told = loaded(tmp_path / "step-00000001.pt", model=module)
    else:
        with torchkeep.Run(tmp_path, signals=False, role="reader", rng=False, on_event=(events := []).append) as run:
            run.track(model=module)
            assert run.resume() == 1
        told = [event.message for event in events if event.is_warning]
    assert describe(module.state_dict()) == describe(expected.state_dict())
    assert told == []


class Refuses(torch.nn.Linear):
    """Changes itself and then refuses."""

    def load_state_dict(self, state, *arguments, **options):
        super().load_state_dict(state, *arguments, **options)
        if state["bias"][0] == 7:
            raise KeyError("a bias that it does not like")


@pytest.mark.parametrize("way", ["load_into", "resume"])
def test_a_method_that_refuses_leaves_everything_as_it_was(way, tmp_path):
    first, second = torch.nn.Linear(3, 2), Refuses(3, 2)
    with torch.no_grad():
        second.bias.fill_(7)
    path = saved(tmp_path, first=first, second=second)
    objects = {"first": torch.nn.Linear(3, 2), "second": Refuses(3, 2)}
    before = {name: describe(copy.deepcopy(one.state_dict())) for name, one in objects.items()}
    with pytest.raises(torchkeep.Error, match="KeyError: 'a bias that it does not like'.*nothing was changed") as caught:
        loaded(path, **objects) if way == "load_into" else resumed(tmp_path, role="reader", **objects)
    assert caught.value.code == "mismatch"
    assert way == "resume" or isinstance(caught.value.__cause__, KeyError)
    assert {name: describe(one.state_dict()) for name, one in objects.items()} == before


def test_all_offenders_are_listed_with_pytorchs_own_error_as_the_cause(tmp_path):
    torchkeep.save({"model": {"weight": torch.ones(2, 4), "more": torch.ones(1)}}, tmp_path / "a.pt")
    with pytest.raises(torchkeep.Error) as caught:
        torchkeep.load_into(tmp_path / "a.pt", model=torch.nn.Linear(3, 2))
    for part in ("weight: float32 [2, 4] in the file, float32 [2, 3] in the module", "bias: not in the file",
                 "more: not in the module"):
        assert part in str(caught.value)
    assert "Missing key(s)" in str(caught.value.__cause__.__cause__)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("name", ["embedding.weight", "head.weight"])
def test_a_tied_parameter_may_be_in_the_file_once_under_either_name(name, tmp_path):
    weight = torch.randn(5, 3)
    torchkeep.save({"model": {name: weight}}, tmp_path / "a.pt")
    module = Tied()
    assert loaded(tmp_path / "a.pt", model=module) == []
    assert torch.equal(module.head.weight, weight) and module.head.weight is module.embedding.weight


EXTRA = {"bytes": b"abc", "an array": numpy.arange(6, dtype="int16").reshape(2, 3), "BytesIO": io.BytesIO(b"xyz"),
         "a deque": collections.deque([1, torch.ones(2)], maxlen=4), "None": None, "a set": {1, 2},
         "a tuple": (1, "two", numpy.float64(3)), "a dict": {"a": [1.5]}, "a string": "text", "a number": 3,
         "a tensor": torch.arange(3)}


@pytest.mark.parametrize("name", EXTRA)
def test_extra_state_of_any_kind_comes_back(name, tmp_path):
    module, other = Remembers(3, 2), Remembers(3, 2)
    module.extra = EXTRA[name]
    saved(tmp_path, model=module)
    assert resumed(tmp_path, role="reader", model=other) == []
    assert type(other.extra) is type(module.extra)
    if isinstance(module.extra, io.BytesIO):
        assert other.extra.getvalue() == module.extra.getvalue()
    else:
        assert describe_any(other.extra) == describe_any(module.extra)


def describe_any(value):
    if isinstance(value, numpy.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, numpy.generic):
        return describe(value.item())
    if isinstance(value, (enum.Enum, range)):
        return repr(value)
    if isinstance(value, collections.deque):
        return value.maxlen, describe_any(list(value))
    if isinstance(value, (list, tuple)):
        return [describe_any(part) for part in value]
    return describe(value)


def test_values_that_a_load_changes_are_told_by_name(tmp_path):
    torchkeep.save({"model": torch.nn.Linear(3, 2).state_dict()}, tmp_path / "a.pt")
    told = loaded(tmp_path / "a.pt", model=torch.nn.Linear(3, 2).bfloat16())
    assert len(told) == 1 and "weight (float32 [2, 3] in the file, bfloat16 [2, 3] here)" in told[0]


# ---- names

def net():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def compiled_inside():
    model = net()
    model[0] = torch.compile(model[0], backend="eager")
    return model


def checkpointed_inside():
    model = net()
    model[0] = checkpoint_wrapper(model[0])
    return model


def parallel_inside():
    model = net()
    model[0] = torch.nn.DataParallel(model[0])
    return model


WRAPPED = [net, compiled_inside, checkpointed_inside, parallel_inside,
           lambda: torch.compile(compiled_inside(), backend="eager"), lambda: torch.nn.DataParallel(net())]


def stepped(model, make=torch.optim.Adam):
    optimizer = make(model.parameters())
    for _ in range(2):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("there", range(len(WRAPPED)))
def test_names_do_not_depend_on_what_wraps_a_part_of_the_model(there, tmp_path):
    model = WRAPPED[there]()
    optimizer = stepped(model)
    path = saved(tmp_path, model=model, optimizer=optimizer)
    plain = torchkeep.load(path)
    assert list(plain["model"]) == list(net().state_dict())
    assert plain["optimizer"]["param_names"] == [[f"model.{name}" for name, _ in net().named_parameters()]]
    net().load_state_dict(plain["model"])
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "torch.pt")
    for make in WRAPPED:
        for file in (path, tmp_path / "torch.pt"):
            other = make()
            adam = torch.optim.Adam(other.parameters())
            assert loaded(file, model=other, optimizer=adam) == []
            assert describe([*other.state_dict().values()]) == describe([*model.state_dict().values()])
            assert describe(adam.state_dict()["state"]) == describe(optimizer.state_dict()["state"])


def test_a_file_of_a_run_leaves_a_program_of_pytorch_alone_free_to_add_groups(tmp_path):
    model = net()
    optimizer = torch.optim.Adam(model[2].parameters())
    path = saved(tmp_path, model=model, optimizer=optimizer)
    again = torch.optim.Adam(model[2].parameters())
    again.load_state_dict(torch.load(path, weights_only=True)["optimizer"])
    again.add_param_group({"params": list(model[0].parameters())})
    assert "param_names" not in again.param_groups[0]


def reordered(order):
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 3) for name in order})
    for scale, name in enumerate("abc"):
        model[name].scale = scale + 1.0
    model.forward = lambda x: sum(model[name](x * model[name].scale) for name in order)
    return model


def moments(model, optimizer):
    return {name: describe(optimizer.state[parameter]["exp_avg"]) for name, parameter in model.named_parameters()}


NAMED = {
    "names that PyTorch gave on both sides": (lambda m: m.named_parameters(), lambda m: m.named_parameters()),
    "names that PyTorch gave in the file": (lambda m: m.named_parameters(), lambda m: m.parameters()),
    "the model's keys in the file": (lambda m: m.parameters(), lambda m: m.parameters()),
    "the model's keys, and names here": (lambda m: m.parameters(), lambda m: m.named_parameters()),
}


@pytest.mark.parametrize("name", NAMED)
def test_state_goes_to_the_parameter_of_its_name_whatever_the_order(name, tmp_path):
    there, here = NAMED[name]
    model = reordered("abc")
    optimizer = torch.optim.Adam(there(model))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    other = reordered("cab")
    adam = torch.optim.Adam(here(other))
    assert loaded(tmp_path / "a.pt", model=other, optimizer=adam) == []
    assert moments(other, adam) == moments(model, optimizer)
    assert ("param_names" in adam.param_groups[0]) == ("named" in here.__code__.co_names[0])


def test_names_in_the_groups_of_an_older_file_are_read(tmp_path):
    model = reordered("abc")
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["param_groups"][0]["param_names"] = [f"model.{name}" for name, _ in model.named_parameters()]
    torchkeep.save({"model": model.state_dict(), "optimizer": state}, tmp_path / "a.pt")
    other = reordered("bca")
    adam = torch.optim.Adam(other.parameters())
    assert loaded(tmp_path / "a.pt", model=other, optimizer=adam) == []
    assert moments(other, adam) == moments(model, optimizer)
    adam.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})


def test_by_order_is_said_once(tmp_path):
    model = net()
    torchkeep.save({"optimizer": stepped(model).state_dict()}, tmp_path / "a.pt")
    told = loaded(tmp_path / "a.pt", optimizer=torch.optim.Adam(net().parameters()))
    assert len(told) == 1 and "order of the parameters" in told[0]


class Averages(torch.optim.SGD):
    """A key that nobody knows, with the shape of its parameter."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("average", parameter.detach().clone())


def test_state_that_is_another_parameters_is_an_error(tmp_path):
    first = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 3), (4,))]
    optimizer = Averages(first, lr=0.1)
    for parameter in first:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    torchkeep.save({"optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    other = Averages(reversed(first), lr=0.1)
    with pytest.raises(torchkeep.Error, match=r"average is float32 \[2, 3\] in the file, \[4\] here"):
        loaded(tmp_path / "a.pt", optimizer=other)


# ---- optimizers

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
    "a NumPy number": lambda p: numpy.float64(0.25), "an array": lambda p: numpy.arange(3.0),
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
        if not isinstance(kept, numpy.generic):
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


# ---- said

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


def test_another_seed_of_a_sampler_is_said(tmp_path):
    saved(tmp_path, data=torchkeep.ResumableSampler(10, seed=1))
    (message,) = resumed(tmp_path, role="reader", data=torchkeep.ResumableSampler(10, seed=2))
    assert "seed is 2 here and 1 in the checkpoint" in message


# ---- schedulers

class Table(torch.optim.lr_scheduler.LRScheduler):
    """Takes its rates from what it is given."""

    def __init__(self, optimizer, table, last_epoch=-1):
        self.table = table
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        value = self.table(self.last_epoch) if callable(self.table) else self.table[min(self.last_epoch, 2)]
        return [float(value)] * len(self.optimizer.param_groups)


class Warmup(torch.optim.lr_scheduler.LRScheduler):
    """A scheduler as an attribute, without a load_state_dict() of its own."""

    def __init__(self, optimizer, after, last_epoch=-1):
        self.after = after
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self.last_epoch > 2:
            self.after.step()
            return self.after.get_last_lr()
        return [0.01 * (self.last_epoch + 1)] * len(self.optimizer.param_groups)


lrs = torch.optim.lr_scheduler
SCHEDULES = {
    "a table that is a tensor": lambda o: Table(o, torch.tensor([0.1, 0.2, 0.3])),
    "a table that is an array": lambda o: Table(o, numpy.array([0.1, 0.2, 0.3])),
    "a function": lambda o: Table(o, lambda step: 0.1 / (step + 1)),
    "a scheduler inside": lambda o: Warmup(o, lrs.ExponentialLR(o, 0.5)),
    "schedulers inside": lambda o: lrs.SequentialLR(o, [lrs.LinearLR(o, total_iters=2), lrs.ExponentialLR(o, 0.9)], [2]),
}


def rates(make, path, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler, found = make(optimizer), []
    with torchkeep.Run(path, signals=False, durable=False, save_every=1, on_event=(events := []).append) as run:
        run.track(parameter=optimizer.param_groups[0]["params"][0], optimizer=optimizer, scheduler=scheduler)
        for _ in run.steps(total):
            optimizer.step()
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
            run.finish_step()
    assert [event.message for event in events if event.is_warning] == []
    return found


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_schedulers_with_tensors_arrays_functions_and_schedulers_inside_continue_exactly(name, tmp_path):
    whole = rates(SCHEDULES[name], tmp_path / "whole", 7)
    assert rates(SCHEDULES[name], tmp_path / "cut", 4) + rates(SCHEDULES[name], tmp_path / "cut", 7) == whole


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_a_scheduler_of_an_older_pytorch_that_lacks_a_private_key_is_resumed(tmp_path):
    rates(SCHEDULES["schedulers inside"], tmp_path, 3)
    path = torchkeep.find_checkpoint(tmp_path)
    content = torchkeep.load(path)
    for state in (content["scheduler"], *content["scheduler"]["_schedulers"]):
        state.pop("_is_initial", None)
    torchkeep.save(content, path)
    assert len(rates(SCHEDULES["schedulers inside"], tmp_path, 5)) == 2


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_another_scheduler_is_said_or_refused_before_anything_changes(tmp_path):
    rates(lambda o: lrs.LambdaLR(o, lambda step: 0.9**step), tmp_path / "a", 2)
    rates(SCHEDULES["schedulers inside"], tmp_path / "b", 2)

    def start(path, make):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        parameter = optimizer.param_groups[0]["params"][0]
        told = resumed(path, role="reader", parameter=parameter, optimizer=optimizer, scheduler=make(optimizer))
        return told, parameter

    told, _ = start(tmp_path / "a", lambda o: lrs.MultiplicativeLR(o, lambda step: 0.9))
    assert told == ["'scheduler': the scheduler is MultiplicativeLR here and LambdaLR in the checkpoint, which is used"]
    with pytest.raises(torchkeep.Error, match="of LambdaLR does not fit the StepLR: the file lacks gamma, step_size"):
        start(tmp_path / "a", lambda o: lrs.StepLR(o, 3))
    for inner in ([lrs.LinearLR, lrs.ConstantLR, lrs.ConstantLR], [lrs.ExponentialLR, lrs.LinearLR]):
        def make(o, inner=inner):
            made = [one(o, 0.9) for one in inner]
            return lrs.SequentialLR(o, made, list(range(2, len(made) + 1)))

        with pytest.raises(torchkeep.Error, match="_schedulers"):
            start(tmp_path / "b", make)


# ---- plain values

def test_plain_values_are_part_of_a_checkpoint(tmp_path):
    losses, config, seen, array = [1.0, 2.0], {"a": {"b": 1}, "t": torch.ones(2)}, {3}, numpy.arange(3)
    generator, state = random.Random(5), numpy.random.RandomState(6)
    kept = {"losses": losses, "config": config, "seen": seen, "array": array, "generator": generator, "state": state,
            "queue": collections.deque([1], maxlen=2), "raw": bytearray(b"ab")}
    with torchkeep.Run(tmp_path, signals=False, durable=False, on_event=lambda event: None) as run:
        run.track(**kept, best=0.5, name="a", nothing=None, pair=(1, 2), number=numpy.float32(0.1))
        run.resume()
        losses.append(3.0)
        array += 1
        generator.random(), state.rand()
        run.values["best"] = 0.25
        run.finish_step()
    tensor = torch.zeros(2)
    others = {"losses": [], "config": {"a": {}, "t": tensor, "gone": 1}, "seen": set(), "array": numpy.zeros(3, array.dtype),
              "generator": random.Random(1), "state": numpy.random.RandomState(1), "queue": collections.deque(maxlen=2),
              "raw": bytearray()}
    told = resumed(tmp_path, role="reader", **others, best=9, name="b", nothing=None, pair=(), number=numpy.float32(0))
    assert told == []
    values = resumed.values
    for name, one in others.items():
        if name not in ("generator", "state"):
            assert values[name] is one
    assert others["losses"] == losses and others["seen"] == seen and others["array"].tolist() == [1, 2, 3]
    assert others["config"] == {"a": {"b": 1}, "t": tensor} and tensor.tolist() == [1, 1]
    assert others["queue"] == kept["queue"] and others["raw"] == b"ab"
    assert others["generator"].random() == generator.random() and others["state"].rand() == state.rand()
    assert (values["best"], values["name"], values["nothing"], values["pair"]) == (0.25, "a", None, (1, 2))
    assert type(values["number"]) is numpy.float32 and values["number"] == numpy.float32(0.1)


def test_what_is_none_may_be_missing_and_an_object_with_its_state_may_be_none(tmp_path):
    model = net()
    saved(tmp_path / "a", model=model)
    assert any("'scheduler'" in message for message in resumed(tmp_path / "a", role="reader", model=model, scheduler=None))


def test_mistakes_with_track_say_what_to_write(tmp_path):
    model = net()
    with torchkeep.Run(tmp_path, signals=False) as run:
        with pytest.raises(ValueError, match=r"write run.track\(model=..., optimizer=...\)"):
            run.track(model, torch.optim.Adam(model.parameters()))
        with pytest.raises(ValueError, match=r"write run.track\(model=...\)"):
            run.track(model)
        with pytest.raises(ValueError, match="track the object itself"):
            run.track(model=model.state_dict())
        with pytest.raises(ValueError, match="track each of them under a name of its own"):
            run.track(models=[model])


def test_the_state_of_all_generators_has_a_public_call():
    state = torchkeep.rng_state()
    drawn = torch.rand(2).tolist(), random.random(), numpy.random.rand()
    torchkeep.load_rng_state(state)
    assert drawn == (torch.rand(2).tolist(), random.random(), numpy.random.rand())
    with pytest.raises(torchkeep.Error):
        torchkeep.load_rng_state({"torch": torch.ones(3)})


# ---- gradients

def test_gradients_carried_over_a_finished_step_are_told(tmp_path):
    def train(path, every, set_to_none=True, **options):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with torchkeep.Run(path, signals=False, durable=False, on_event=(events := []).append, **options) as run:
            run.track(model=model, optimizer=optimizer)
            for step in run.steps(4):
                model(torch.ones(1, 3)).sum().backward()
                if (step + 1) % every == 0:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none)
                run.finish_step()
        return [event.message for event in events if event.is_warning]

    assert train(tmp_path / "a", 1) == [] and train(tmp_path / "b", 1, set_to_none=False) == []
    (told,) = train(tmp_path / "c", 2)
    assert "accumulated over a finish_step()" in told
    assert train(tmp_path / "d", 2, gradients=True) == []


# ---- objects in an optimizer's state

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


def test_a_module_on_the_device_meta_is_refused_and_not_left_empty(tmp_path):
    path = saved(tmp_path / "run", model=torch.nn.Linear(3, 2))
    for load in (lambda model: loaded(path, model=model), lambda model: resumed(tmp_path / "run", model=model)):
        with pytest.raises(torchkeep.Error, match="device meta.*weight"):
            load(torch.nn.Linear(3, 2, device="meta"))


def test_a_checkpoint_of_a_device_that_is_not_here_goes_to_where_the_live_objects_are(tmp_path, monkeypatch):
    def objects():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
        return {"model": model, "optimizer": torch.optim.Adam(model.parameters()), "extra": torch.zeros(3)}

    def step(model, optimizer, extra):
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
        extra += 1

    first = objects()
    with torchkeep.Run(tmp_path, signals=False, durable=False, rng=False, on_event=lambda event: None) as run:
        run.track(**first)
        run.resume()
        step(**first)
        run.finish_step()
    path = torchkeep.find_checkpoint(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:1")
        torch.save(torchkeep.load(path), path)
    for has_state in (False, True):
        second = objects()
        if has_state:
            step(**second)
        with torchkeep.Run(tmp_path, signals=False, rng=False, on_event=lambda event: None) as run:
            run.track(**second)
            assert run.resume() == 1
        third = objects()
        assert torchkeep.load_into(path, **third)["step"] == 1
        for one in (second, third):
            assert describe(dict(one["model"].state_dict())) == describe(dict(first["model"].state_dict()))
            assert describe(one["optimizer"].state_dict()["state"]) == describe(first["optimizer"].state_dict()["state"])
            assert torch.equal(one["extra"], torch.ones(3))
