# SPDX-License-Identifier: BSD-3-Clause
"""What torchkeep writes, PyTorch's safe loader reads, in every way it has of reading, to the bit and to the sharing."""
import io
import json
import os
import shutil
import subprocess
import zipfile

import pytest
import torch
from torch.utils.serialization import config

import canonical

TOOL = os.path.join(os.environ["TORCHKEEP_BIN"], "value_tool")
# Too large to be read in every way.
HEAVY = {"deep_lists", "deep_dicts", "deep_tuples", "many_tensors", "many_entries", "long_key"}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="session")
def states(tmp_path_factory):
    folder = tmp_path_factory.mktemp("states")
    subprocess.run([TOOL, "states", folder], check=True)
    return folder


def names():
    """Every state, without writing files before the tests run."""
    listing = subprocess.run([TOOL, "names"], check=True, capture_output=True, text=True).stdout
    return listing.split()


NAMES = names()
SMALL = [name for name in NAMES if name not in HEAVY]


@pytest.fixture(autouse=True)
def check_offsets(monkeypatch):
    """Every plain load then compares the offsets it computes with those in the file."""
    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")


def load(path, **options):
    return torch.load(path, weights_only=True, **options)


def expected(states, name):
    return json.loads((states / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_the_safe_loader_sees_the_same_value(states, name):
    assert canonical.describe(load(states / f"{name}.pt")) == expected(states, name)


@pytest.mark.parametrize("name", SMALL)
def test_mapped(states, name):
    assert canonical.describe(load(states / f"{name}.pt", mmap=True)) == expected(states, name)


@pytest.mark.parametrize("name", SMALL)
def test_mapped_by_computed_offsets(states, name):
    with config.patch("load.calculate_storage_offsets", True):
        assert canonical.describe(load(states / f"{name}.pt", mmap=True)) == expected(states, name)


@pytest.mark.parametrize("name", [name for name in SMALL if name not in ("quantized", "sparse", "nested")])
def test_offsets_seen_from_the_meta_device(states, name):
    path = states / f"{name}.pt"
    reader = torch._C.PyTorchFileReader(str(path))
    offsets = {reader.get_record_offset(record) for record in reader.get_all_records() if record.startswith("data/")}
    todo, seen = [load(path, map_location="meta")], set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            offset = value.untyped_storage()._checkpoint_offset
            assert offset is None or offset in offsets
        elif isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            todo += value


@pytest.mark.parametrize("name", NAMES)
def test_python_finds_the_zip_intact(states, name):
    with zipfile.ZipFile(states / f"{name}.pt") as archive:
        assert archive.testzip() is None


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip on this machine")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "many_tensors"])
def test_unzip_finds_the_zip_intact(states, name):
    subprocess.run(["unzip", "-tqq", states / f"{name}.pt"], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_zip_is_byte_for_byte_what_pytorchs_writer_makes(states, name):
    """Given the same records, up to the directory and in its entries (PyTorch's has one more, .data/serialization_id)."""
    ours = (states / f"{name}.pt").read_bytes()
    stream = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(stream, True, 64)
    with zipfile.ZipFile(io.BytesIO(ours)) as archive:
        start = archive.start_dir
        for entry in archive.infolist()[:-1]:
            writer.write_record(entry.filename.removeprefix("archive/"), archive.read(entry), entry.file_size)
        assert archive.infolist()[-1].filename == "archive/version"
    writer.write_end_of_file()
    theirs = stream.getvalue()
    with zipfile.ZipFile(stream) as archive:
        their_start = archive.start_dir
    entries = ours[start:-98]  # without the end records
    assert ours[:start] == theirs[:start]
    assert entries == theirs[their_start:their_start + len(entries)]


def test_records_beyond_four_gibibytes(tmp_path):
    path = tmp_path / "huge.pt"
    subprocess.run([TOOL, "huge", path], check=True)
    if path.stat().st_blocks * 512 > 2**30:
        pytest.skip("this file system has no holes")
    with config.patch({"load.calculate_storage_offsets": True}):  # compared with the real ones: see check_offsets
        value = load(path, mmap=True)
    assert value["behind"].tolist() == [1, 2, 3]
    assert value["behind"].untyped_storage().nbytes() == 12
    assert value["zeros"].shape == (4200 << 17,)
    assert value["zeros"][-1] == 0
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("archive/data/0").file_size == 4200 << 20
        assert archive.getinfo("archive/data/1").header_offset > 2**32
        assert archive.read("archive/data/1") == bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])
