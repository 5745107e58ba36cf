# SPDX-License-Identifier: BSD-3-Clause
"""What PyTorch's own tests of serialization ask of torch.save and torch.load, asked of torchkeep: whatever PyTorch's safe
loader brings back, torchkeep brings back the same; whatever it refuses, torchkeep refuses when saving."""
import collections
import enum
import io
import pathlib
import weakref

import pytest
import torch
from canonical import describe

import torchkeep

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
          torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex128, torch.complex64,
          torch.complex32, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


def some(dtype):
    """24 elements of many bits."""
    return torch.arange(24 * dtype.itemsize, dtype=torch.uint8).mul(7).remainder(2 if dtype == torch.bool else 251).view(dtype)


# How a tensor may lie in its storage.
SHAPES = {
    "whole": lambda t: t,
    "an offset": lambda t: t[5:],
    "a part in the middle": lambda t: t[5:9],
    "a matrix": lambda t: t.view(4, 6),
    "transposed": lambda t: t.view(4, 6).t(),
    "every third": lambda t: t[1::3],
    "expanded": lambda t: t[:4].view(4, 1).expand(4, 5),
    "permuted": lambda t: t.view(2, 3, 4).permute(2, 0, 1),
    "overlapping": lambda t: t.as_strided((3, 4), (2, 1), 1),
    "stride 0": lambda t: t.as_strided((3,), (0,), 23),
    "0-d": lambda t: t[7],
    "no elements, an offset": lambda t: t[3:3],
    "no elements, a shape": lambda t: t[:0].view(0, 3),
    "size 1, odd strides": lambda t: t.as_strided((1, 4), (99, 1)),
    "eight dimensions": lambda t: t.view(1, 2, 1, 3, 1, 2, 1, 2),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_in_every_place_of_its_storage(dtype, tmp_path):
    base = some(dtype)
    value = {name: make(base) for name, make in SHAPES.items()}
    if dtype.is_floating_point or dtype.is_complex:
        value["parameter"] = torch.nn.Parameter(base.view(4, 6).t())
    torchkeep.save(value, tmp_path / "ours.pt", durable=False)
    torch.save(value, tmp_path / "theirs.pt")
    expected = describe(torch.load(tmp_path / "theirs.pt", weights_only=True))
    assert describe(value) == expected
    for name, load in (("ours", torch_load), ("ours", torchkeep.load), ("theirs", torchkeep.load)):
        assert describe(load(tmp_path / f"{name}.pt")) == expected


def torch_load(path):
    return torch.load(path, weights_only=True)


def larger_storage():
    tensor = torch.arange(10.0)
    return [tensor.resize_(3), tensor.untyped_storage().nbytes()][:1]


def frozen_and_detached():
    weight = torch.nn.Parameter(torch.arange(6.0))
    return {"weight": weight, "detached": weight.detach(), "data": weight.data, "frozen": weight.detach()[2:]}


def with_gradient():
    weight = torch.nn.Parameter(torch.ones(3))
    (weight * 2).sum().backward()
    return weight


class Color(enum.IntEnum):
    RED = 1


class Text(str):
    pass


class Subclass(torch.Tensor):
    pass


Point = collections.namedtuple("Point", "x y")

BEHAVIOURS = {
    "a storage that is larger than its tensor": larger_storage,
    "tensors that share with a parameter": frozen_and_detached,
    "a parameter with a gradient": with_gradient,
    "a tensor made in inference mode": lambda: torch.inference_mode()(lambda: torch.ones(2))(),
    "a tensor of NumPy's memory": lambda: torch.from_numpy(__import__("numpy").arange(6, dtype="int16")),
    "a view of NumPy's memory": lambda: torch.from_numpy(__import__("numpy").arange(6, dtype="float32")[2:5]),
    "a tensor through DLPack": lambda: torch.from_dlpack(torch.arange(5)),
    "pinned in a tuple, twice": lambda: (lambda t: (t, [t], {"t": t}))(torch.ones(2)),
    "a conjugate of a part": lambda: torch.arange(6.0, dtype=torch.float64).to(torch.complex128)[1:4].conj(),
    "lazy negation": lambda: torch._neg_view(torch.arange(4.0)),
    "an uncoalesced sparse tensor": lambda: torch.sparse_coo_tensor([[0, 0, 1]], [1.0, 2.0, 3.0], (3,)),
    "a sparse tensor of blocks": lambda: torch.sparse_coo_tensor([[0, 2]], [[1.0, 2.0], [3.0, 4.0]], (3, 2)),
    "an empty sparse tensor": lambda: torch.sparse_coo_tensor(size=(2, 3)),
    "sparse tensors that share": lambda: (lambda s: [s, s])(torch.eye(2).to_sparse()),
    "int8 per tensor, a view": lambda: torch.quantize_per_tensor(torch.arange(6.0), 0.5, 1, torch.quint8)[2:4],
    "a module's state": lambda: torch.nn.LSTM(2, 3).state_dict(),
    "an optimizer's state": lambda: torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).state_dict(),
    "deep and mixed": lambda: {"a": [({"b": (torch.ones(1), [None, True])},)]},
    "an empty state dict": lambda: torch.nn.Module().state_dict(),
    "nothing in a list": lambda: [[], (), {}, set(), "", 0, 0.0],
    # What the safe loader refuses, or PyTorch cannot save
    "a subclass": lambda: torch.ones(2).as_subclass(Subclass),
    "a typed storage": lambda: torch.ones(2).storage(),
    "a parameter without a shape": lambda: torch.nn.parameter.UninitializedParameter(),
    "a jagged tensor": lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged),
    "a generator": lambda: torch.Generator(),
    "a module": lambda: torch.nn.Linear(1, 1),
    "an enumeration": lambda: Color.RED,
    "a str of a class": lambda: Text("x"),
    "a namedtuple": lambda: Point(1, 2),
    "a path": lambda: pathlib.PurePosixPath("x"),
    "a range": lambda: range(3),
    "a slice": lambda: slice(1, 2),
    "a class": lambda: dict,
    "a function": lambda: len,
    "a layout": lambda: torch.sparse_coo,
    "a memory format": lambda: torch.channels_last,
    "an ellipsis": lambda: ...,
}
# PyTorch's safe loader reads some of these, torchkeep does not save them, and docs/python/save-and-load.md says so.
DOCUMENTED = {"a jagged tensor", "a memory format"}


