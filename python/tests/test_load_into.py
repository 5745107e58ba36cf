# SPDX-License-Identifier: BSD-3-Clause
"""load_into: straight into live tensors, after everything was checked."""
import copy
import importlib.util
import os
import pathlib
import re
import time

import pytest
import torch
from canonical import describe
from training import Training

import torchkeep


@pytest.fixture
def saved(tmp_path):
    training = Training("AdamW", scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2))
    for _ in range(3):
        training.step()
    torchkeep.save({**{name: thing.state_dict() for name, thing in training.objects().items()}, "step": 3},
                   tmp_path / "a.pt")
    return training, tmp_path / "a.pt"


def fresh():
    return Training("AdamW", scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2), seed=7)


def test_everything_arrives_bit_for_bit_in_the_memory_that_was_there(saved):
    training, path = saved
    other = fresh()
    places = {name: tensor.data_ptr() for name, tensor in other.model.state_dict().items()}
    rest = torchkeep.load_into(path, **other.objects())
    assert rest == {"step": 3}
    for name, thing in training.objects().items():
        assert describe(other.objects()[name].state_dict()) == describe(thing.state_dict()), name
    assert {name: tensor.data_ptr() for name, tensor in other.model.state_dict().items()} == places


def test_the_recipes_keys_and_bare_state_dicts_are_understood(saved, tmp_path):
    training, _ = saved
    torch.save({"model_state_dict": training.model.state_dict(), "epoch": 1}, tmp_path / "b.pt")
    torch.save(training.model.state_dict(), tmp_path / "c.pt")
    for path, rest in ((tmp_path / "b.pt", {"epoch": 1}), (tmp_path / "c.pt", {})):
        other = fresh()
        assert torchkeep.load_into(path, model=other.model) == rest
        assert describe(other.model.state_dict()) == describe(training.model.state_dict())


def test_all_that_does_not_fit_is_told_and_nothing_changes(saved):
    _, path = saved
    other = Training("SGD", seed=7)
    other.model.last = torch.nn.Linear(8, 2)
    before = describe(other.model.state_dict())
    with pytest.raises(torchkeep.Error) as caught:
        torchkeep.load_into(path, model=other.model, optimizer=other.optimizer)
    assert caught.value.code == "mismatch"
    assert "last.weight: float32 [1, 8] in the file, float32 [2, 8] in the module" in str(caught.value)
    assert "momentum" in str(caught.value)
    assert describe(other.model.state_dict()) == before
    with pytest.raises(FileNotFoundError, match="'no such thing'|no_such"):
        torchkeep.load_into(path, model=other.model, no_such=torch.nn.Linear(1, 1))


def test_a_damaged_file_changes_nothing_when_it_is_verified_first(tmp_path):
    path = tmp_path / "a.pt"
    saved = torch.nn.Linear(100, 100)
    torchkeep.save({"model": saved.state_dict()}, path)
    content = bytearray(path.read_bytes())
    content[content.index(saved.weight.detach().numpy().tobytes()) + 9] ^= 1
    path.write_bytes(content)
    other = torch.nn.Linear(100, 100)
    before = describe(other.state_dict())
    with pytest.raises(torchkeep.Error, match="data/") as caught:
        torchkeep.load_into(path, model=other, verify_first=True)
    assert caught.value.code == "corrupt"
    assert describe(other.state_dict()) == before
    with pytest.raises(torchkeep.Error, match="partly overwritten"):
        torchkeep.load_into(path, model=other)


class Exchanged(torch.nn.Linear):
    """When its shapes are asked for, the checkpoint's path gets another file."""

    def state_dict(self, **options):
        if self.__dict__.get("other"):
            os.replace(self.other, self.path)
        return super().state_dict(**options)


def test_verify_first_checks_the_file_that_was_opened(tmp_path):
    saved, other = torch.nn.Linear(100, 100), Exchanged(100, 100)
    for name in ("a.pt", "good.pt"):
        torchkeep.save({"model": saved.state_dict()}, tmp_path / name)
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(saved.weight.detach().numpy().tobytes()) + 9] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    before = describe(other.state_dict())
    other.path, other.other = tmp_path / "a.pt", tmp_path / "good.pt"
    with pytest.raises(torchkeep.Error, match="It holds: model.weight") as caught:
        torchkeep.load_into(tmp_path / "a.pt", model=other, verify_first=True)
    assert caught.value.code == "corrupt" and not (tmp_path / "good.pt").exists()
    other.other = None
    assert describe(other.state_dict()) == before


def test_a_callback_may_check_another_file_in_the_middle_of_a_check(tmp_path):
    def move(done, total):
        if len(moves) < 6:
            time.sleep(0.06)  # so that the next block asks again
            torchkeep.verify(tmp_path / "other.pt")
        moves.append((done, total))

    class Slow(torch.nn.Linear):
        def state_dict(self, **options):
            time.sleep(0.06)  # so that the first block asks
            return super().state_dict(**options)

    moves, saved = [], torch.nn.Linear(2000, 2000)
    for name, state in (("a.pt", saved.state_dict()), ("other.pt", {"weight": torch.ones(2000, 2000)})):
        torchkeep.save({"model": state}, tmp_path / name)
    other = Slow(2000, 2000)
    torchkeep.load_into(tmp_path / "a.pt", model=other, verify_first=True, progress=move)
    assert torch.equal(other.weight, saved.weight)
    assert len(moves) >= 2 and moves[-1][0] == moves[-1][1] >= 2 * saved.weight.nbytes


