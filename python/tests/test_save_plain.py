# SPDX-License-Identifier: BSD-3-Clause
"""What save() takes beside plain data and tensors, and what it writes then, read by PyTorch's safe loader."""
import argparse
import datetime
import enum
import io
import pathlib
import pickle
import subprocess
import sys
import types
import zipfile

import numpy
import pytest
import torch

import torchkeep


def round_trip(value, path, **options):
    torchkeep.save(value, path, **options)
    theirs = torch.load(path, weights_only=True)
    ours = torchkeep.load(path)
    assert repr(ours) == repr(theirs)
    return theirs


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"])
def test_an_array_of_numbers_is_saved_as_the_tensor_of_its_elements(dtype, tmp_path):
    array = numpy.arange(12).astype(dtype).reshape(3, 4)
    value = {"plain": array, "view": array[1:, ::2], "turned": array[::-1], "transposed": array.T,
             "big": array.astype(array.dtype.newbyteorder(">")), "read only": numpy.broadcast_to(array[0], (2, 4)),
             "empty": array[:0], "no dimensions": array[0, 0:1].reshape(())}
    found = round_trip(value, tmp_path / "a.pt")
    for name, part in value.items():
        assert found[name].dtype == torch.from_numpy(array).dtype and found[name].shape == part.shape
        assert numpy.array_equal(found[name].numpy(), part), name


def test_numpy_scalars_are_pythons_numbers_or_tensors_by_request(tmp_path):
    scalars = [numpy.float64(0.1), numpy.float32(0.1), numpy.float16(0.1), numpy.int64(-2**63), numpy.uint64(2**64 - 1),
               numpy.int8(-1), numpy.bool_(True), numpy.complex64(1 + 2j), numpy.str_("t"), numpy.bytes_(b"b")]
    found = round_trip(scalars, tmp_path / "a.pt")
    assert found == [one.item() for one in scalars]
    assert [type(one) for one in found] == [float, float, float, int, int, int, bool, complex, str, bytes]
    found = round_trip(scalars[:8], tmp_path / "a.pt", numpy="tensors")
    assert [one.dtype for one in found] == [torch.float64, torch.float32, torch.float16, torch.int64, torch.uint64,
                                            torch.int8, torch.bool, torch.complex64]
    assert [one.item() for one in found] == [one.item() for one in scalars[:8]]


def test_arrays_of_texts_and_objects_are_lists(tmp_path):
    value = {"names": numpy.array([["cat", "dog"]]), "mixed": numpy.array([1, None, "x", numpy.float32(0.5)], dtype=object)}
    assert round_trip(value, tmp_path / "a.pt") == {"names": [["cat", "dog"]], "mixed": [1, None, "x", 0.5]}


def test_an_array_in_two_places_is_one_tensor_in_two_places(tmp_path):
    array = numpy.zeros(3)
    found = round_trip([array, array], tmp_path / "a.pt")
    assert found[0] is found[1]


@pytest.mark.parametrize("value", [numpy.longdouble(0.1), numpy.datetime64("2026-01-01"), numpy.timedelta64(1, "s"),
                                   numpy.zeros(2, "M8[s]"), numpy.zeros(2, [("a", "i4")]), numpy.ma.zeros(2),
                                   numpy.zeros(2, numpy.longdouble)], ids=lambda value: type(value).__name__)
