# SPDX-License-Identifier: BSD-3-Clause
"""load_into: straight into live tensors, after everything was checked."""
import copy
import importlib.util
import os
import pathlib
import re

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
