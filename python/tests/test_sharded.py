# SPDX-License-Identifier: BSD-3-Clause
"""States of FSDP2 in folders that all ranks write and read together, by any number of them."""
import itertools
import json
import pathlib
import subprocess
import sys

import pytest
import sharded_state
import torch

import torchkeep

PROGRAM = pathlib.Path(sharded_state.__file__)
attempts = itertools.count()


def run(tmp_path, what, ranks, folder, *options):
    rendezvous = tmp_path / f"rendezvous-{next(attempts)}"
    processes = [subprocess.Popen([sys.executable, PROGRAM, what, str(rank), str(ranks), rendezvous, folder, *map(str, options)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for rank in range(ranks)]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        results.append(json.loads(out.splitlines()[-1]))
    return results


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders that 1, 2 and 3 ranks saved, and what is in them."""
    found = {}
    for ranks in (1, 2, 3):
        tmp_path = tmp_path_factory.mktemp(f"by-{ranks}")
        results = run(tmp_path, "save", ranks, tmp_path / "folder")
        assert "error" not in results[0], results[0]
        found[ranks] = tmp_path / "folder", results[0]["digest"]
    return found


@pytest.mark.parametrize(("by", "ranks"), [(1, 2), (2, 3), (3, 2), (3, 4), (3, 1)])
def test_any_number_of_ranks_loads_every_bit_of_what_another_number_saved(tmp_path, saved, by, ranks):
    folder, expected = saved[by]
    for result in run(tmp_path, "load", ranks, folder):
        assert result.get("digest") == expected, result.get("error")


@pytest.mark.parametrize("ranks", [1, 2])
def test_dcp_load_reads_the_folder(tmp_path, saved, ranks):
    folder, expected = saved[3]
    for result in run(tmp_path, "dcp", ranks, folder):
        assert result["digest"] == expected


def test_one_process_loads_it_whole_and_torch_load_opens_each_file(saved):
    folder, expected = saved[3]
    assert sharded_state.digest(torchkeep.load(folder)) == expected
    torchkeep.verify(folder)
    for file in folder.glob("*.distcp"):
        torch.load(file, weights_only=True)


def test_a_mesh_of_two_dimensions_with_copies_is_saved_once(tmp_path, saved):
    results = run(tmp_path, "save", 4, tmp_path / "folder", "--mesh", 2, 2)
    assert "error" not in results[0], results[0]
    assert sharded_state.digest(torchkeep.load(tmp_path / "folder")) == results[0]["digest"]


def test_copies_that_differ_are_named_on_every_rank_and_nothing_appears(tmp_path):
    for result in run(tmp_path, "save", 2, tmp_path / "folder", "--differ"):
        assert "buffer" in result["error"]
    assert not (tmp_path / "folder").exists()


def test_a_flipped_byte_is_an_error_on_every_rank(tmp_path, saved):
    folder, _ = saved[2]
    copy = tmp_path / "folder"
    copy.mkdir()
    for file in folder.iterdir():
        content = bytearray(file.read_bytes())
        if file.name == "__1_0.distcp":
            parts = torch.load(file, weights_only=True)
            part = next(one for one in parts.values() if isinstance(one, torch.Tensor) and one.nbytes >= 64)
            content[content.index(part.contiguous().numpy().tobytes()) + 5] ^= 1
        (copy / file.name).write_bytes(content)
    for result in run(tmp_path, "load", 2, copy):
        assert "__1_0.distcp" in result.get("error", ""), result
