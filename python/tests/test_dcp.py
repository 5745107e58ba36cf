# SPDX-License-Identifier: BSD-3-Clause
"""Folders of torch.distributed.checkpoint: what PyTorch wrote is what torchkeep.load gives, and damage is an error."""
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from canonical import describe
from dcp_folders import numbers
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

import torchkeep

NAMES = ["nested", "odd", "nothing", "threads", "file_per_item", "named_optimizer", "flat_optimizer", "ranks2", "ranks4",
         "fsdp", "titan"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Written by one process and by two and four ranks."""
    folder = tmp_path_factory.mktemp("dcp")
    script = pathlib.Path(__file__).parent / "dcp_folders.py"
    subprocess.run([sys.executable, script, folder], check=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return folder


@pytest.fixture
def copy(folders, tmp_path):
    """A folder to damage."""
    def make(name):
        return pathlib.Path(shutil.copytree(folders / name, tmp_path / name))
    return make


def by_pytorch(folder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp_to_torch_save(folder, tmp_path / "whole.pt")
    return torch.load(tmp_path / "whole.pt", weights_only=False)


@pytest.mark.parametrize("name", NAMES)
def test_load_gives_what_pytorchs_own_conversion_gives(folders, tmp_path, name):
    assert describe(torchkeep.load(folders / name)) == describe(by_pytorch(folders / name, tmp_path))


@pytest.mark.parametrize("name", ["ranks4", "odd"])
def test_a_mapped_load_is_the_same(folders, name):
    assert describe(torchkeep.load(folders / name, mmap=True)) == describe(torchkeep.load(folders / name))


@pytest.mark.parametrize("name", ["ranks4", "nested"])
def test_a_part_of_a_folder_is_that_part(folders, name):
    whole = torchkeep.load(folders / name)
    key = next(iter(whole))
    assert describe(torchkeep.load(folders / name, only=key)) == describe(whole[key])
    assert describe(torchkeep.load(folders / name, only=[key])) == describe({key: whole[key]})


@pytest.mark.parametrize("world", [2, 4])
def test_metadata_of_each_rank_is_merged(folders, world):
    state = torchkeep.load(folders / f"own_metadata{world}")
    assert torch.equal(state["rows"], numbers(7, 6)) and torch.equal(state["plain"], numbers(7, 6)[:2])
    assert state["step"] == 3


def test_sharded_training_goes_on_in_one_process(folders):
    """FSDP2's weights and moments by name, in a plain model and optimizer."""
    from torch.distributed.checkpoint.state_dict import set_state_dict

    state = torchkeep.load(folders / "fsdp")
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, state["model"][name])
        assert torch.equal(optimizer.state[parameter]["exp_avg"], state["optimizer"]["state"][name]["exp_avg"])
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_load_into_reads_straight_into_tensors(folders):
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 3))
    places = [parameter.data_ptr() for parameter in model.parameters()]
    torchkeep.load_into(folders / "fsdp", model=model)
    assert places == [parameter.data_ptr() for parameter in model.parameters()]
    expected = torchkeep.load(folders / "fsdp")["model"]
    assert all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())


def test_inspect_and_verify_take_a_folder(folders):
    seen = torchkeep.inspect(folders / "ranks4")
    assert seen["rows"].shape == (7, 6) and seen["halves"].dtype == "bfloat16" and seen["step"] == 3
    assert seen["columns"].numpy().tolist() == numbers(7, 6).tolist()
    seen.verify()
    torchkeep.verify(folders / "ranks4")


def test_progress_ends_at_the_bytes_of_all_files(folders):
    told = []
    torchkeep.load(folders / "ranks4", progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] >= sum(path.stat().st_size for path in (folders / "ranks4").iterdir())


# What DCP loads without a word.

