# SPDX-License-Identifier: BSD-3-Clause
"""What torch.save writes torchkeep.load reads, and the other way round: same bits, types and sharing."""
import collections
import io
import pickle
import warnings

import pytest
import torch
from canonical import describe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import torchkeep

warnings.simplefilter("ignore")  # PyTorch's own, about prototypes and deprecations


def ordered():
    mapping = collections.OrderedDict(b=1, a=2)
    mapping.move_to_end("b")
    mapping._metadata = {"": {"version": 1}}
    return mapping


def with_attributes(tensor):
    tensor.note = {"by": "us", "mean": torch.ones(2)}
    return tensor


def shared_list():
    part = [1, torch.arange(3)]
    return {"a": part, "b": part}


def loop():
    head = [1]
    head.append({"again": head})
    return head


BASE = torch.arange(24.0)
OBJECTS = {
    "state dict": lambda: torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).state_dict(),
    "parameter": lambda: torch.nn.Parameter(torch.randn(3), requires_grad=False),
    "parameter with attributes": lambda: with_attributes(torch.nn.Parameter(torch.randn(3))),
    "buffer": lambda: torch.nn.Buffer(torch.ones(2)),
    "requires grad": lambda: torch.randn(2, requires_grad=True),
    "not a leaf": lambda: torch.randn(2, requires_grad=True) * 2,
    "views": lambda: {"all": BASE, "part": BASE[2:5], "matrix": BASE.view(4, 6).t(), "again": BASE[2:5]},
    "only a part": lambda: BASE[3:7],
    "same tensor twice": lambda: [BASE] * 2,
    "expanded": lambda: torch.ones(1, 3).expand(4, 3),
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "scalar": lambda: torch.tensor(3),
    "empty": lambda: [torch.empty(0), torch.empty(2, 0, 3)],
    "conj": lambda: torch.randn(3, dtype=torch.complex64).conj(),
    "neg": lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
    "nan payload": lambda: torch.tensor([0x7FC00123, 0xFF800001 - 2**32, -2**31], dtype=torch.int32).view(torch.float32),
    "per tensor": lambda: torch.quantize_per_tensor(torch.randn(4), 0.1, 2, torch.qint8),
    "per channel": lambda: torch.quantize_per_channel(torch.randn(2, 3), torch.rand(2) + 1, torch.zeros(2), 0, torch.qint8),
    "coo": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "csc": lambda: torch.eye(3).to_sparse_csc(),
    "bsr": lambda: torch.eye(4).to_sparse_bsr((2, 2)),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "meta": lambda: torch.empty(2, 3, device="meta"),
    "big integers": lambda: [2**62, 2**63, -2**63, -2**64, 2**1000, -2**1000, 0, -1, 255, 256],
    "floats": lambda: [0.1, -0.0, float("inf"), float("-inf"), 5e-324],
    "complex": lambda: 1 - 2.5j,
    "texts": lambda: ["", "hé", "\0", "\ud800", "x" * 70000],
    "bytes": lambda: [bytes(range(256)), bytearray(b"ab")],
    "tuples": lambda: [(), (1,), (1, (2, [3])), (1, 2, 3, 4, 5)],
    "size": lambda: torch.Size([1, 2, 3, 4, 5]),
    "dtypes": lambda: [torch.float32, torch.bool, torch.bfloat16, torch.float8_e4m3fn],
    "device": lambda: [torch.device("cpu"), torch.device("cuda:1")],
    "counter": lambda: collections.Counter("abca"),
    "set": lambda: {1, 2, 3},
    "keys": lambda: {1: "int", "1": "str", (1, "a"): "tuple", None: "none", 2.5: "float", b"b": "bytes", True + 1: "two"},
    "ordered": ordered,
    "shared": shared_list,
    "loop": loop,
    "long list": lambda: list(range(3000)),
    "nothing": lambda: None,
}


def same(a, b):
    return describe(a) == describe(b)


@pytest.mark.parametrize("name", OBJECTS)
def test_torch_load_reads_what_torchkeep_saves(name, tmp_path):
    value = OBJECTS[name]()
    torchkeep.save(value, tmp_path / "a.pt")
    loaded = torch.load(tmp_path / "a.pt", weights_only=True)
    if name == "loop":
        assert loaded[1]["again"] is loaded
    else:
        assert same(loaded, reference(value, name))


@pytest.mark.parametrize("name", OBJECTS)
def test_torchkeep_load_returns_what_torch_load_returns(name, tmp_path):
    torch.save(OBJECTS[name](), tmp_path / "a.pt")
    loaded, expected = torchkeep.load(tmp_path / "a.pt"), torch.load(tmp_path / "a.pt", weights_only=True)
    if name == "loop":
        assert loaded[1]["again"] is loaded
    else:
        assert same(loaded, expected)
        assert type(loaded) is type(expected)
    if name in ("coo", "csr"):
        assert torch.equal(loaded.to_dense(), expected.to_dense())


