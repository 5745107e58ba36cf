# SPDX-License-Identifier: BSD-3-Clause
"""Plain values, generators and gradients in a run."""
import collections
import random

import numpy
import pytest
import torch
from fits import net, resumed, saved

import torchkeep


def test_another_seed_of_a_sampler_is_said(tmp_path):
    saved(tmp_path, data=torchkeep.ResumableSampler(10, seed=1))
    (message,) = resumed(tmp_path, role="reader", data=torchkeep.ResumableSampler(10, seed=2))
    assert "seed is 2 here and 1 in the checkpoint" in message


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