def described(value):
    """describe(), and what it has no entry for."""
    inner = value["value"]
    if isinstance(inner, (torch.storage.TypedStorage, torch.UntypedStorage)):
        return [type(inner).__name__, str(getattr(inner, "dtype", None)), inner.tolist()]
    return str(inner) if isinstance(inner, torch.layout) else describe(value)


@pytest.mark.parametrize("name", BEHAVIOURS)
@pytest.mark.filterwarnings("ignore")
def test_torchkeep_saves_what_the_safe_loader_brings_back_and_refuses_the_rest(name, tmp_path):
    value = {"value": BEHAVIOURS[name]()}
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        expected = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    except Exception:
        expected = None
    if expected is None or name in DOCUMENTED:
        with pytest.raises(torchkeep.Error) as caught:
            torchkeep.save(value, tmp_path / "a.pt")
        assert caught.value.key == "value" and not list(tmp_path.iterdir())
        return
    torchkeep.save(value, tmp_path / "a.pt", durable=False)
    assert described(torch_load(tmp_path / "a.pt")) == described(expected)
    assert described(torchkeep.load(tmp_path / "a.pt")) == described(expected)
    assert described(torchkeep.load(io.BytesIO(buffer.getvalue()))) == described(expected)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_both_of_pytorchs_own_formats_are_read(new, tmp_path):
    value = {"model": torch.nn.Linear(2, 3).state_dict(), "views": [some(torch.float32), some(torch.int16)[3:7]]}
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert describe(torchkeep.load(tmp_path / "a.pt")) == describe(torch_load(tmp_path / "a.pt"))


@pytest.mark.parametrize("content", [b"", b"PK", b"hello, world", b"\x80\x02}", bytes(1000)], ids=repr)
def test_what_is_no_checkpoint_is_an_error_and_not_a_crash(content, tmp_path):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(torchkeep.Error, match="a.pt"):
        torchkeep.load(tmp_path / "a.pt")


