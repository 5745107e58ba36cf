# SPDX-License-Identifier: BSD-3-Clause
"""The demo's promises: its proof holds, it would notice a lost bit, and its training process survives damage."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BIN = Path(os.environ["TORCHKEEP_BIN"])
sys.path.insert(0, str(Path(os.environ["TORCHKEEP_ROOT"]) / "demo"))

from compare import compare  # noqa: E402
from picture import nice_ticks  # noqa: E402


def train(out, text, *arguments):
    """Runs the training process; returns its status, its events and what it complained about."""
    done = subprocess.run([BIN / "demo_train", "--out", out, "--text", text, *map(str, arguments)], text=True,
                          capture_output=True, env={"OMP_WAIT_POLICY": "passive", **os.environ})
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def started(events):
    return next(event for event in events if event["event"] == "start")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(bytes(range(32, 127)) * 60)
    return path


@pytest.fixture
def trained(tmp_path, text):
    """A run of 3 steps with a checkpoint at each."""
    status, _, complaint = train(tmp_path / "run", text, "--steps", 3, "--save-every", 1)
    assert status == 0, complaint
    return tmp_path / "run"


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_killed_training_equals_an_uninterrupted_one(tmp_path):
    done = subprocess.run([BIN / "demo", "--out", tmp_path, "--steps", "60", "--save-every", "6"], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert "Not one bit lost." in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == (tmp_path / "b/metrics.jsonl").read_bytes()


def test_a_training_that_comes_back_without_its_optimizer_fails_the_proof(tmp_path):
    forgetful = tmp_path / "forgetful"
    forgetful.write_text(f"""#!{sys.executable}
import os, sys
arguments = ["weights-only" if argument == "full" else argument for argument in sys.argv[1:]]
os.execv({str(BIN / "demo_train")!r}, ["demo_train", *arguments])
""")
    forgetful.chmod(0o755)
    done = subprocess.run([BIN / "demo", "--train", forgetful, "--out", tmp_path, "--steps", "60", "--save-every", "6"],
                          text=True, capture_output=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED  (b) equals (a)" in done.stdout
    assert "The proof failed" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_demo_deletes_nothing_that_it_did_not_make(tmp_path):
    (tmp_path / "b").mkdir()
    done = subprocess.run([BIN / "demo", "--out", tmp_path], text=True, capture_output=True)
    assert done.returncode == 1 and "no demo made it" in done.stderr
    assert (tmp_path / "b").is_dir()


def test_a_finished_training_has_nothing_left_to_do(trained, text):
    status, events, _ = train(trained, text, "--steps", 3)
    assert status == 0 and started(events)["step"] == 3
    assert not [event for event in events if event["event"] == "step"]


def test_a_damaged_newest_checkpoint_is_refused_and_the_one_before_taken(trained, text):
    flip_a_byte(trained / "step-00000003.pt")
    status, events, complaint = train(trained, text, "--steps", 4)
    assert status == 0, complaint
    assert started(events)["step"] == 2
    assert len(started(events)["refused"]) == 1 and "step-00000003.pt" in started(events)["refused"][0]


def test_no_whole_checkpoint_is_an_error_and_never_a_fresh_start(trained, text):
    for path in trained.glob("*.pt"):
        flip_a_byte(path)
    status, events, complaint = train(trained, text, "--steps", 4)
    assert status == 1 and not events
    assert all(f"step-0000000{step}.pt" in complaint for step in (1, 2, 3))


def test_another_text_is_refused(trained, text):
    text.write_bytes(text.read_bytes()[::-1])
    status, events, complaint = train(trained, text, "--steps", 4)
    assert status == 1 and not events
    assert "another directory" in complaint


def test_what_a_killed_save_left_is_removed(trained, text):
    left = trained / ".step-00000004.pt.tmp-1-1"
    left.write_bytes(b"half")
    _, events, _ = train(trained, text, "--steps", 3)
    assert started(events)["removed"] == 1 and not left.exists()


STATE = {"weight": torch.arange(6.0).reshape(2, 3), "step": 3, "groups": [{"lr": 0.5, "params": [0]}], "empty": {}}


@pytest.mark.parametrize("change", [
    {"weight": STATE["weight"].clone().index_put_((torch.tensor(1), torch.tensor(2)), torch.tensor(5.0000005))},
    {"weight": STATE["weight"].double()},
    {"weight": STATE["weight"].t().contiguous().t()},
    {"weight": STATE["weight"].reshape(3, 2)},
    {"step": 3.0},
    {"groups": [{"lr": 0.5000000000000001, "params": [0]}]},
    {"groups": [{"lr": 0.5, "params": [0, 1]}]},
    {"empty": []},
    {"more": 1},
])
def test_the_comparison_notices_every_change(change):
    assert not compare(STATE, {**STATE, **change}).equal
    assert not compare({**STATE, **change}, STATE).equal


def test_the_comparison_tells_zeros_and_nans_by_their_bits():
    nan, other_nan = (torch.tensor([bits], dtype=torch.int32).view(torch.float32) for bits in (0x7FC00000, 0x7FC00001))
    assert compare([nan], [nan.clone()]).equal
    assert not compare([nan], [other_nan]).equal
    assert not compare([torch.zeros(1)], [-torch.zeros(1)]).equal


def test_the_comparison_counts_what_it_compared():
    result = compare(STATE, {**STATE, "weight": STATE["weight"].clone()})
    assert result.equal and (result.tensors, result.bytes, result.values) == (1, 24, 4)


def test_nothing_compared_is_not_equal():
    assert not compare({}, {}).equal


@pytest.mark.parametrize("low, high, expected", [(2, 4.2, [2, 2.5, 3, 3.5, 4]), (0, 800, [0, 200, 400, 600, 800])])
def test_ticks_are_round_numbers(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)
