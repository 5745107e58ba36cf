# SPDX-License-Identifier: BSD-3-Clause
"""The package over hostile files (fuzz_package.py): torchkeep.Error or a value, in bounded memory and time."""
import io
import os

import fuzz_package
import pytest
import torch

import torchkeep

pytestmark = pytest.mark.filterwarnings("ignore")
CRASHES = os.path.join(os.path.dirname(__file__), "..", "..", "fuzz", "crashes")


def test_changed_files_are_values_or_errors():
    count, found = fuzz_package.fuzz([CRASHES] if os.path.isdir(CRASHES) else [], seconds=0, rounds=1, seed=5, keep=None)
    assert count > 300 and not found


def test_what_kills_or_hangs_its_reader_is_found(tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("good.pt", "kills.pt", "raises.pt", "good2.pt")]
    for file in files:
        torch.save(1, file)

    def load(path):
        if os.path.basename(path) == "kills.pt":
            os.abort()
        if os.path.basename(path) == "raises.pt":
            raise IndexError("of the reader")

    monkeypatch.setitem(fuzz_package.READERS, "load", load)
    found = fuzz_package.run(map(str, files))
    assert found.keys() == {str(files[1]), str(files[2])}
    assert found[str(files[1])] == ["it ended its reader with signal 6"]
    assert "load raised IndexError: of the reader" in found[str(files[2])]


def nested_file(sizes, strides, offsets):
    """A file of torch.save whose nested tensor has these parts over four numbers."""
    original = torch.nested.nested_tensor([torch.ones(2), torch.ones(2)])
    parts = {"_nested_tensor_size": sizes, "_nested_tensor_strides": strides, "_nested_tensor_storage_offsets": offsets}

    class Reduced:
        def __reduce__(self):
            return torch._utils._rebuild_nested_tensor, (original.values(), *parts.values())

    buffer = io.BytesIO()
    torch.save({"n": Reduced()}, buffer)
    return buffer


@pytest.mark.parametrize("load", [torchkeep.load, lambda file: torchkeep.verify(file.name), lambda file: torchkeep.load(
    file.name, mmap=True)], ids=["load", "verify", "mmap"])
@pytest.mark.parametrize("parts", [([[2], [3]], [[1], [1]], [0, 2]), ([[2], [2]], [[1], [1]], [0, 1 << 40]),
                                   ([[2], [2]], [[1], [1]], [-8, 2]), ([[2], [-1]], [[1], [1]], [0, 2])])
def test_a_nested_tensor_outside_its_memory_is_corrupt(load, parts, tmp_path):
    (tmp_path / "a.pt").write_bytes(nested_file(*map(torch.tensor, parts)).getvalue())
    with open(tmp_path / "a.pt", "rb") as file, pytest.raises(torchkeep.Error) as caught:
        load(file)
    assert caught.value.code == "corrupt"


def test_a_million_parts_of_one_number_are_refused_in_little_memory(tmp_path):
    many = torch.ones(1, dtype=torch.int64).expand(3_000_000)
    data = nested_file(many[:, None], many[:, None], many * 0).getvalue()
    small = nested_file(many[:, None], many[:, None], torch.zeros(1, dtype=torch.int64).expand(3_000_000)).getvalue()
    assert len(small) < 4096 < len(data)
    with pytest.raises(torchkeep.Error, match="repeat their memory"):
        torchkeep.load(io.BytesIO(small))


def test_meta_tensors_are_read_as_meta_and_never_into_memory(tmp_path):
    path = tmp_path / "meta.pt"
    with torch.device("meta"):
        model = torch.nn.Linear(3, 2)
    torch.save({"model": model.state_dict()}, path)
    loaded = torchkeep.load(path)["model"]
    assert loaded["weight"].is_meta and loaded["weight"].shape == (2, 3)
    assert "float32 [2, 3] meta" in repr(torchkeep.inspect(path)["model"]["weight"])
    torchkeep.verify(path)
    live = torch.nn.Linear(3, 2)
    before = live.weight.detach().clone()
    with pytest.raises(torchkeep.Error, match="a meta tensor has no values"):
        torchkeep.load_into(path, model=live)
    assert torch.equal(live.weight, before)
