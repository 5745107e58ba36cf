# SPDX-License-Identifier: BSD-3-Clause
"""Run directories that earlier versions left are listed, read and resumed by this one, bit for bit."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest
import torch
from canonical import describe
from conftest import ROOT
from training import Training

import torchkeep

GOLDEN = ROOT / "tests/golden"
SURVIVOR = pathlib.Path(os.environ.get("TORCHKEEP_BIN", ROOT / "build/release/bin")) / "survivor"


def content_hash(path):
    """SHA-256 of what a checkpoint holds, as PyTorch reads it."""
    content = torch.load(path, weights_only=True)
    return hashlib.sha256(json.dumps(describe(content)).encode()).hexdigest()


def directories(language):
    return [pytest.param(path.parent, id=path.parent.name) for path in sorted(GOLDEN.glob(f"*-{language}/expected.json"))]


@pytest.fixture
def copy(request, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(request.param, directory)
    return directory


def test_the_first_layout_is_there_for_ever():
    assert (GOLDEN / "0.1-python").is_dir() and (GOLDEN / "0.1-cpp").is_dir()


@pytest.mark.parametrize("directory", directories("python") + directories("cpp"))
def test_an_old_directory_is_listed_and_read(directory):
    expected = json.loads((directory / "expected.json").read_text())
    found = {pathlib.Path(one.path).name: one for one in torchkeep.checkpoints(directory)}
    assert found.keys() == expected["checkpoints"].keys()
    for name, known in expected["checkpoints"].items():
        assert (found[name].step, found[name].pinned) == (known["step"], known["pinned"])
        assert content_hash(directory / name) == known["sha256"]
        assert describe(torchkeep.load(directory / name)) == describe(torch.load(directory / name, weights_only=True))
    assert pathlib.Path(torchkeep.find_checkpoint(directory)).name == expected["last"]
    assert pathlib.Path(torchkeep.find_checkpoint(directory, "best", metric="loss")).name == expected["best"]


@pytest.mark.parametrize("copy", directories("python"), indirect=True)
def test_an_old_directory_of_python_is_resumed_exactly(copy):
    saved = torch.load(torchkeep.find_checkpoint(copy), weights_only=True)
    training = Training("AdamW", {"amsgrad": True}, lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3), seed=9)
    with torchkeep.Run(copy, signals=False, resume="required") as run:
        run.track(**training.objects())
        assert run.resume() == saved["step"]
        assert describe(dict(training.model.state_dict())) == describe(dict(saved["model"]))
        assert describe(training.optimizer.state_dict()["state"]) == describe(saved["optimizer"]["state"])
        assert describe(training.scheduler.state_dict()) == describe(saved["scheduler"])
        assert torch.equal(torch.get_rng_state(), saved["rng"]["torch"])


@pytest.mark.skipif(not SURVIVOR.exists(), reason=f"the C++ training is not built: there is no {SURVIVOR}")
@pytest.mark.parametrize("copy", directories("cpp"), indirect=True)
def test_an_old_directory_of_cpp_is_resumed_and_continued(copy):
    before = torchkeep.load(torchkeep.find_checkpoint(copy))["step"]
    done = subprocess.run([SURVIVOR, copy, str(before + 4)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    newest = torchkeep.load(torchkeep.find_checkpoint(copy))
    assert newest["step"] == before + 4
    assert newest["provenance"]["resumed_at"] == [before]
    assert [json.loads(line)["step"] for line in (copy / "metrics.jsonl").read_text().splitlines()] == list(range(1, before + 5))