def test_what_numpy_alone_has_is_refused_with_its_place(value, tmp_path):
    with pytest.raises(torchkeep.Error) as caught:
        torchkeep.save({"a": [value]}, tmp_path / "a.pt")
    assert caught.value.code == "unsupported" and caught.value.key == "a.0" and caught.value.file == str(tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


class Color(enum.Enum):
    RED = 1


def test_default_says_what_stands_for_an_object(tmp_path):
    value = {"args": argparse.Namespace(path=pathlib.Path("a"), when=datetime.date(2026, 1, 1), lr=0.1), "color": Color.RED}

    def default(thing):
        if isinstance(thing, argparse.Namespace):
            return vars(thing)
        return thing.name if isinstance(thing, enum.Enum) else str(thing)

    assert round_trip(value, tmp_path / "a.pt", default=default) == {
        "args": {"path": "a", "when": "2026-01-01", "lr": 0.1}, "color": "RED"}
    file = io.BytesIO()
    torchkeep.save(value, file, default=default)
    file.seek(0)
    assert torchkeep.load(file)["color"] == "RED"


def test_default_is_called_once_for_each_object_and_cycles_stay(tmp_path):
    calls, namespace = [], types.SimpleNamespace()
    namespace.me = namespace

    def default(thing):
        calls.append(thing)
        return vars(thing)

    torchkeep.save([namespace, namespace], tmp_path / "a.pt", default=default)
    found = torchkeep.load(tmp_path / "a.pt")
    assert len(calls) == 1 and found[0] is found[1] and found[0]["me"] is found[0]


def test_a_default_that_does_not_help_is_an_error_with_the_place(tmp_path):
    for default, part in ((lambda thing: thing, "gave back"), (lambda thing: type(thing)(0), "again and again")):
        with pytest.raises(torchkeep.Error, match=part) as caught:
            torchkeep.save({"config": {"x": Count(1)}}, tmp_path / "a.pt", default=default)
        assert caught.value.key == "config.x"
    with pytest.raises(ZeroDivisionError):  # what it raises comes out
        torchkeep.save([Count(1)], tmp_path / "a.pt", default=lambda thing: 1 / 0)


class Count:
    def __init__(self, number):
        self.number = number


def test_an_error_names_what_to_save_instead(tmp_path):
    for value, advice in ((argparse.Namespace(), "vars"), (pathlib.Path("a"), "str"), (Color.RED, "value"), (Count(1), "default=")):
        with pytest.raises(torchkeep.Error, match=advice):
            torchkeep.save({"a": value}, tmp_path / "a.pt")


def test_an_opaque_is_refused(tmp_path):
    torch.save({"c": Count(1)}, tmp_path / "a.pt")
    with pytest.raises(torchkeep.Error, match="Opaque") as caught:
        torchkeep.save(torchkeep.load(tmp_path / "a.pt"), tmp_path / "b.pt")
    assert caught.value.key == "c"


# --- What PyTorch has beside tensors

def test_storages_by_themselves_and_layouts_are_saved_and_shared(tmp_path):
    tensor = torch.arange(6.0)
    value = {"t": tensor, "typed": tensor.storage(), "untyped": torch.ones(2).untyped_storage(), "layout": torch.sparse_csr}
    torchkeep.save(value, tmp_path / "a.pt")
    for found in (torch.load(tmp_path / "a.pt", weights_only=True), torchkeep.load(tmp_path / "a.pt")):
        assert type(found["typed"]) is torch.storage.TypedStorage and found["typed"].dtype == torch.float32
        assert found["typed"].data_ptr() == found["t"].data_ptr()
        assert found["untyped"].tolist() == value["untyped"].tolist()
        assert found["layout"] is torch.sparse_csr
    torchkeep.save(torchkeep.load(tmp_path / "a.pt"), tmp_path / "b.pt")  # and again


def test_a_tensor_of_zeros_without_memory_is_saved_as_zeros(tmp_path):
    found = round_trip({"z": torch._efficientzerotensor((2, 3))}, tmp_path / "a.pt")["z"]
    assert torch.equal(found, torch.zeros(2, 3))


def legacy_storages():
    """A stream of PyTorch before 1.6 whose storage is saved whole, and once as a view of three elements."""
    def number(value):
        return pickle.dumps(value, 2)

    def storage(view):
        return (b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0aX\x03\0\0\0cpuK\x05" + view + b"tQ")

    body = b"\x80\2]" + storage(b"N") + b"a" + storage(b"(X\x01\0\0\0bK\1K\3t") + b"a."
    head = number(0x1950A86A20F9469CFC6C) + number(1001) + number({"little_endian": True})
    return head + body + number(["a"]) + (5).to_bytes(8, "little") + torch.arange(5.0).numpy().tobytes()


def test_a_part_of_a_storage_that_was_saved_by_itself_is_that_part(tmp_path):
    (tmp_path / "a.pt").write_bytes(legacy_storages())
    whole, part = torchkeep.load(tmp_path / "a.pt")
    assert whole.tolist() == [0, 1, 2, 3, 4] and part.tolist() == [1, 2, 3]
    part[0] = 9.0
    assert whole[1] == 9.0


def test_checkpoints_that_follow_each_other_in_one_file_object_are_read_in_turn(tmp_path):
    file = io.BytesIO()
    file.write(b"head")
    for number in range(3):
        torch.save({"number": number, "t": torch.full((2,), float(number))}, file, _use_new_zipfile_serialization=False)
    pickle.dump([1, 2], file, 2)
    file.write(b"tail")
    file.seek(4)
    for number in range(3):
        found = torchkeep.load(file)
        assert found["number"] == number and found["t"].tolist() == [number] * 2
    assert torchkeep.load(file) == [1, 2]
    assert file.read() == b"tail"


# --- Whole modules, and checkpoints inside a zip

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
        self.head = torch.nn.Linear(2, 3, bias=False)
        self.tied = self.head
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("kept", torch.zeros(2))
        self.register_buffer("dropped", torch.zeros(2), persistent=False)
        self.register_parameter("absent", None)


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "torchkeep", *map(str, arguments)], capture_output=True, text=True)


