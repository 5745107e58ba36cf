# SPDX-License-Identifier: BSD-3-Clause
"""Folders of torch.distributed.checkpoint, taken like files."""
import pathlib
import shutil
import subprocess
import warnings

import numpy
import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from conftest import BIN, ROOT, checkpoint, numbers, run
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save


def save(state, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=folder, no_dist=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The state of checkpoint.pt as DCP flattens it."""
    return save(checkpoint(), tmp_path_factory.mktemp("dcp") / "ckpt")


@pytest.fixture(scope="module")
def converted(folder, tmp_path_factory):
    """What PyTorch makes of it."""
    path = tmp_path_factory.mktemp("whole") / "whole.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp_to_torch_save(folder, path)
    return path


def test_ls_lists_a_folder_like_the_file_that_pytorch_makes_of_it(folder, converted):
    listed = run("ls", "--json", folder).json
    assert listed["format"] == "DCP folder" and listed["file"] == str(folder)
    assert listed["file_size"] == sum(path.stat().st_size for path in folder.iterdir())
    assert listed["rows"] == run("ls", "--json", converted).json["rows"]
    assert "DCP folder" in run("ls", f"{folder}/").out


def test_show_extract_and_diff(folder, converted, tmp_path):
    assert run("show", "-q", folder, "model_state_dict.0.weight").out == run(
        "show", "-q", converted, "model_state_dict.0.weight").out
    assert run("diff", folder, converted).status == 0
    run("extract", folder, "model_state_dict.2.weight", "-o", tmp_path / "weight.npy")
    state = torch.load(converted, weights_only=False)
    assert numpy.array_equal(numpy.load(tmp_path / "weight.npy"), state["model_state_dict"]["2.weight"].numpy())
    other = save(checkpoint(shift=1.0), tmp_path / "other")
    assert "model_state_dict" in run("diff", folder, other, status=1).out


def test_convert_to_pt_and_safetensors(folder, converted, tmp_path):
    run("convert", folder, tmp_path / "out.pt")
    assert run("diff", tmp_path / "out.pt", converted).status == 0
    run("convert", folder, "--only", "model_state_dict", tmp_path / "out.safetensors")
    state = torch.load(converted, weights_only=False)["model_state_dict"]
    written = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert written.keys() == state.keys() and all(torch.equal(written[name], state[name]) for name in state)


def test_verify_reports_every_damaged_item_with_its_tensor(folder, tmp_path):
    assert run("verify", folder).out.startswith("good")
    broken = shutil.copytree(folder, tmp_path / "broken")
    data = bytearray((broken / "__0_0.distcp").read_bytes())
    for start in (0.0, 4.0):  # model_state_dict.0.weight and 2.weight
        shape = (4, 3) if start == 0.0 else (2, 4)
        place = data.find(numbers(*shape, start=start).numpy().tobytes())
        assert place > 0
        data[place] ^= 1
    (broken / "__0_0.distcp").write_bytes(data)
    report = run("verify", "--json", broken, status=1).json["files"][0]
    assert {tensor for item in report["damaged"] for tensor in item["tensors"]} == {
        "model_state_dict.0.weight", "model_state_dict.2.weight"}
    assert "lost: model_state_dict.0.weight" in run("verify", broken, status=1).out
    (broken / "__0_0.distcp").unlink()
    assert "missing: __0_0.distcp of rank 0" in run("verify", broken, status=1).out
    (broken / ".metadata").unlink()
    (broken / "__2_0.distcp").write_bytes(b"")
    assert "the save did not finish" in run("verify", broken, status=1).out
    assert "none of ranks 0, 1" in run("ls", broken, status=1).err


def test_a_folder_is_converted_in_little_memory(tmp_path):
    count = 16 << 20
    folder = save({"a": torch.arange(count), "b": torch.ones(count // 4, 4)}, tmp_path / "large")
    run("convert", folder, tmp_path / "large.pt")
    state = torch.load(tmp_path / "large.pt", mmap=True, weights_only=True)
    assert torch.equal(state["a"], torch.arange(count)) and torch.equal(state["b"], torch.ones(count // 4, 4))
    # Once more into a pipe: before its last megabyte is taken out, the program still lives and can be asked.
    with subprocess.Popen([BIN / "torchkeep", "convert", "--to", "pt", folder, "-"], stdout=subprocess.PIPE) as process:
        left = (tmp_path / "large.pt").stat().st_size - (1 << 20)
        while left > 0:
            left -= len(process.stdout.read(min(left, 1 << 20)))
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        process.stdout.read()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak < 64 << 10, f"{peak} KiB for {folder}, 192 MiB"


MEGATRON = ROOT.parent / "shared" / "corpus" / "real"


def test_the_corpus_megatron_folder(tmp_path):
    """A real one, of Megatron-LM: a subfolder of other people's repository, with its files under flat names."""
    prefix = "LionRock-Research__Megatron-LM__ckpt_"
    files = {path.name.removeprefix(prefix).replace("dot.metadata", ".metadata"): path
             for path in MEGATRON.glob(prefix + "*")} if MEGATRON.is_dir() else {}
    if ".metadata" not in files:
        pytest.skip("no corpus beside the project (../shared/corpus): the Megatron folder is not tried")
    for name, path in files.items():
        shutil.copy(path, tmp_path / name)
    assert run("verify", tmp_path).out.startswith("good")
    rows = {row["path"]: row for row in run("ls", "--json", "-t", tmp_path).json["rows"]}
    assert rows["decoder.layers.mlp.linear_fc1.weight"]["shape"] == [2, 48, 12] and len(rows) == 17
    run("convert", tmp_path, tmp_path / "out.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp_to_torch_save(tmp_path, tmp_path / "whole.pt")
    ours, theirs = (torch.load(tmp_path / name, weights_only=False) for name in ("out.pt", "whole.pt"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        same = torch.equal(ours[name], value) if isinstance(value, torch.Tensor) else ours[name] == value
        assert same, name
