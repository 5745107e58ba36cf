# SPDX-License-Identifier: BSD-3-Clause
"""The program under test, and real files made by the installed PyTorch."""
import json
import os
import pathlib
import random
import subprocess

import pytest
import torch

BIN = pathlib.Path(os.environ["TORCHKEEP_BIN"])
PROGRAM = BIN / "torchkeep"
ROOT = pathlib.Path(os.environ["TORCHKEEP_ROOT"])
GOLDEN = pathlib.Path(__file__).parent / "golden"


class Result:
    def __init__(self, process):
        self.status = process.returncode
        self.raw = process.stdout
        self.out = process.stdout.decode("utf-8", "replace")
        self.err = process.stderr.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.out)


def run(*arguments, status=0, several=False, cwd=None, stdin=None, **environment):
    """Runs the program; its exit status must be `status`, and an error one line (`several`: or more)."""
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")} | environment
    process = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, cwd=cwd, input=stdin, env=env,
                             timeout=120)
    result = Result(process)
    assert result.status == status, f"{arguments}: {result.status}\n{result.out}\n{result.err}"
    if status >= 2:
        lines = result.err.splitlines()
        assert all(line.startswith("torchkeep: ") for line in lines), result.err
        assert len(lines) == 1 or several, result.err
    return result


def tool(*arguments):
    subprocess.run([BIN / "cli_tool", *map(str, arguments)], check=True, timeout=120)


def numbers(*shape, dtype=torch.float32, start=0.0):
    count = 1
    for size in shape:
        count *= size
    return (torch.arange(count, dtype=torch.float64) / 8 + start).reshape(shape).to(dtype)


def checkpoint(shift=0.0):
    """A whole training state whose numbers do not depend on the version of PyTorch."""
    torch.manual_seed(7)
    random.seed(7)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW([{"params": list(model[0].parameters()), "lr": 0.5},
                                   {"params": list(model[1].parameters()) + list(model[2].parameters())}], lr=0.25)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, gamma=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scheduler.step()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.copy_(numbers(*parameter.shape, start=index + shift))
    return {
        "epoch": 3,
        "loss": 0.125,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
        "rng": {"torch": torch.get_rng_state(), "python": random.getstate()},
        "args": {"name": "a run", "betas": (0.9, 0.95), "tags": ["x", "y"], "nothing": None, "big": 2**80},
    }


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with checkpoint.pt and its relatives."""
    folder = tmp_path_factory.mktemp("files")
    state = checkpoint()
    torch.save(state, folder / "checkpoint.pt")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(checkpoint(shift=1.0), folder / "other.pt")
    torch.save(state["model_state_dict"], folder / "model.pt")
    shared = torch.nn.Parameter(numbers(4, 2))
    torch.save({"embedding": shared, "head": shared, "part": numbers(4, 2)[1:3], "half": numbers(3, dtype=torch.bfloat16),
                "count": torch.arange(5)}, folder / "tied.pt")
    odd = torch.tensor([0.0, -0.0, 1.5, float("nan"), float("inf"), float("-inf"), -2.5, 0.0])
    torch.save({"odd": odd, "numbers": numbers(3, 4), "complex": torch.tensor([1 + 2j, 3 - 4j]),
                "booleans": torch.tensor([True, False]), "scalar": torch.tensor(7), "empty": torch.zeros(0, 3)},
               folder / "tensors.pt")
    return folder


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory):
    """A run of 230 steps that was resumed at step 100: nobody changes it."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    tool("run", folder, 0, 100, 10, 3, 1)
    tool("run", folder, 100, 230, 10, 3, 1)
    return folder


@pytest.fixture
def own_run(tmp_path):
    """A run to change: steps 10, 20, 30, 40, 50; the best is 30."""
    folder = tmp_path / "run"
    tool("run", folder, 0, 50, 10, 9, 1)
    return folder