def test_a_whole_module_has_the_state_dict_that_pytorch_gives(tmp_path):
    net = Net().half()
    torch.save(net, tmp_path / "whole.pt")
    torch.save({"model": torch.nn.DataParallel(net), "epoch": 3}, tmp_path / "in_a_dict.pt")
    for found, expected in ((torchkeep.state_dict_of(tmp_path / "whole.pt"), net.state_dict()),
                            (torchkeep.state_dict_of(torchkeep.load(tmp_path / "whole.pt")), net.state_dict()),
                            (torchkeep.state_dict_of(tmp_path / "in_a_dict.pt"), torch.nn.DataParallel(net).state_dict()),
                            (torchkeep.state_dict_of(tmp_path / "in_a_dict.pt", "model"), torch.nn.DataParallel(net).state_dict())):
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) and type(found[name]) is torch.Tensor for name in expected)
        assert found[next(n for n in found if n.endswith("tied.weight"))].data_ptr() == found[
            next(n for n in found if n.endswith("head.weight"))].data_ptr()
    net.load_state_dict(torchkeep.state_dict_of(tmp_path / "whole.pt"))


def test_a_state_dict_comes_back_as_it_is_and_doubt_is_an_error(tmp_path):
    net = torch.nn.Linear(2, 2)
    torch.save(net.state_dict(), tmp_path / "state.pt")
    assert list(torchkeep.state_dict_of(tmp_path / "state.pt")) == ["weight", "bias"]
    torch.save({"a": net, "b": net}, tmp_path / "two.pt")
    with pytest.raises(torchkeep.NotFoundError, match="several modules.*'a', 'b'"):
        torchkeep.state_dict_of(tmp_path / "two.pt")
    torch.save(3, tmp_path / "int.pt")
    with pytest.raises(torchkeep.NotFoundError, match="found a int|found an int"):
        torchkeep.state_dict_of(tmp_path / "int.pt")


def test_the_command_flattens_modules_and_never_writes_an_empty_file(tmp_path):
    net = Net()
    torch.save({"model": net, "epoch": 3}, tmp_path / "a.pt")
    refused = command("convert", tmp_path / "a.pt", tmp_path / "a.safetensors", "--only", "model")
    assert refused.returncode == 3 and "--flatten-modules" in refused.stderr and not (tmp_path / "a.safetensors").exists()
    assert command("convert", tmp_path / "a.pt", tmp_path / "a.safetensors", "--only", "model", "--flatten-modules").returncode == 0
    assert sorted(torchkeep.load(tmp_path / "a.safetensors")) == sorted(set(net.state_dict()) - {"tied.weight"}) or \
        sorted(torchkeep.load(tmp_path / "a.safetensors")) == sorted(net.state_dict())
    assert command("convert", tmp_path / "a.pt", tmp_path / "b.pt", "--flatten-modules").returncode == 0
    found = torch.load(tmp_path / "b.pt", weights_only=True)
    assert found["epoch"] == 3 and list(found["model"]) == list(net.state_dict())


