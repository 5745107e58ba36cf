# SPDX-License-Identifier: BSD-3-Clause
"""convert and extract: what they write is read back by PyTorch, safetensors and NumPy."""
import collections
import io

import numpy
import pytest
import safetensors
import safetensors.torch
import torch
from conftest import checkpoint, numbers, run


def same(a, b):
    def bits(tensor):
        return tensor.contiguous().reshape(-1).view(torch.uint8)

    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


def test_pt_to_safetensors_lists_what_cannot_be_carried(files, tmp_path):
    out = tmp_path / "all.safetensors"
    report = run("convert", "--json", files / "checkpoint.pt", out).json
    tensors = safetensors.torch.load_file(out)
    state = checkpoint()
    assert same(tensors["model_state_dict.0.weight"], state["model_state_dict"]["0.weight"])
    assert same(tensors["optimizer_state_dict.state.0.exp_avg"], state["optimizer_state_dict"]["state"][0]["exp_avg"])
    assert "epoch (int 3)" in report["left_out"] and "args.nothing (None)" in report["left_out"]
    every = {row["path"] for row in run("ls", "--json", "--values", files / "checkpoint.pt").json["rows"]}
    mentioned = {text.split(" (")[0] for text in report["left_out"]}
    for path in every:  # nothing disappears in silence
        assert any(f"{path}.".startswith(f"{each}.") or each.startswith(f"{path}.") for each in mentioned), path
    error = run("convert", "--strict", files / "checkpoint.pt", tmp_path / "no.safetensors", status=3).err
    assert "epoch" in error and not (tmp_path / "no.safetensors").exists()