def test_a_flipped_byte_is_found_where_dcp_loads_it(copy, tmp_path):
    folder = copy("ranks4")
    path = folder / "__2_0.distcp"
    data = bytearray(path.read_bytes())
    place = data.find(numbers(7, 6)[4:6].numpy().tobytes())
    assert place > 0
    data[place + 2] ^= 0x40
    path.write_bytes(data)
    assert not torch.equal(by_pytorch(folder, tmp_path)["rows"], numbers(7, 6))  # another number, no error
    for read in (torchkeep.load, torchkeep.verify, lambda path: torchkeep.load(path, mmap=True),
                 lambda path: torchkeep.inspect(path)["rows"].numpy()):
        with pytest.raises(torchkeep.Error, match=r"__2_0\.distcp.*'rows'.*CRC-32") as caught:
            read(folder)
        assert caught.value.code == "corrupt"


def edit(folder, change):
    """Changes the .metadata with PyTorch's own classes."""
    path = folder / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))


def place_of(metadata, fqn, number=0):
    return [place for index, place in metadata.storage_data.items() if index.fqn == fqn][number]


@pytest.mark.parametrize("change, message", [
    (lambda m: m.state_dict_metadata["rows"].chunks.pop(1), "'rows'.*12 of 42 elements are in no chunk"),
    (lambda m: m.state_dict_metadata["rows"].chunks.append(m.state_dict_metadata["rows"].chunks[0]), "overlap"),
    (lambda m: m.storage_data.pop(next(index for index in m.storage_data if index.fqn == "columns")), "has no item"),
    (lambda m: setattr(place_of(m, "rows"), "relative_path", "../__0_0.distcp"), "must name a file in this folder"),
    (lambda m: setattr(place_of(m, "rows"), "length", 10**9), "the file ends at"),
    (lambda m: setattr(place_of(m, "rows"), "offset", -1), "an offset of -1"),
    (lambda m: setattr(m.state_dict_metadata["rows"].properties, "dtype", torch.int32), "promises int32"),
    (lambda m: setattr(place_of(m, "step"), "transform_descriptors", ["stream.zstd/1"]), "stream.zstd/1"),
])
def test_metadata_that_lies_is_an_error_that_names_the_key(copy, change, message):
    folder = copy("ranks4")
    edit(folder, change)
    with pytest.raises(torchkeep.Error, match=message):
        torchkeep.load(folder)


def test_missing_files_are_named_with_their_ranks(copy):
    folder = copy("ranks4")
    (folder / "__3_0.distcp").unlink()
    with pytest.raises(torchkeep.Error, match=r"missing: __3_0\.distcp of rank 3 with '"):
        torchkeep.load(folder)
    (folder / ".metadata").unlink()
    with pytest.raises(torchkeep.Error, match="There are 3 data files of ranks 0, 1, 2"):
        torchkeep.load(folder)


def test_the_metadata_of_one_rank_of_several_is_an_error_where_dcp_leaves_zeros(copy):
    folder = copy("own_metadata2")
    (folder / "__1.metadata").unlink()
    state = {"rows": torch.zeros(7, 6)}
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    assert torch.equal(state["rows"][4:], torch.zeros(3, 6))  # no error
    with pytest.raises(torchkeep.Error, match="18 of 42 elements are in no chunk"):
        torchkeep.load(folder)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_metadata_or_a_value_is_ever_called(copy, tmp_path):
    mark = tmp_path / "called"
    folder = copy("nested")
    edit(folder, lambda metadata: setattr(metadata, "note", Attack(str(mark))))
    shutil.rmtree(mark, ignore_errors=True)
    for read in (torchkeep.load, torchkeep.verify):
        with pytest.raises(torchkeep.Error, match=r"refused global 'posix\.mkdir'|posix\.mkdir"):
            read(folder) if read is torchkeep.load else torchkeep.load(folder)
    assert not mark.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"x": Attack(str(mark))}, checkpoint_id=tmp_path / "value", no_dist=True)
    with pytest.raises(torchkeep.Error, match=r"'x'.*refused global 'posix\.mkdir'"):
        torchkeep.load(tmp_path / "value")
    assert not mark.exists()
