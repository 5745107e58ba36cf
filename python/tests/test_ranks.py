# SPDX-License-Identifier: BSD-3-Clause
"""Several ranks under torch.distributed open one run: they resume, save and stop as one."""
import itertools
import json
import pathlib
import re
import subprocess
import sys

import pytest
import ranks_training
import torch

import torchkeep
from torchkeep import _ranks

PROGRAM = pathlib.Path(ranks_training.__file__)
attempts = itertools.count()


def start(tmp_path, directories, *options):
    """A process for each directory, which is a rank's."""
    rendezvous = tmp_path / f"rendezvous-{next(attempts)}"
    return [subprocess.Popen([sys.executable, PROGRAM, str(rank), str(len(directories)), rendezvous, directory, *map(str, options)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for rank, directory in enumerate(directories)]


def results(processes, expected=0):
    found = []
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert process.returncode == expected, err
        found.append(json.loads(out.splitlines()[-1]))
    return found


def train(tmp_path, ranks, *options, expected=0, run="run"):
    return results(start(tmp_path, [tmp_path / run] * ranks, *options), expected)


def kill(tmp_path, ranks, *options):
    """A training of which ranks die by themselves; the others, which wait for those in gloo, are killed then."""
    processes = start(tmp_path, [tmp_path / "run"] * ranks, *options)
    died = [int(rank) for rank in options[options.index("--die") + 1:]]
    for rank in died:
        processes[rank].wait(timeout=600)
    for process in processes:
        process.kill()
        process.communicate()
    assert all(processes[rank].returncode == -9 for rank in died)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Of ranks that nothing happened to. Two: the sum of more numbers than that depends on how DistributedDataParallel
    lays them into buckets, which it does anew after the first step of a process."""
    return train(tmp_path_factory.mktemp("whole"), 2)


def without_losses(found):
    return [{key: value for key, value in one.items() if key != "losses"} for one in found]


def test_each_rank_has_generators_of_its_own(whole):
    assert len({str(one["random"]) for one in whole}) == 2
    assert len({str(one["parameters"]) for one in whole}) == 1


@pytest.mark.parametrize("died", [[0], [1], [0, 1]], ids=["the leader", "another", "all"])
def test_a_training_whose_ranks_were_killed_ends_bit_for_bit_like_one_that_was_not(tmp_path, whole, died):
    kill(tmp_path, 2, "--die-at", 7, "--die", *died)
    assert without_losses(train(tmp_path, 2)) == without_losses(whole)


def test_a_stop_of_one_rank_stops_all_at_one_step_and_the_training_goes_on(tmp_path):
    stopped = train(tmp_path, 3, "--stop-at", 4, "--die", 2, "--steps", 10_000)
    assert len({one["step"] for one in stopped}) == 1
    assert {one["exit"] for one in stopped} == {75}
    assert stopped[0]["step"] < 10_000
    saved = torchkeep.load(torchkeep.find_checkpoint(tmp_path / "run"))
    assert saved["step"] == stopped[0]["step"]
    assert set(saved["rng"]["ranks"]) == {1, 2}
    again = train(tmp_path, 3, "--steps", saved["step"] + 5)
    assert {one["step"] for one in again} == {saved["step"] + 5}
    assert {one["exit"] for one in again} == {0}


def test_the_checkpoint_has_the_generators_of_every_rank_and_torch_load_reads_it(tmp_path):
    train(tmp_path, 3)
    saved = torch.load(torchkeep.find_checkpoint(tmp_path / "run"), weights_only=True)
    assert saved["rng"]["world"] == 3
    states = [saved["rng"], saved["rng"]["ranks"][1], saved["rng"]["ranks"][2]]
    assert len({bytes(state["torch"].numpy()) for state in states}) == 3


def test_another_number_of_ranks_has_the_weights_exactly_and_is_told_of_the_generators(tmp_path):
    train(tmp_path, 3, "--steps", 6)
    processes = start(tmp_path, [tmp_path / "run"] * 2, "--steps", 9)
    outputs = [process.communicate(timeout=600) for process in processes]
    for rank, (out, err) in enumerate(outputs):
        assert json.loads(out.splitlines()[-1])["step"] == 9
        assert f"the random generators of rank {rank} are seeded anew" in err
        assert "it was saved by 3" in err


def test_ranks_that_find_different_newest_checkpoints_are_named(tmp_path):
    train(tmp_path, 2, "--steps", 6)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for one in results(start(tmp_path, [tmp_path / "run", elsewhere], "--steps", 9), expected=1):
        assert one["code"] == "mismatch"
        assert re.search(r"the ranks find different newest checkpoints: rank 1 \(.*\): none; rank 0 \(.*\): step 6", one["error"])


def test_a_rank_that_cannot_resume_ends_all(tmp_path):
    train(tmp_path, 2, "--steps", 6)
    elsewhere = tmp_path / "file"
    elsewhere.write_text("no folder")
    found = results(start(tmp_path, [tmp_path / "run", elsewhere], "--steps", 9,), expected=1)
    assert "a file stands where a folder is wanted" in found[1]["error"] or "folder" in found[1]["error"]
    assert "rank 1" in found[0]["error"]


def test_a_state_dict_that_is_a_collective_is_refused_before_the_first_step(tmp_path):
    for one in train(tmp_path, 2, "--optimizer", "zero", expected=1):
        assert "'optimizer' is a ZeroRedundancyOptimizer, whose state_dict() every rank must call at the same step" in one["error"]
        assert "run.is_due(" in one["error"]


def test_the_collectives_of_fsdp1_are_known_by_their_class():
    from torch.distributed.fsdp import FullyShardedDataParallel

    class Mine(FullyShardedDataParallel):
        pass

    for kind in (FullyShardedDataParallel, Mine):
        with pytest.raises(torchkeep.InvalidArgumentError, match="'model' is a FullyShardedDataParallel"):
            _ranks.refuse_collectives({"other": 1, "model": kind.__new__(kind)})


def test_is_due_says_which_step_is_saved(tmp_path):
    with torchkeep.Run(tmp_path / "run", save_every=3, signals=False) as run:
        run.track(value=1)
        due = []
        for step in run.steps(7):
            due.append(run.is_due(step + 1))
            run.finish_step()
    assert due == [False, False, True, False, False, True, False]