@pytest.mark.parametrize("make", [
    lambda: torch.sparse_coo_tensor([[0, 9]], [1.0, 2.0], (3,), check_invariants=False),
    lambda: torch.sparse_coo_tensor([[0, -1]], [1.0, 2.0], (3,), check_invariants=False),
    lambda: torch.sparse_csr_tensor([0, 1, 2], [0, 7], [1.0, 2.0], (2, 2), check_invariants=False),
    lambda: torch.sparse_csc_tensor([0, 5, 2], [0, 1], [1.0, 2.0], (2, 2), check_invariants=False),
    lambda: torch._nested_view_from_buffer(torch.ones(5), torch.tensor([[2], [3]]), torch.ones(2, 1, dtype=torch.int64),
                                           torch.tensor([0, 2])).detach(),
], ids=["coo beyond", "coo before", "csr", "csc", "nested"])
@pytest.mark.filterwarnings("ignore")
def test_indices_that_lead_outside_the_tensor_are_refused_and_nothing_is_kept(make, tmp_path):
    value = make()
    torch.save([value], tmp_path / "a.pt")
    if value.is_nested:  # made right, and then spoilt in the file
        content = (tmp_path / "a.pt").read_bytes()
        offsets = torch.tensor([0, 2]).numpy().tobytes()
        (tmp_path / "a.pt").write_bytes(content.replace(offsets, torch.tensor([0, 3]).numpy().tobytes()))
    with pytest.raises(torchkeep.Error) as caught:
        torchkeep.load(tmp_path / "a.pt", verify=False)
    assert caught.value.code == "corrupt"


@pytest.mark.filterwarnings("ignore")
def test_a_loaded_sparse_tensor_goes_when_nobody_needs_it(tmp_path):
    torch.save(torch.eye(3).to_sparse(), tmp_path / "a.pt")
    loaded = torchkeep.load(tmp_path / "a.pt")
    gone = weakref.ref(loaded)
    del loaded
    assert gone() is None


def test_views_of_one_storage_with_different_dtypes_stay_views_of_it(tmp_path):
    pairs = torch.view_as_complex(torch.arange(6.0).view(3, 2))
    torchkeep.save({"z": pairs, "real": pairs.real}, tmp_path / "a.pt")
    for loaded in (torchkeep.load(tmp_path / "a.pt"), torch_load(tmp_path / "a.pt")):
        assert describe(loaded) == describe({"z": pairs, "real": pairs.real})
        loaded["real"].zero_()
        assert loaded["z"].tolist() == [1j, 3j, 5j]


def test_every_truncation_is_an_error(tmp_path):
    torch.save({"x": torch.arange(30.0), "n": [1, "two"]}, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    for size in range(0, len(content), 37):
        (tmp_path / "a.pt").write_bytes(content[:size])
        with pytest.raises(torchkeep.Error):
            torchkeep.load(tmp_path / "a.pt")


def test_a_file_object_is_written_where_it_stands(tmp_path):
    with open(tmp_path / "a", "wb") as file:
        file.write(b"before")
        torchkeep.save({"x": torch.ones(3)}, file)
    with open(tmp_path / "a", "rb") as file:
        assert file.read(6) == b"before"
        assert torchkeep.load(io.BytesIO(file.read()))["x"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_paths_may_be_texts_or_paths(kind, tmp_path):
    torchkeep.save([1], kind(tmp_path / "a.pt"))
    assert torchkeep.load(kind(tmp_path / "a.pt")) == [1]
    assert torchkeep.inspect(kind(tmp_path / "a.pt")).content == [1]


def test_saving_over_a_file_that_is_mapped_leaves_what_was_loaded(tmp_path):
    torchkeep.save({"x": torch.zeros(1000)}, tmp_path / "a.pt")
    mapped = torchkeep.load(tmp_path / "a.pt", mmap=True)
    torchkeep.save({"x": torch.ones(1000)}, tmp_path / "a.pt")
    assert not mapped["x"].any() and torchkeep.load(tmp_path / "a.pt")["x"].all()


def test_the_default_dtype_changes_nothing(tmp_path):
    torchkeep.save({"x": torch.ones(2), "f": 0.1}, tmp_path / "a.pt")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        loaded = torchkeep.load(tmp_path / "a.pt")
    finally:
        torch.set_default_dtype(before)
    assert loaded["x"].dtype == torch.float32 and loaded["f"] == 0.1


def test_loaded_tensors_are_leaves_that_can_be_trained(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3))
    torchkeep.save({"weight": weight, "product": weight * 2}, tmp_path / "a.pt")
    loaded = torchkeep.load(tmp_path / "a.pt")
    assert all(tensor.is_leaf and tensor.requires_grad for tensor in loaded.values())
    (loaded["weight"] * 3).sum().backward()
    assert loaded["weight"].grad.tolist() == [3, 3, 3]
