# SPDX-License-Identifier: BSD-3-Clause
"""What a module's own load_state_dict() takes, load_into() and resume() take, and end with the same bits."""
import collections
import copy
import io

import numpy
import pytest
import torch
from canonical import describe
from fits import describe_any, loaded, resumed, saved

import torchkeep


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


class Views(torch.nn.Module):
    """Parameters that are parts of one tensor, a transposed one, and a buffer under two names."""

    def __init__(self):
        super().__init__()
        flat = torch.randn(8)
        self.first, self.second = torch.nn.Parameter(flat[:5]), torch.nn.Parameter(flat[5:])
        self.turned = torch.nn.Parameter(torch.randn(4, 3).t())
        self.register_buffer("mean", torch.randn(2))
        self.register_buffer("again", self.mean)


def versioned():
    """Adds an entry to its state dict, and takes it out again."""
    module = torch.nn.Linear(3, 2)
    module.register_state_dict_post_hook(lambda module, state, prefix, _: state.update({prefix + "version": torch.tensor(2)}))
    module.register_load_state_dict_pre_hook(lambda module, state, prefix, *_: state.pop(prefix + "version", None))
    return module


def kept(make):
    """Loads what the same module gave."""
    return make, lambda: make().state_dict()


MODULES = {
    "views of one tensor": kept(Views),
    "an entry of its own": kept(versioned),
    "orthogonal": kept(lambda: torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(3, 2))),
    "channels last": kept(lambda: torch.nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)),
    "an LSTM": kept(lambda: torch.nn.LSTM(3, 2, num_layers=2)),
    "complex": kept(lambda: torch.nn.Linear(3, 2, dtype=torch.complex64)),
    "of another layout here": (lambda: torch.nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last),
                               lambda: torch.nn.Conv2d(3, 4, 2).state_dict()),
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


def test_values_that_a_load_changes_are_told_by_name(tmp_path):
    torchkeep.save({"model": torch.nn.Linear(3, 2).state_dict()}, tmp_path / "a.pt")
    told = loaded(tmp_path / "a.pt", model=torch.nn.Linear(3, 2).bfloat16())
    assert len(told) == 1 and "weight (float32 [2, 3] in the file, bfloat16 [2, 3] here)" in told[0]


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