def reference(value, name):
    """What torch.load makes of torch.save's file of the same object."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


@pytest.mark.parametrize("dtype", [row for row in dir(torch) if isinstance(getattr(torch, row), torch.dtype)])
def test_every_dtype_crosses_in_both_directions(dtype, tmp_path):
    dtype = getattr(torch, dtype)
    if dtype in (torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4):
        pytest.skip("only with a quantizer; the objects above have those")
    bits = torch.arange(64, dtype=torch.uint8).mul(37)
    value = torch.empty(0, dtype=dtype).set_(bits.untyped_storage(), 0, (64 // dtype.itemsize,), (1,))
    torchkeep.save(value, tmp_path / "a.pt")
    try:
        torch.save(value, tmp_path / "b.pt")
        expected = torch.load(tmp_path / "b.pt", weights_only=True)
    except (KeyError, RuntimeError, pickle.UnpicklingError, AttributeError) as refusal:
        pytest.skip(f"PyTorch cannot: {refusal}")
    assert same(torchkeep.load(tmp_path / "a.pt"), value)
    assert same(torchkeep.load(tmp_path / "b.pt"), expected)
    assert same(torch.load(tmp_path / "a.pt", weights_only=True), expected)


# ---- random nested objects

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.binary(min_size=1, max_size=8),  # PyTorch's own loader refuses b""
       st.complex_numbers(allow_nan=False), st.sampled_from([torch.float32, torch.int8, torch.device("cpu"), torch.Size([2])]),
    st.builds(lambda n, seed: torch.randn(n, generator=torch.Generator().manual_seed(seed)),
              st.integers(0, 5), st.integers(0, 99)),
    st.builds(lambda n, offset: torch.arange(12, dtype=torch.int16)[offset:offset + n], st.integers(0, 4),
              st.integers(0, 5)),
    st.builds(lambda n: torch.nn.Parameter(torch.ones(n)), st.integers(1, 3)),
)
KEYS = st.one_of(st.text(max_size=5), st.integers(), st.tuples(st.integers(), st.text(max_size=2)), st.none())
TREES = st.recursive(LEAVES, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(KEYS, inner, max_size=4),
    st.dictionaries(KEYS, inner, max_size=4).map(collections.OrderedDict),
    st.lists(inner, min_size=1, max_size=3).map(lambda part: [part, {"same": part}, part[0]])), max_leaves=15)
RANDOM = settings(max_examples=150, deadline=None, derandomize=True,
                  suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@RANDOM
@given(value=TREES)
def test_random_objects_cross_in_both_directions(value, tmp_path):
    torchkeep.save(value, tmp_path / "ours.pt", durable=False)
    torch.save(value, tmp_path / "theirs.pt")
    expected = describe(torch.load(tmp_path / "theirs.pt", weights_only=True))
    assert describe(torch.load(tmp_path / "ours.pt", weights_only=True)) == expected
    assert describe(torchkeep.load(tmp_path / "theirs.pt")) == expected
    assert describe(torchkeep.load(tmp_path / "ours.pt")) == expected


# ---- what is refused

class Custom:
    pass


@pytest.mark.parametrize("value, hint", [
    (lambda: None, "code is not saved"), (Custom(), "plain data"), (torch.nn.Linear(1, 1), "state_dict()"),
    (collections.defaultdict(list), "dict(...)"), (__import__("numpy").longdouble(1), "as_tensor"),
    (frozenset([1]), "frozenset"),
])
def test_what_the_safe_loader_refuses_is_an_error_that_names_the_place(value, hint, tmp_path):
    with pytest.raises(torchkeep.Error) as caught:
        torchkeep.save({"model": [1, {"bad": value}]}, tmp_path / "a.pt")
    assert caught.value.code == "unsupported"
    assert caught.value.key == "model.1.bad"
    assert hint in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made-by-the-file"), "w"))

    torch.save({"x": Evil()}, tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError, match="open") as caught:
        torchkeep.load(tmp_path / "a.pt")
    assert caught.value.code == "refused"
    assert not (tmp_path / "made-by-the-file").exists()
    with pytest.raises(ValueError, match="weights_only"):
        torchkeep.load(tmp_path / "a.pt", weights_only=False)


def test_every_flipped_byte_of_a_tensor_is_found(tmp_path):
    path = tmp_path / "a.pt"
    torchkeep.save({"x": torch.arange(64.0)}, path)
    content = bytearray(path.read_bytes())
    place = content.index(torch.arange(64.0).numpy().tobytes())
    for offset in (0, 100, 255):
        damaged = bytearray(content)
        damaged[place + offset] ^= 1
        path.write_bytes(damaged)
        for attempt in (torchkeep.load, torchkeep.verify, lambda p: torchkeep.load(p, mmap=True),
                        lambda p: torchkeep.inspect(p).verify()):
            with pytest.raises(torchkeep.Error) as caught:
                attempt(path)
            assert caught.value.code == "corrupt"
            assert caught.value.record == "data/0"
        torchkeep.load(path, verify=False)


def test_errors_are_also_the_exceptions_people_catch(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        torchkeep.load(tmp_path / "none.pt")
    assert isinstance(caught.value, torchkeep.Error) and isinstance(caught.value, RuntimeError)
    assert "none.pt" in str(caught.value)
    with pytest.raises(FileNotFoundError):
        torchkeep.save({}, tmp_path / "no folder" / "a.pt")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value) and str(again) == str(caught.value) and again.code == "not_found"


# ---- the memory of what was loaded and saved

def test_loaded_tensors_own_their_memory(tmp_path):
    torch.save([torch.ones(3), torch.arange(5)], tmp_path / "a.pt")
    first, second = torchkeep.load(tmp_path / "a.pt"), torchkeep.load(tmp_path / "a.pt")
    (tmp_path / "a.pt").unlink()
    first[0].add_(1)
    del first[1]
    assert first[0].tolist() == [2, 2, 2] and second[0].tolist() == [1, 1, 1]


def test_saving_does_not_copy_and_releases_what_it_held(tmp_path):
    import sys

    tensor = torch.ones(4)
    before = sys.getrefcount(tensor), tensor._version
    torchkeep.save({"a": [tensor, tensor[1:]]}, tmp_path / "a.pt")
    assert (sys.getrefcount(tensor), tensor._version) == before


@pytest.mark.parametrize("place", ["cpu", torch.device("cpu"), {"cuda:0": "cpu"}, lambda storage, location: storage,
                                   lambda storage, location: None, "meta", None])
def test_map_location_means_what_it_means_to_torch_load(place, tmp_path):
    torch.save({"a": BASE[1:4], "b": torch.nn.Parameter(BASE), "n": 1}, tmp_path / "a.pt")
    assert same(torchkeep.load(tmp_path / "a.pt", place), torch.load(tmp_path / "a.pt", place, weights_only=True))


def test_a_mapped_file_is_copied_when_written_to(tmp_path):
    torch.save({"x": torch.ones(5), "part": torch.arange(8.0)[2:4]}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    for verify in (True, False):
        mapped = torchkeep.load(tmp_path / "a.pt", mmap=True, verify=verify)
        assert same(mapped, torch.load(tmp_path / "a.pt", weights_only=True))
        mapped["x"].zero_()
    assert (tmp_path / "a.pt").read_bytes() == content


def test_file_objects_work_as_with_torch(tmp_path):
    buffer = io.BytesIO()
    torchkeep.save({"x": BASE}, buffer)
    assert torch.equal(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)["x"], BASE)
    buffer.seek(0)
    assert torch.equal(torchkeep.load(buffer)["x"], BASE)


def test_the_same_object_gives_the_same_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        torchkeep.save({"x": BASE.clone(), "y": [BASE.clone(), "text"]}, tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_a_deep_object_needs_no_stack(tmp_path):
    deep = inner = []
    for _ in range(20000):
        inner.append([])
        inner = inner[0]
    torchkeep.save(deep, tmp_path / "a.pt", durable=False)
    loaded, depth = torchkeep.load(tmp_path / "a.pt"), 0
    while loaded:
        loaded, depth = loaded[0], depth + 1
    assert depth == 20000
    while deep:  # without recursion, which freeing would need
        deep = deep.pop()


def test_tensors_made_under_a_default_device_are_read_all_the_same(tmp_path):
    torchkeep.save({"x": BASE}, tmp_path / "a.pt")
    with torch.device("meta"):
        loaded = torchkeep.load(tmp_path / "a.pt")
        torchkeep.save(loaded, tmp_path / "b.pt")
    assert same(torchkeep.load(tmp_path / "b.pt"), {"x": BASE})


def test_empty_bytes_are_saved_so_that_the_safe_loader_reads_them(tmp_path):
    torchkeep.save([b"", bytearray()], tmp_path / "a.pt")  # torch.save writes a name its own safe loader refuses
    assert torch.load(tmp_path / "a.pt", weights_only=True) == torchkeep.load(tmp_path / "a.pt") == [b"", bytearray()]