def test_modules_of_other_layouts_and_with_hooks_are_loaded_their_way(saved):
    training, path = saved
    other = fresh()
    other.model.first.weight.data = other.model.first.weight.data.t().contiguous().t()
    calls = []
    other.model.last._register_load_state_dict_pre_hook(lambda *arguments: calls.append(1))
    torchkeep.load_into(path, model=other.model)
    assert calls == [1]
    assert torch.equal(other.model.first.weight, training.model.first.weight)
    again = fresh()
    again.model.first.weight.data = again.model.first.weight.data.t().contiguous().t()
    torchkeep.load_into(path, model=again.model)
    assert torch.equal(again.model.first.weight, training.model.first.weight)
    assert again.model.first.weight.stride() == (1, 8)


class Copies(torch.nn.Linear):
    """Its state_dict() takes no arguments and gives copies."""

    def state_dict(self):
        return {name: value.detach().clone() for name, value in super().state_dict().items()}


class CopiesOfItsOwn(torch.nn.Linear):
    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = destination[prefix + "weight"].clone()


def hooked(rows, columns):
    module = torch.nn.Linear(rows, columns)
    module.register_state_dict_post_hook(
        lambda module, state, prefix, metadata: state.update({name: value.clone() for name, value in state.items()}))
    return module


class Doubled(torch.nn.Linear):
    """Its own load_state_dict() has to be called."""

    calls = 0

    def load_state_dict(self, state, *arguments, **options):
        self.calls += 1
        return super().load_state_dict({name: 2 * value for name, value in state.items()}, *arguments, **options)


class Extra(torch.nn.Linear):
    """A tensor that is no parameter and no buffer, and adds what it loads to what is there."""

    extra = torch.zeros(2)

    def get_extra_state(self):
        return {"extra": self.extra}

    def set_extra_state(self, state):
        self.extra = self.extra + state["extra"]


class Told(torch.nn.Linear):
    """Its set_extra_state() has to be called, also with what it has."""

    calls = 0

    def get_extra_state(self):
        return None

    def set_extra_state(self, state):
        self.calls += 1


@pytest.mark.parametrize("way", ["load_into", "resume"])
@pytest.mark.parametrize("make", [Copies, CopiesOfItsOwn, hooked, Doubled, Extra, Told], ids=lambda make: make.__name__)
def test_a_module_whose_state_dict_is_not_its_tensors_is_loaded_its_way(make, way, tmp_path):
    saved, other = make(40, 40), make(40, 40)
    saved.extra, other.extra = torch.ones(2), torch.full((2,), 2.0)
    with torchkeep.Run(tmp_path, signals=False, durable=False) as run:
        run.track(model=saved)
        run.resume()
        run.finish_step()
    if way == "load_into":
        torchkeep.load_into(torchkeep.find_checkpoint(tmp_path), model=other)
    else:
        with torchkeep.Run(tmp_path, signals=False, role="reader") as run:
            run.track(model=other)
            assert run.resume() == 1
    assert torch.equal(other.weight, saved.weight * (2 if make is Doubled else 1))
    assert torch.equal(other.bias, saved.bias * (2 if make is Doubled else 1))
    assert make not in (Doubled, Told) or other.calls == 1
    assert make is not Extra or torch.equal(other.extra, torch.full((2,), 3.0))


class Quantized(torch.optim.Adam):
    """Its moments stand in a file as integers, and it adds what it loads to what is there."""

    def state_dict(self):
        state = super().state_dict()
        return {**state, "state": {number: {**own, "exp_avg": (own["exp_avg"] * 1024).round().to(torch.int16)}
                                   for number, own in state["state"].items()}}

    def load_state_dict(self, state):
        before = [own["exp_avg"].clone() for own in self.state.values()]
        super().load_state_dict({**state, "state": {
            number: {**own, "exp_avg": own["exp_avg"].float() / 1024} for number, own in state["state"].items()}})
        for own, more in zip(self.state.values(), before):
            own["exp_avg"] += more