def test_a_checkpoint_inside_a_zip_is_opened_by_its_name_everywhere(tmp_path):
    for name, value in (("policy.pth", {"w": torch.ones(2)}), ("variables.pth", {"n": 1})):
        torch.save(value, tmp_path / name)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "agent.zip", "w", method) as archive:
            archive.writestr("data", "{}")
            archive.write(tmp_path / "policy.pth", "policy.pth")
            archive.write(tmp_path / "variables.pth", "inner/variables.pth")
        path = f"{tmp_path}/agent.zip::policy.pth"
        assert torchkeep.load(path)["w"].tolist() == [1, 1]
        assert torchkeep.load(f"{tmp_path}/agent.zip::inner/variables.pth") == {"n": 1}
        assert [name for name, _ in torchkeep.inspect(path).tensors()] == ["w"]
        assert command("ls", "-t", "--names", path).stdout.split() == ["w"]
        assert command("convert", path, tmp_path / "p.safetensors", "-f").returncode == 0
    with pytest.raises(torchkeep.Error, match="agent.zip::policy.pth"):
        torchkeep.load(tmp_path / "agent.zip")
    with pytest.raises(torchkeep.NotFoundError, match="has no file 'x.pth'; it has: data, policy.pth"):
        torchkeep.load(f"{tmp_path}/agent.zip::x.pth")
    torchkeep.save({"n": 2}, tmp_path / "a::b.pt")  # a name like any other
    assert torchkeep.load(tmp_path / "a::b.pt") == {"n": 2}


class Config:
    def __init__(self):
        self.width, self.itself = 3, self


def with_objects(path):
    """A checkpoint with objects of unknown classes as values, elements and keys."""
    torch.save({"w": torch.ones(2), "config": Config(), "list": [1, Config(), 2], "by class": {Config: 1, "b": 2}}, path)
    return torchkeep.load(path)


def test_an_opaque_is_refused_unless_one_says_what_becomes_of_it(tmp_path):
    found = with_objects(tmp_path / "theirs.pt")
    with pytest.raises(torchkeep.Error, match='opaque="drop" leaves such objects out') as error:
        torchkeep.save(found, tmp_path / "a.pt")
    assert (error.value.code, error.value.key) == ("unsupported", "config") and not (tmp_path / "a.pt").exists()
    with pytest.raises(torchkeep.Error, match='expected "refuse", "drop" or "keep"'):
        torchkeep.save(found, tmp_path / "a.pt", opaque="none")


def test_opaques_are_left_out_by_request(tmp_path):
    found = round_trip(with_objects(tmp_path / "theirs.pt"), tmp_path / "a.pt", opaque="drop")
    assert list(found) == ["w", "list", "by class"] and found["list"] == [1, None, 2] and found["by class"] == {"b": 2}
    with pytest.raises(torchkeep.Error, match="the whole is an object"):
        torchkeep.save(torchkeep.Opaque("a.B"), tmp_path / "b.pt", opaque="drop")


def test_what_an_opaque_says_is_kept_as_a_dict_by_request(tmp_path):
    source = with_objects(tmp_path / "theirs.pt")
    del source["by class"]
    torchkeep.save(source, tmp_path / "a.pt", opaque="keep")
    found = torch.load(tmp_path / "a.pt", weights_only=True)["config"]
    assert found["class"].endswith("Config") and found["kind"] == "object" and found["state"]["width"] == 3
    assert found["state"]["itself"] is found  # what contains itself still does
    stream = io.BytesIO()
    torchkeep.save([torchkeep.Opaque("a.B", args=(1,))], stream, opaque="keep")
    assert torch.load(io.BytesIO(stream.getvalue()), weights_only=True) == [{"class": "a.B", "kind": "object", "args": (1,)}]
