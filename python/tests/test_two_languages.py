# SPDX-License-Identifier: BSD-3-Clause
"""One run, two languages: the C++ demo and its Python twin continue each other in one directory."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest
import torch
from canonical import describe
from conftest import ROOT
from demo_twin import Twin

import torchkeep

DEMO = pathlib.Path(os.environ.get("TORCHKEEP_BIN", ROOT / "build/release/bin")) / "demo_train"
STEPS = 200


def demo(text, directory, until, *options):
    """Continues the C++ demo to this step: its first event, and the losses of its steps."""
    done = subprocess.run([DEMO, "--text", text, "--out", directory, "--steps", str(STEPS), "--stop-at", str(until),
                           "--save-every", "5", "--threads", "1", *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return events[0], [event["loss"] for event in events if event["event"] == "step"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes((ROOT / "docs/run-directory.md").read_bytes() * 3)
    return path


def newest(directory):
    return torchkeep.load(torchkeep.find_checkpoint(directory))


@pytest.mark.skipif(not DEMO.exists(), reason=f"the C++ demo is not built: there is no {DEMO}")
def test_a_run_goes_from_cpp_to_python_and_back(text, tmp_path):
    torch.set_num_threads(1)
    run = tmp_path / "run"
    demo(text, run, 10)
    saved = newest(run)

    # In Python everything arrives bit for bit.
    twin = Twin(text, STEPS, saved["model_options"])
    python_losses, arrived, generator = twin.run(run, 20)
    for name, state in arrived.items():
        assert describe(state) == describe(saved[name]), name
    assert torch.equal(generator, saved["rng"]["torch"])
    cpp = tmp_path / "cpp alone"
    _, cpp_losses = demo(text, cpp, 20)
    assert no_jump(python_losses, cpp_losses[10:])

    # And back: what C++ found in Python's checkpoint and saves again is the same, bit for bit.
    again = tmp_path / "saved again"
    shutil.copytree(run, again)
    start, losses = demo(text, again, 20, "--save-again")
    assert start["step"] == 20 and start["refused"] == [] and losses == []
    before, after = newest(run), newest(again)
    assert after["provenance"] != before["provenance"]  # C++ wrote it
    assert after["step"] == 21  # of no training
    for name in before.keys() - {"provenance", "rng", "step", "metrics"}:
        assert describe(apart(after[name])) == describe(apart(before[name])), name
    assert torch.equal(after["rng"]["torch"], before["rng"]["torch"])

    # C++ continues at Python's step. What a step changes in whole numbers is the same to the last bit.
    twice = tmp_path / "python alone"
    twice.mkdir()
    (twice / "step-00000020.pt").write_bytes((run / "step-00000020.pt").read_bytes())
    start, back = demo(text, run, 21)
    assert start["step"] == 20 and start["refused"] == []
    alone, _, _ = Twin(text, STEPS, saved["model_options"]).run(twice, 21)
    assert no_jump(back, alone)
    ours, theirs = newest(run), newest(twice)
    for name in ("step", "model_options", "data"):
        assert describe(ours[name]) == describe(theirs[name]), name
    assert describe(apart(ours["scheduler"])) == describe(apart(theirs["scheduler"]))
    assert torch.equal(ours["rng"]["torch"], theirs["rng"]["torch"])
    for number, state in ours["optimizer"]["state"].items():
        assert state["step"] == theirs["optimizer"]["state"][number]["step"] == 21
    for name, value in ours["model"].items():
        assert (value - theirs["model"][name]).abs().max() < 1e-5, name
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 22))


def apart(value):
    """The same lists and dicts, each in one place only: PyTorch has one list at two places of a scheduler's state."""
    if isinstance(value, list):
        return [apart(part) for part in value]
    return {key: apart(part) for key, part in value.items()} if type(value) is dict else value


def no_jump(losses, others):
    """LibTorch's C++ modules and optimizers round differently from Python's in the last place, nothing more."""
    return len(losses) == len(others) and all(abs(a - b) < 1e-4 for a, b in zip(losses, others))
