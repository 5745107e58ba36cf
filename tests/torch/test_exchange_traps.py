# SPDX-License-Identifier: BSD-3-Clause
"""Optimizer files that are unlike a fresh one of PyTorch 2.13: old versions, schedulers' keys, flags and tensors in the
groups, steps beyond float32, other optimizers, and files of real projects."""
import pathlib
import zipfile

import pytest
import torch

from exchange import load, same, tool

CORPUS = pathlib.Path(__file__).parents[3] / "shared" / "corpus" / "real"


def adopt(folder, items):
    """What the tool says to each (class, optimizer state or path), and what it wrote."""
    jobs = []
    for i, (name, state) in enumerate(items):
        source = folder / f"{i}.pt"
        if isinstance(state, pathlib.Path):
            source = state
        else:
            torch.save(state, source)
        jobs.append((name, str(source), str(folder / f"{i}.back.pt")))
    torch.save(jobs, folder / "jobs.pt")
    said = tool("adopt", folder / "jobs.pt").splitlines()
    assert len(said) == len(jobs)
    return [(line, load(back) if line == "ok" else None) for line, (_, _, back) in zip(said, jobs)]


def trained(make, steps=2):
    """A Python optimizer over one matrix after some steps, and the matrix."""
    torch.manual_seed(0)
    param = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = make([param])
    for _ in range(steps):
        optimizer.zero_grad()
        (param ** 2).sum().backward()
        optimizer.step()
    return optimizer, param


