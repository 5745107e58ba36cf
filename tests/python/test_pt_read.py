# SPDX-License-Identifier: BSD-3-Clause
"""What PyTorch writes, torchkeep reads as the same value, and writes again so that PyTorch reads the same value."""
import collections
import io
import json
import os
import pickle
import subprocess
import zipfile

import pytest
import torch

import canonical

TOOL = os.path.join(os.environ["TORCHKEEP_BIN"], "value_tool")


def tool(*arguments):
    return subprocess.run([TOOL, *arguments], capture_output=True, text=True)


def read(path):
    result = tool("read", path)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def refusal(path):
    result = tool("read", path)
    assert result.returncode == 1, f"expected an error, found {result.stdout[:200]}"
    return result.stderr.replace(str(path), "FILE").strip()


def noise(dtype, *shape):
    generator = torch.Generator().manual_seed(7)
    raw = torch.randint(0, 256, (*shape, torch.empty(0, dtype=dtype).element_size()), dtype=torch.uint8, generator=generator)
    if dtype is torch.bool:
        raw &= 1
    return raw.view(dtype).reshape(shape) if raw.numel() else torch.empty(shape, dtype=dtype)


def tied_and_viewed():
    base = torch.arange(24.0).reshape(4, 6)
    return {"base": base, "t": base.t(), "row": base[2], "column": base[:, 5], "element": base[3, 5],
            "step": base[::2, 1::2], "expanded": base[1].expand(5, 6), "flat": base.view(-1)[3:3]}


def with_itself():
    outer, inner = [1], {}
    inner["outer"] = outer
    outer.append(inner)
    outer.append(outer)
    return {"outer": outer, "inner": inner}


def parameter_with_attributes():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.tag = "encoder"
    tensor = torch.zeros(2)
    tensor.note = [1, 2]
    return {"p": parameter, "t": tensor, "same": parameter}


def trained():
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    model[2].bias = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(3):
        model(torch.randn(5, 3)).sum().backward()
        optimizer.step()
        scheduler.step()
    return {"epoch": 1, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(), "rng": torch.get_rng_state()}


def meta_and_odd():
    return {"meta": torch.empty(3, 4, device="meta"), "conj": torch.tensor([1 + 2j]).conj(),
            "neg": torch.tensor([1 + 2j]).conj().imag, "grad": torch.zeros(2, requires_grad=True)}


def sparse():
    coo = torch.tensor([[0.0, 1, 0], [2, 0, 3]]).to_sparse()
    return {"coo": coo, "loose": torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (2, 2)), "csr": coo.to_sparse_csr(),
            "csc": coo.to_sparse_csc(), "bsr": torch.ones(4, 4).to_sparse_bsr((2, 2)), "bsc": torch.ones(4, 4).to_sparse_bsc((2, 2))}


def quantized():
    x = torch.linspace(-1, 1, 6).reshape(2, 3)
    channel = torch.quantize_per_channel(x, torch.tensor([0.1, 0.2]), torch.tensor([0, 3]), 0, torch.quint8)
    return {"tensor": torch.quantize_per_tensor(x, 0.05, 2, torch.qint8), "channel": channel,
            "wide": torch.quantize_per_tensor(x, 0.05, 2, torch.qint32)}


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn,
          torch.float8_e5m2fnuz, torch.float8_e4m3fnuz, torch.float8_e8m0fnu, torch.int64, torch.int32, torch.int16,
          torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex128, torch.complex64,
          torch.complex32]

OBJECTS = {
    "numbers": lambda: [0, 255, 256, 65535, 65536, -1, 2**31 - 1, 2**31, -2**31 - 1, 2**63, -2**63, 10**600, 0.0, -0.0,
                        float("nan"), float("inf"), 5e-324, True, False, None, 1 + 2j, complex("-0")],
    "texts": lambda: ["", "a", "Größe", "日本語", "😀", "\udc80", "a\0b", "x" * 300, b"abc", bytes(range(256)),
                      bytearray(b"xyz"), bytearray()],
    "containers": lambda: [[], (), {}, set(), collections.OrderedDict(), collections.Counter(), torch.Size([]), (1,), (1, 2),
                           (1, 2, 3), (1, 2, 3, 4), {1, 2, 3}, collections.Counter("abca"), torch.Size([2, 3])],
    "batches": lambda: {n: [list(range(n)), {i: str(i) for i in range(n)},
                            collections.OrderedDict((i, i) for i in range(n))] for n in (1, 999, 1000, 1001, 2000)},
    "keys": lambda: {0: "i", "0": "s", 2.5: "f", None: "n", b"k": "b", (1, "a"): "t", 1j: "c", torch.float32: "d",
                     torch.device("cpu"): "v", torch.Size([1]): "z"},
    "torch_objects": lambda: [torch.device("cuda", 1), torch.device("cuda"), torch.device("cpu"), torch.float8_e5m2, torch.int4],
    "dtypes": lambda: {str(dtype): [noise(dtype, 2, 3), noise(dtype), noise(dtype, 0)] for dtype in DTYPES},
    "tied_and_viewed": tied_and_viewed,
    "with_itself": with_itself,
    "parameters": parameter_with_attributes,
    "trained": trained,
    "meta_and_odd": meta_and_odd,
    "sparse": sparse,
    "quantized": quantized,
    "nested": lambda: {"n": torch.nested.nested_tensor([torch.arange(4.0).reshape(2, 2), torch.ones(3, 2)])},
    "storages_of_two_classes": lambda: (lambda u: {"u": u, "f8": u.view(torch.float8_e5m2), "b": u.view(torch.uint8)})(
        noise(torch.uint16, 4)),
    "one_tensor": lambda: torch.arange(5),
    "one_number": lambda: 7,
    "shared": lambda: (lambda x, t: {"a": x, "b": x, "t": t, "u": t})([1, 2], (torch.ones(2), [3])),
}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=sorted(OBJECTS))
def saved(request, tmp_path):
    path = tmp_path / "python.pt"
    torch.save(OBJECTS[request.param](), path)
    return path