def stepped(make):
    torch.manual_seed(0)
    model = torch.nn.Linear(40, 40)
    optimizer = make(model.parameters())
    model(torch.ones(1, 40)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_an_optimizer_that_loads_in_its_own_way_does(tmp_path):
    model, optimizer = stepped(Quantized)
    expected = [(own["exp_avg"] * 1024).round() / 1024 + own["exp_avg"] for own in optimizer.state.values()]
    torchkeep.save({"optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    _, other = stepped(Quantized)
    torchkeep.load_into(tmp_path / "a.pt", optimizer=other)
    assert [own["exp_avg"].dtype for own in other.state.values()] == [torch.float32] * 2
    assert describe([own["exp_avg"] for own in other.state.values()]) == describe(expected)


def test_an_optimizers_hooks_see_what_was_there_before(tmp_path):
    model, optimizer = stepped(torch.optim.Adam)
    torchkeep.save({"optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    _, other = stepped(torch.optim.Adam)
    with torch.no_grad():
        for own in other.state.values():
            own["exp_avg"].fill_(7)
    calls = []
    other.register_load_state_dict_pre_hook(lambda one, state: {**state, "state": one.state_dict()["state"]})
    other.register_load_state_dict_post_hook(calls.append)
    torchkeep.load_into(tmp_path / "a.pt", optimizer=other)
    assert calls == [other] and all(torch.all(own["exp_avg"] == 7) for own in other.state.values())


def places(training):
    moments = [value for state in training.optimizer.state.values() for value in state.values()]
    return [tensor.data_ptr() for tensor in [*training.model.state_dict().values(), *moments]]


def test_the_moments_of_an_optimizer_are_read_where_they_are(saved):
    training, path = saved
    other = fresh()
    other.step()
    before, moment = places(other), other.optimizer.state[other.model.first.weight]["exp_avg"]
    torchkeep.load_into(path, **other.objects())
    assert places(other) == before
    assert other.optimizer.state[other.model.first.weight]["exp_avg"] is moment
    assert describe(other.optimizer.state_dict()) == describe(training.optimizer.state_dict())
    state = torch.get_rng_state()
    loss = training.step()
    torch.set_rng_state(state)
    assert other.step() == loss


def test_a_run_resumes_into_the_memory_that_is_there(tmp_path):
    training = Training()
    training.run(tmp_path, 3)
    other = Training(seed=7)
    other.step()
    before = places(other)
    with torchkeep.Run(tmp_path, signals=False, role="reader") as run:
        run.track(**other.objects())
        assert run.resume() == 3
    assert places(other) == before
    assert describe(other.optimizer.state_dict()["state"]) == describe(training.optimizer.state_dict()["state"])
    assert describe(other.model.state_dict()) == describe(training.model.state_dict())


class Large(Training):
    """24 MB of parameters, 48 MB of moments."""

    def __init__(self, seed):
        super().__init__("AdamW", seed=seed)
        self.model = torch.nn.Sequential(*[torch.nn.Linear(1000, 1000) for _ in range(6)])
        self.optimizer = torch.optim.AdamW(self.model.parameters())

    def step(self):
        for parameter in self.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()


def peak(function):
    """Bytes by which the process grew at most while it ran."""
    status = pathlib.Path("/proc/self/status")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1])
    function()
    return 1024 * (int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) - before)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="/proc does not tell the peak of memory")
@pytest.mark.parametrize("way", ["load_into", "resume"])
def test_loading_takes_no_second_copy_of_the_state(way, tmp_path):
    training = Large(seed=0)
    training.step()
    with torchkeep.Run(tmp_path, signals=False, durable=False, background=False) as run:
        run.track(**training.objects())
        run.resume()
        run.finish_step(1)
    other, path = Large(seed=7), torchkeep.find_checkpoint(tmp_path)
    other.step()

    def resume():
        with torchkeep.Run(tmp_path, signals=False, role="reader") as run:
            run.track(**other.objects())
            run.resume()

    torchkeep.load_into(path, model=Large(seed=8).model)  # so that what a first call needs is there
    growth = peak(resume if way == "resume" else lambda: torchkeep.load_into(path, **other.objects()))
    assert growth < 12_000_000
    assert describe(other.optimizer.state_dict()["state"]) == describe(training.optimizer.state_dict()["state"])


def test_tied_and_untied_parameters_are_filled_from_either(tmp_path):
    def tied():
        model = torch.nn.ModuleDict({"a": torch.nn.Linear(60, 60), "b": torch.nn.Linear(60, 60)})
        model["b"].weight = model["a"].weight
        return model

    def untied():
        return torch.nn.ModuleDict({"a": torch.nn.Linear(60, 60), "b": torch.nn.Linear(60, 60)})

    for make in (tied, untied):
        saved = make()
        torch.save(saved.state_dict(), tmp_path / "a.pt")
        for target in (tied(), untied()):
            expected = copy.deepcopy(target)
            expected.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
            torchkeep.load_into(tmp_path / "a.pt", model=target)
            assert describe(target.state_dict()) == describe(expected.state_dict())


def test_files_of_other_formats_are_loaded_too(saved, tmp_path):
    training, _ = saved
    state = training.model.state_dict()
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    paths = [tmp_path / "old.pt"]
    if importlib.util.find_spec("safetensors"):
        from safetensors.torch import save_file

        save_file(dict(state), tmp_path / "model.safetensors")
        paths.append(tmp_path / "model.safetensors")
    for path in paths:
        other = fresh()
        assert torchkeep.load_into(path, model=other.model) == {}
        assert describe(dict(other.model.state_dict())) == describe(dict(state)), path