def test_what_schedulers_and_users_put_into_a_group_survives(tmp_path):
    optimizer, _ = trained(lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9))
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=10)
    optimizer.param_groups[0].update(swa_lr=0.25, name="head", nested=[1, {"a": (2.5, None)}], foreach=True)
    state = optimizer.state_dict()
    [(said, back)] = adopt(tmp_path, [("SGD", state)])
    assert said == "ok"
    assert {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"} <= set(back["param_groups"][0])
    same(back, state)


def test_flags_of_how_a_step_is_computed_survive(tmp_path):
    for flags in ({"foreach": True}, {"foreach": False}, {"fused": True}, {"capturable": False}, {"differentiable": True}):
        state = trained(lambda params: torch.optim.Adam(params))[0].state_dict()
        state["param_groups"][0].update(flags)
        [(said, back)] = adopt(tmp_path, [("Adam", state)])
        assert said == "ok"
        same(back, state)


def test_a_learning_rate_in_a_tensor_becomes_its_number(tmp_path):
    make = lambda params: torch.optim.Adam(params, lr=torch.tensor(0.125), betas=(torch.tensor(0.5), torch.tensor(0.75)))
    [(said, back)] = adopt(tmp_path, [("Adam", trained(make)[0].state_dict())])
    assert said == "ok"
    assert back["param_groups"][0]["lr"] == 0.125 and back["param_groups"][0]["betas"] == (0.5, 0.75)


def test_what_a_scheduler_keeps_in_tensors_becomes_numbers(tmp_path):
    optimizer, _ = trained(lambda params: torch.optim.Adam(params, lr=torch.tensor(0.125)))
    torch.optim.lr_scheduler.StepLR(optimizer, step_size=3)
    assert torch.is_tensor(optimizer.param_groups[0]["initial_lr"])
    [(said, back)] = adopt(tmp_path, [("Adam", optimizer.state_dict())])
    assert said == "ok"
    same(back["param_groups"][0]["initial_lr"], 0.125)


# What 1.13 wrote (FORMATS 3.2): ints as steps, a None buffer, fewer keys.
OLD = {
    "Adam": ({"step": 7, "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)},
             {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False}),
    "RMSprop": ({"step": 7, "square_avg": torch.ones(2)},
                {"lr": 0.1, "momentum": 0, "alpha": 0.99, "eps": 1e-8, "centered": False, "weight_decay": 0}),
    "SGD": ({"momentum_buffer": None},
            {"lr": 0.1, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}),
    "Adagrad": ({"step": 7, "sum": torch.ones(2)},
                {"lr": 0.1, "lr_decay": 0, "eps": 1e-10, "weight_decay": 0, "initial_accumulator_value": 0}),
}


@pytest.mark.parametrize("name", OLD)
def test_files_of_old_versions_load_and_come_back_in_todays_form(tmp_path, name):
    state, group = OLD[name]
    old = {"state": {0: state}, "param_groups": [{**group, "params": [0]}]}
    [(said, back)] = adopt(tmp_path, [(name, old)])
    assert said == "ok"
    for key, value in group.items():
        assert back["param_groups"][0][key] == value and type(back["param_groups"][0][key]) is type(value)
    if name == "SGD":
        assert back["state"] == {}
    else:
        same(back["state"][0], {**state, "step": torch.tensor(7.0)})
    make = {"SGD": lambda params: torch.optim.SGD(params, lr=1)}.get(name, getattr(torch.optim, name))
    trained(make, steps=0)[0].load_state_dict(back)


def test_a_step_beyond_float32_is_written_wider_and_python_counts_on(tmp_path):
    optimizer, param = trained(torch.optim.Adam)
    state = optimizer.state_dict()
    state["state"][0]["step"] = 2**24 + 5
    [(said, back)] = adopt(tmp_path, [("Adam", state)])
    assert said == "ok"
    same(back["state"][0]["step"], torch.tensor(2.0**24 + 5, dtype=torch.float64))
    optimizer.load_state_dict(back)
    optimizer.step()
    assert optimizer.state_dict()["state"][0]["step"] == 2**24 + 6
    [(said, again)] = adopt(tmp_path, [("Adam", optimizer.state_dict())])
    assert again["state"][0]["step"] == 2**24 + 6


def test_a_step_of_exactly_two_to_the_24_stays_float32(tmp_path):
    state = trained(torch.optim.Adam)[0].state_dict()
    state["state"][0]["step"] = torch.tensor(2.0**24)
    [(said, back)] = adopt(tmp_path, [("Adam", state)])
    same(back, state)


OTHERS = {name: getattr(torch.optim, name) for name in (
    "Adadelta", "Adafactor", "Adamax", "ASGD", "NAdam", "RAdam", "Rprop", "Muon")}
OURS = ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "LBFGS"]


def test_the_state_of_every_other_python_optimizer_is_refused(tmp_path):
    items = [(ours, trained(make, steps)[0].state_dict())
             for make in OTHERS.values() for steps in (0, 2) for ours in OURS]
    sparse = torch.optim.SparseAdam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    items += [(ours, sparse) for ours in OURS]
    for (ours, _), (said, _) in zip(items, adopt(tmp_path, items)):
        assert f"this is not the state of {ours}" in said


def test_options_that_change_the_mathematics_are_refused(tmp_path):
    items = [(name, trained(lambda params: getattr(torch.optim, name)(params, maximize=True))[0].state_dict())
             for name in ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad")]
    items.append(("Adam", trained(lambda params: torch.optim.Adam(params, decoupled_weight_decay=True))[0].state_dict()))
    items.append(("AdamW", trained(torch.optim.Adam)[0].state_dict()))
    for (name, _), (said, _) in zip(items[:5], adopt(tmp_path, items)):
        assert f"group 0: maximize: not False in the file; LibTorch's {name} cannot do that" in said
    for said, _ in adopt(tmp_path, items)[5:]:
        assert "group 0: decoupled_weight_decay" in said
    decoupled = items[5][1]  # Python's Adam with decoupled_weight_decay is AdamW
    assert adopt(tmp_path, [("AdamW", decoupled)])[0][0] == "ok"


def real_files():
    for path in sorted(CORPUS.glob("*ptimizer.pth")):
        if zipfile.is_zipfile(path):
            yield path


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no real checkpoints in {CORPUS}")
def test_optimizers_of_real_projects_come_through_bit_for_bit(tmp_path):
    files = {path: load(path) for path in real_files()}
    assert len(files) >= 5
    items = [("RMSprop" if "alpha" in state["param_groups"][0] else "Adam", path) for path, state in files.items()]
    for (path, before), (said, back) in zip(files.items(), adopt(tmp_path, items)):
        assert said == "ok", path.name
        assert list(back["state"]) == sorted(before["state"])
        for key, entry in before["state"].items():
            assert back["state"][key].pop("step") == entry.pop("step")
            same(back["state"][key], entry, path.name)
        for ours, theirs in zip(back["param_groups"], before["param_groups"]):
            same({key: ours[key] for key in theirs}, theirs, path.name)
