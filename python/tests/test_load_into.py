# SPDX-License-Identifier: BSD-3-Clause
"""load_into: straight into live tensors, after everything was checked."""
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
