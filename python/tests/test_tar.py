# SPDX-License-Identifier: BSD-3-Clause
"""The tar archive of 2017 (PyTorch before 0.1.10): written here as that release wrote it, read by PyTorch and by us."""
import collections
import io
import pickle
import struct
import tarfile

import pytest
import torch

import torchkeep

WEIGHT, VIEW = 94_000_001, 94_000_002  # keys of tensors, which were addresses
STORAGE, PART = 94_000_003, 94_000_004  # of storages
NUMBERS = struct.pack("<6f", *range(6))


class Kept:
    """Stands for a tensor or storage of this key: pickled as a persistent id."""

    def __init__(self, key):
        self.key = key


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        return str(thing.key) if isinstance(thing, Kept) else None  # a text, of which torch.load takes int()


def pickled(thing, protocol=2):
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(thing)
    return stream.getvalue()


def tensor(key, storage, sizes, strides, offset, type_name="FloatTensor"):
    dimensions = struct.pack(f"<ii{len(sizes)}q{len(strides)}qq", len(sizes), 0, *sizes, *strides, offset)
    return pickled((key, storage, getattr(torch, type_name))) + dimensions


def archive(content, protocol=2, sys_info=True):
    """Two tensors: 2 x 3 over the whole storage, and two elements of a view of its end."""
    storages = (pickled(1) + pickled((STORAGE, "cpu", torch.FloatStorage)) + struct.pack("<q", 6) + NUMBERS
                + pickled([(PART, STORAGE, 4, 2)]))
    tensors = pickled(2) + tensor(WEIGHT, STORAGE, (2, 3), (3, 1), 0) + tensor(VIEW, PART, (2,), (1,), 0)
    members = {"sys_info": pickled({"protocol_version": 1000, "little_endian": True}), "pickle": pickled(content, protocol),
               "tensors": tensors, "storages": storages}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            if name == "sys_info" and not sys_info:
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


CONTENT = collections.OrderedDict([("weight", Kept(WEIGHT)), ("again", Kept(WEIGHT)), ("bias", Kept(VIEW)), ("epoch", 3)])


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_is_read_as_pytorch_reads_it(protocol, tmp_path):
    (tmp_path / "a.pt").write_bytes(archive(CONTENT, protocol))
    theirs = torch.load(tmp_path / "a.pt", weights_only=False)
    ours = torchkeep.load(tmp_path / "a.pt")
    assert type(ours) is collections.OrderedDict and list(ours) == list(theirs) and ours["epoch"] == 3
    for name in ("weight", "bias"):
        assert torch.equal(ours[name], theirs[name]) and ours[name].stride() == theirs[name].stride()
    assert ours["again"] is ours["weight"]
    assert torch.equal(ours["bias"], torch.tensor([4.0, 5.0]))


def test_views_of_one_storage_share_their_memory(tmp_path):
    (tmp_path / "a.pt").write_bytes(archive(CONTENT))
    ours = torchkeep.load(tmp_path / "a.pt")
    ours["bias"].fill_(9)
    assert ours["weight"].flatten()[4:].tolist() == [9, 9]
    torchkeep.save(ours, tmp_path / "b.pt")
    again = torch.load(tmp_path / "b.pt", weights_only=True)
    assert again["weight"].untyped_storage().data_ptr() == again["bias"].untyped_storage().data_ptr()


def test_verify_knows_its_members_and_names_others(tmp_path):
    good = archive(CONTENT)
    for data in (good, archive(CONTENT, sys_info=False)):
        torchkeep.verify(write(tmp_path / "a.pt", data))
    stream = io.BytesIO(good)
    with tarfile.open(fileobj=stream, mode="a:", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("hidden")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"more"))
    torchkeep.load(write(tmp_path / "b.pt", stream.getvalue()))
    with pytest.raises(torchkeep.Error, match="a member 'hidden' of 4 bytes, which no reader looks at") as error:
        torchkeep.verify(tmp_path / "b.pt")
    assert error.value.code == "corrupt"


def write(path, data):
    path.write_bytes(data)
    return path


def test_no_changed_byte_of_what_it_says_raises_anything_else(tmp_path):
    good = archive(CONTENT)
    for at in range(0, len(good), 7):
        data = bytearray(good)
        data[at] ^= 1 << at % 8
        try:
            torchkeep.load(write(tmp_path / "a.pt", bytes(data)))
        except torchkeep.Error:
            pass


def test_a_tensor_that_nothing_holds_is_an_error_with_its_number(tmp_path):
    with pytest.raises(torchkeep.Error, match="nothing has the number 77"):
        torchkeep.load(write(tmp_path / "a.pt", archive({"w": Kept(77)})))