def test_reads_the_same_value(saved):
    assert read(saved) == canonical.describe(torch.load(saved, weights_only=False))


def test_writes_it_so_that_the_safe_loader_reads_the_same_value(saved, tmp_path):
    copy = tmp_path / "copy.pt"
    result = tool("copy", saved, copy)
    assert result.returncode == 0, result.stderr
    assert canonical.describe(torch.load(copy, weights_only=True)) == canonical.describe(torch.load(saved, weights_only=False))


@pytest.mark.parametrize("protocol", range(6))
def test_reads_every_pickle_protocol(protocol, tmp_path):
    value = {"list": [1, -1, 2**70, 2.5, None, True], "text": "Grüße \\u0041 \n", "bytes": bytes(range(256)), "empty": b"",
             "set": {1, 2}, "tuple": (1, (2,), ()), "array": bytearray(b"abc"), "weight": torch.arange(6.0).reshape(2, 3),
             "ordered": collections.OrderedDict(a=1), "complex": 1j, "big": 3**4000, "texts": ["", "", "abc", "abc", b"", b""]}
    value["again"] = value["list"]
    if protocol == 0:
        del value["weight"]  # protocol 0 writes a storage's id as text, which torch.load cannot read either
    path = tmp_path / "a.pt"
    torch.save(value, path, pickle_protocol=protocol)
    assert read(path) == canonical.describe(value)


def test_reads_files_without_crcs(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(trained(), tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read(tmp_path / "a.pt") == canonical.describe(torch.load(tmp_path / "a.pt"))


def rewrite(source, target, compression=zipfile.ZIP_STORED, order=lambda names: names, extra=(), comment=b""):
    """The same records written by another tool: no alignment, no descriptors."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in order(old.namelist()):
            new.writestr(name, old.read(name))
        for name in extra:
            new.writestr(name, b"" if name.endswith("/") else b"something else")
        new.comment = comment


@pytest.mark.parametrize("how", [
    {}, {"compression": zipfile.ZIP_DEFLATED}, {"order": lambda names: sorted(names, reverse=True)},
    {"extra": ["python/empty/", "python/notes.txt"]}, {"comment": b"made by hand"}, {"comment": b"x" * 65535},
], ids=["plain", "deflated", "reversed", "extra_records", "comment", "longest_comment"])
def test_reads_zips_of_other_tools(how, tmp_path):
    value = trained()
    torch.save(value, tmp_path / "python.pt")
    rewrite(tmp_path / "python.pt", tmp_path / "other.pt", **how)
    assert read(tmp_path / "other.pt") == canonical.describe(torch.load(tmp_path / "other.pt"))


@pytest.mark.parametrize("zipped", [True, False])
def test_an_empty_storage_may_have_two_types(zipped, tmp_path):
    floats = torch.tensor([])
    bits = torch.TypedStorage(wrap_storage=floats.untyped_storage(), dtype=torch.int32, _internal=True)
    ints = torch.tensor([], dtype=torch.int32).set_(bits)
    torch.save([floats, ints], tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert [one.dtype for one in torch.load(tmp_path / "a.pt")] == [torch.float32, torch.int32]
    assert read(tmp_path / "a.pt") == canonical.describe([floats, ints])  # torch.load gives each an empty memory of its own


def test_reads_a_file_of_a_stream(tmp_path):
    stream = io.BytesIO()
    torch.save(tied_and_viewed(), stream)
    (tmp_path / "a.pt").write_bytes(stream.getvalue())
    assert read(tmp_path / "a.pt") == canonical.describe(tied_and_viewed())


class Calls:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("value, name", [
    (Calls(os.system, "true"), "posix.system"), (Calls(eval, "1"), "builtins.eval"), (Calls(getattr, [], "append"), "builtins.getattr"),
    (Calls(torch.hub.load, "x"), "torch.hub.load"), (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    (pickle.Unpickler, "pickle.Unpickler"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_refuses_what_is_not_plain_data_and_names_it(value, name, tmp_path):
    torch.save({"x": value}, tmp_path / "a.pt")
    message = refusal(tmp_path / "a.pt")
    assert message.startswith("refused: FILE: data.pkl at byte ")
    module, _, rest = name.rpartition(".")
    assert f"refused global '{module.replace('builtins', '__builtin__')}.{rest}'" in message


def test_reads_files_of_other_kinds(tmp_path):
    path = tmp_path / "a.pt"
    torch.save([1], path, _use_new_zipfile_serialization=False)
    assert read(path) == canonical.describe([1])
    path.write_bytes(pickle.dumps([1]))
    assert read(path) == canonical.describe([1])


def test_says_what_other_files_are(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"")
    assert refusal(path) == "corrupt: FILE: the file is empty"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/readme.txt", "hello")
    assert refusal(path) == "corrupt: FILE: no record data.pkl: not a file of torch.save"
