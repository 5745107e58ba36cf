# SPDX-License-Identifier: BSD-3-Clause
"""Modules under torch.compile and DistributedDataParallel continue exactly, and their files do not show the wrapping."""
import json
import os
import pathlib
import subprocess
import sys

import ddp_training
import pytest
import torch
from conftest import ROOT
from canonical import describe
from test_run import CUT, TOTAL, assert_exact
from training import Training, everything

import torchkeep

PROGRAM = pathlib.Path(ddp_training.__file__)


class Compiled(Training):
    def __init__(self):
        super().__init__("AdamW")
        self.model = torch.compile(self.model, backend="eager")


def test_a_compiled_module_continues_exactly(tmp_path):
    assert_exact(Compiled, tmp_path)


def test_a_run_may_be_compiled_half_way(tmp_path):
    Training().run(tmp_path / "plain", TOTAL)
    Training().run(tmp_path / "mixed", TOTAL, until=CUT)
    Compiled().run(tmp_path / "mixed", TOTAL)
    assert describe(everything(tmp_path / "mixed")) == describe(everything(tmp_path / "plain"))


def launch(ranks, folder, name, until):
    """The results of all ranks."""
    arguments = [str(ranks), str(folder / f"rendezvous-{name}-{until}"), str(folder / name), "9", str(until)]
    helpers = os.pathsep.join([str(ROOT / "tests" / "python"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": helpers}
    children = [subprocess.Popen([sys.executable, str(PROGRAM), str(rank), *arguments], env=environment,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for rank in range(ranks)]
    outputs = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0] * ranks, "\n".join(errors for _, errors in outputs)
    return [json.loads(output) for output, _ in outputs]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this PyTorch has no gloo")
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_rank_of_a_distributed_training_continues_exactly(ranks, tmp_path):
    whole = launch(ranks, tmp_path, "whole", 0)
    cut = launch(ranks, tmp_path, "cut", 5)
    rest = launch(ranks, tmp_path, "cut", 0)
    for rank in range(ranks):
        assert cut[rank]["losses"] == whole[rank]["losses"][:5]
        assert rest[rank]["start"] == 4  # a save at 2 and 4; the fifth step is made again
        assert rest[rank]["losses"] == whole[rank]["losses"][4:]
        assert rest[rank]["parameters"] == whole[0]["parameters"]
    if ranks == 2:
        assert whole[0]["losses"] != whole[1]["losses"]  # each has samples of its own
    assert describe(everything(tmp_path / "cut")) == describe(everything(tmp_path / "whole"))
    assert list(everything(tmp_path / "whole")["model"]) == list(Training().model.state_dict())


def test_wrapped_twice_the_names_are_those_of_the_module_inside(tmp_path):
    training = Training()
    with torchkeep.Run(tmp_path, durable=False, signals=False) as run:
        run.track(model=torch.nn.DataParallel(torch.compile(training.model, backend="eager")), optimizer=training.optimizer)
        run.resume()
        run.finish_step(1)
    state = everything(tmp_path)
    assert list(state["model"]) == list(training.model.state_dict())
    assert state["optimizer"]["param_names"][0][0] == "model.first.weight"