def test_tied_weights_come_and_go_as_the_safetensors_library_does_it(files, tmp_path):
    run("convert", files / "tied.pt", tmp_path / "tied.safetensors")
    with safetensors.safe_open(tmp_path / "tied.safetensors", "pt") as opened:
        assert set(opened.keys()) == {"embedding", "part", "half", "count"}
        assert opened.metadata() == {"format": "pt", "head": "embedding"}
    run("convert", tmp_path / "tied.safetensors", tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back["head"].data_ptr() == back["embedding"].data_ptr()
    assert same(back["half"], numbers(3, dtype=torch.bfloat16))


def test_safetensors_to_pt_and_back_keeps_every_byte(tmp_path):
    tensors = {"b": numbers(3, 5), "a": numbers(2, dtype=torch.float16), "e": torch.zeros(0, 4), "i": torch.arange(3)}
    safetensors.torch.save_file(tensors, tmp_path / "in.safetensors", metadata={"format": "pt"})
    run("convert", tmp_path / "in.safetensors", tmp_path / "middle.pt")
    loaded = torch.load(tmp_path / "middle.pt", weights_only=True)
    assert all(same(loaded[name], tensor) for name, tensor in tensors.items()) and loaded.keys() == tensors.keys()
    run("convert", tmp_path / "middle.pt", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "in.safetensors").read_bytes()


def test_metadata_is_kept_set_and_removed(tmp_path):
    safetensors.torch.save_file({"w": numbers(2)}, tmp_path / "in.safetensors", metadata={"a": "1", "b": "2"})
    run("convert", tmp_path / "in.safetensors", tmp_path / "out.safetensors", "--metadata", "a=", "--metadata", "c=3=4")
    with safetensors.safe_open(tmp_path / "out.safetensors", "pt") as opened:
        assert opened.metadata() == {"b": "2", "c": "3=4", "format": "pt"}
    report = run("convert", "--json", tmp_path / "in.safetensors", tmp_path / "out.pt").json
    assert sorted(report["left_out"]) == ["metadata a ('1')", "metadata b ('2')"]


def test_legacy_to_zip_is_equal(files, tmp_path):
    run("convert", files / "legacy.pt", tmp_path / "new.pt")
    run("diff", files / "checkpoint.pt", tmp_path / "new.pt")
    loaded = torch.load(tmp_path / "new.pt", weights_only=True)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    model.load_state_dict(loaded["model_state_dict"])
    torch.optim.AdamW([{"params": list(model[0].parameters())}, {"params": list(model[1:].parameters())}]
                      ).load_state_dict(loaded["optimizer_state_dict"])


def test_archives_of_torchscript_become_state_dicts(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LSTM(4, 2))
    torch.jit.script(model).save(tmp_path / "script.pt")
    report = run("convert", "--json", tmp_path / "script.pt", tmp_path / "state.pt").json
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert isinstance(state, collections.OrderedDict) and list(state) == list(model.state_dict())
    assert all(same(state[name], tensor) for name, tensor in model.state_dict().items())
    model.load_state_dict(state)
    assert any(text.startswith("1._flat_weights_names (") for text in report["left_out"])
    run("convert", tmp_path / "script.pt", tmp_path / "state.safetensors")
    assert safetensors.torch.load_file(tmp_path / "state.safetensors").keys() == state.keys()


@pytest.mark.parametrize("name, dtype", [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp64", torch.float64),
                                         ("float32", torch.float32), ("fp8_e4m3", torch.float8_e4m3fn)])
def test_dtype_changes_the_model_and_nothing_else(files, tmp_path, name, dtype):
    run("convert", files / "checkpoint.pt", tmp_path / "out.pt", "--dtype", name)
    before, after = checkpoint(), torch.load(tmp_path / "out.pt", weights_only=True)
    for key, tensor in before["model_state_dict"].items():
        assert same(after["model_state_dict"][key], tensor.to(dtype) if tensor.is_floating_point() else tensor), key
    moment = before["optimizer_state_dict"]["state"][0]["exp_avg"]
    assert same(after["optimizer_state_dict"]["state"][0]["exp_avg"], moment)


def test_only_takes_a_part_or_several(files, tmp_path):
    run("convert", files / "checkpoint.pt", tmp_path / "model.pt", "--only", "model_state_dict")
    model = torch.load(tmp_path / "model.pt", weights_only=True)
    assert isinstance(model, collections.OrderedDict) and model.keys() == checkpoint()["model_state_dict"].keys()
    run("convert", files / "checkpoint.pt", tmp_path / "two.pt", "--only", "epoch", "--only", "args.betas")
    assert torch.load(tmp_path / "two.pt", weights_only=True) == {"epoch": 3, "args": {"betas": (0.9, 0.95)}}
    error = run("convert", files / "checkpoint.pt", tmp_path / "x.pt", "--only", "nothing.here", status=2).err
    assert "nothing.here" in error and "model_state_dict" in error


def test_prefixes_are_stripped_and_names_changed_in_model_and_optimizer(tmp_path):
    state = {"model": collections.OrderedDict({"module._orig_mod.a.w": numbers(2), "module._orig_mod.b": numbers(1)}),
             "optimizer": {"state": {0: {"m": numbers(2)}}, "param_groups": [
                 {"lr": 0.1, "params": [0, 1], "param_names": ["module._orig_mod.a.w", "module._orig_mod.b"]}]}}
    torch.save(state, tmp_path / "ddp.pt")
    run("convert", tmp_path / "ddp.pt", tmp_path / "plain.pt", "--strip-prefix", "module.", "--strip-prefix",
        "_orig_mod.", "--rename", "a.=encoder.")
    plain = torch.load(tmp_path / "plain.pt", weights_only=True)
    assert list(plain["model"]) == ["encoder.w", "b"]
    assert plain["optimizer"]["param_groups"][0]["param_names"] == ["encoder.w", "b"]
    error = run("convert", tmp_path / "ddp.pt", tmp_path / "x.pt", "--strip-prefix", "modul_", status=2).err
    assert "'modul_'" in error


class Settings:
    """A class that only this program knows."""

    def __init__(self):
        self.lr = 0.1


def test_objects_that_the_safe_loader_refuses_are_named_and_left_out_on_demand(tmp_path):
    torch.save({"args": Settings(), "w": numbers(2)}, tmp_path / "in.pt")
    assert f"args (object of {__name__}.Settings)" in run("convert", tmp_path / "in.pt", tmp_path / "out.pt", status=3).err
    report = run("convert", "--json", "--drop-objects", tmp_path / "in.pt", tmp_path / "out.pt").json
    assert sorted(report["left_out"]) == [f"args (object of {__name__}.Settings)"]
    assert torch.load(tmp_path / "out.pt", weights_only=True).keys() == {"w"}


def test_convert_reads_and_writes_pipes(files, tmp_path):
    data = run("convert", "-", "-", "--to", "safetensors", "--only", "model_state_dict",
               stdin=(files / "checkpoint.pt").read_bytes()).raw
    assert same(safetensors.torch.load(data)["0.bias"], checkpoint()["model_state_dict"]["0.bias"])
    data = run("convert", files / "model.pt", "-", "--to", "pt").raw
    assert torch.load(io.BytesIO(data), weights_only=True).keys() == checkpoint()["model_state_dict"].keys()
    assert "--to" in run("convert", files / "model.pt", "-", status=2).err


def test_an_existing_file_is_replaced_only_by_force(files, tmp_path):
    out = tmp_path / "out.pt"
    out.write_text("precious")
    assert "--force" in run("convert", files / "model.pt", out, status=2).err
    assert out.read_text() == "precious"
    run("convert", "-f", files / "model.pt", out)
    torch.load(out, weights_only=True)


@pytest.mark.parametrize("name", ["numbers", "odd", "complex", "booleans", "scalar", "empty"])
def test_extract_writes_what_numpy_reads(files, tmp_path, name):
    run("extract", files / "tensors.pt", name, "-o", tmp_path / "x.npy")
    expected = torch.load(files / "tensors.pt", weights_only=True)[name].numpy()
    found = numpy.load(tmp_path / "x.npy")
    assert found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


def test_extract_widens_what_numpy_lacks_or_keeps_its_bits(files, tmp_path):
    assert "as float32" in run("extract", files / "tied.pt", "half", "-o", tmp_path / "wide.npy").out
    assert numpy.array_equal(numpy.load(tmp_path / "wide.npy"), numbers(3).numpy())
    run("extract", "--raw", files / "tied.pt", "half", "-o", tmp_path / "raw.npy")
    bits = numbers(3, dtype=torch.bfloat16).view(torch.uint16).numpy()
    assert numpy.array_equal(numpy.load(tmp_path / "raw.npy"), bits)


def test_extract_to_a_pipe_and_of_no_tensor(files):
    data = run("extract", files / "tensors.pt", "numbers", "-o", "-").raw
    assert numpy.array_equal(numpy.load(io.BytesIO(data)), numbers(3, 4).numpy())
    assert "expected a tensor, found a" in run("extract", files / "checkpoint.pt", "args", "-o", "-", status=2).err
    run("extract", files / "checkpoint.pt", "nothing", "-o", "-", status=2)
