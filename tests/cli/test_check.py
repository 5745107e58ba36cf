# SPDX-License-Identifier: BSD-3-Clause
"""verify and diff: damage and differences are found, and said in words."""
import copy
import zipfile

import pytest
import safetensors.torch
import torch
from conftest import checkpoint, numbers, run, tool


def damage(path, record, offset=0):
    """Changes one bit in the payload of a record. Returns the name of the file."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = next(each for each in archive.infolist() if each.filename.split("/", 1)[1] == record)
    header = info.header_offset
    payload = header + 30 + int.from_bytes(data[header + 26:header + 28], "little") + int.from_bytes(
        data[header + 28:header + 30], "little")
    data[payload + offset] ^= 1
    broken = path.with_name(f"broken-{path.name}")
    broken.write_bytes(data)
    return broken


@pytest.fixture
def saved(tmp_path):
    torch.save(checkpoint(), tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


def test_verify_accepts_what_pytorch_writes(files):
    for name in ("checkpoint.pt", "legacy.pt", "tied.pt", "tensors.pt"):
        assert run("verify", files / name).out.startswith("good")
    report = run("verify", "--json", files / "checkpoint.pt").json
    assert report["good"] and report["files"][0]["unprotected"] == 0 and report["files"][0]["damaged"] == []


def test_verify_says_what_has_no_checksum(tmp_path, files):
    safetensors.torch.save_file({"w": numbers(2)}, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.safetensors", files / "legacy.pt"):
        assert "no checksums" in run("verify", path).out
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": numbers(200)}, tmp_path / "unprotected.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    report = run("verify", "--json", "-v", tmp_path / "unprotected.pt").json["files"][0]
    assert report["good"]


def test_verify_finds_a_changed_bit_and_names_the_tensor(saved):
    broken = damage(saved, "data/0")
    text = run("verify", broken, status=1).out
    assert "damaged" in text and "data/0" in text and "lost: model_state_dict.0.weight" in text
    report = run("verify", "--json", broken, saved, status=1).json
    assert [each["good"] for each in report["files"]] == [False, True]
    assert report["files"][0]["damaged"][0]["tensors"] == ["model_state_dict.0.weight"]


def test_verify_speaks_only_of_damage_when_quiet(saved):
    broken = damage(saved, "data/1")
    assert run("verify", "-q", saved).out == ""
    assert "broken" in run("verify", "-q", saved, broken, status=1).out


def test_verify_finds_cut_off_files(saved):
    data = saved.read_bytes()
    for size in (0, 1, 100, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:size])
        run("verify", saved, status=1)


def test_verify_checks_a_run_as_a_whole(own_run):
    assert run("verify", own_run).out.count("good") == 5
    damage(own_run / "step-00000020.pt", "data/0").rename(own_run / "step-00000020.pt")
    report = run("verify", "--json", own_run, status=1).json
    assert [each["file"].rsplit("/", 1)[1] for each in report["files"] if not each["good"]] == ["step-00000020.pt"]


def test_verify_finds_a_checkpoint_under_the_wrong_step(own_run):
    (own_run / "step-00000050.pt").rename(own_run / "step-00000060.pt")
    assert "step of its name" in run("verify", own_run, status=1).out


def test_repair_saves_all_but_the_damaged_tensor(saved, tmp_path):
    broken = damage(saved, "data/2")
    text = run("verify", broken, "--repair", tmp_path / "saved.pt", status=1).out
    assert "lost (1 part):\n  model_state_dict.1.weight: float32 [4]; record data/2: " in text
    before, after = checkpoint(), torch.load(tmp_path / "saved.pt", weights_only=True)
    del before["model_state_dict"]["1.weight"]
    assert after.keys() == before.keys()
    for name, tensor in before["model_state_dict"].items():
        assert torch.equal(after["model_state_dict"][name], tensor)
    run("verify", tmp_path / "saved.pt")


def test_repair_saves_the_beginning_of_a_file_that_was_cut_off_anywhere(saved, tmp_path):
    data = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        ends = {info.filename.split("/", 1)[1]: info.header_offset for info in archive.infolist()}
    survivors = []
    for size in range(ends["data/0"] + 50, len(data), 797):
        (tmp_path / "cut.pt").write_bytes(data[:size])
        report = run("verify", "--json", tmp_path / "cut.pt", "--repair", tmp_path / "saved.pt", "-f", status=1).json
        saved_state = torch.load(tmp_path / "saved.pt", weights_only=True)
        lost = {each["path"] for each in report["repaired"]["lost"]}
        survivors.append(report["repaired"]["tensors"])
        for name, tensor in checkpoint()["model_state_dict"].items():
            if f"model_state_dict.{name}" not in lost:
                assert torch.equal(saved_state["model_state_dict"][name], tensor), (size, name)
    assert survivors == sorted(survivors) and survivors[0] == 0 and survivors[-1] > 20


def test_repair_says_when_nothing_can_be_saved_or_nothing_is_wrong(saved, tmp_path):
    assert "nothing to repair" in run("verify", saved, "--repair", tmp_path / "saved.pt").out
    assert not (tmp_path / "saved.pt").exists()
    error = run("verify", "-q", damage(saved, "data.pkl"), "--repair", tmp_path / "saved.pt", status=1).err
    assert "data.pkl" in error and not (tmp_path / "saved.pt").exists()


def test_repair_of_a_safetensors_file_that_is_too_short(tmp_path):
    safetensors.torch.save_file({"a": numbers(4), "b": numbers(8, start=1)}, tmp_path / "w.safetensors")
    data = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-1])
    run("verify", tmp_path / "cut.safetensors", "--repair", tmp_path / "saved.safetensors", status=1)
    saved_tensors = safetensors.torch.load_file(tmp_path / "saved.safetensors")
    assert saved_tensors.keys() == {"a"} and torch.equal(saved_tensors["a"], numbers(4))


def test_diff_of_one_state_in_two_formats_is_equal(files):
    assert run("diff", files / "checkpoint.pt", files / "legacy.pt").out.splitlines()[-1].startswith("equal in every bit")


def test_diff_speaks_of_model_optimizer_scheduler_and_generators(files, tmp_path):
    state = checkpoint()
    state["model_state_dict"]["0.bias"][1] += 1
    state["optimizer_state_dict"]["state"][0]["exp_avg"][0, 0] = -0.0
    state["scheduler_state_dict"]["last_epoch"] = 2
    state["rng"]["torch"] = torch.zeros_like(state["rng"]["torch"])
    del state["args"]["name"]
    state["args"]["new"] = 1
    torch.save(state, tmp_path / "changed.pt")
    text = run("diff", files / "checkpoint.pt", tmp_path / "changed.pt", status=1).out
    for line in ("model_state_dict (model): 9 tensors, ", "~ model_state_dict.0.bias: 1 of 4 differ, max |a-b| 1 ",
                 "optimizer_state_dict (optimizer): ", "scheduler_state_dict (scheduler): ", "last_epoch: 1 -> 2",
                 "rng (random generators): ", "- args.name: 'a run'", "+ args.new: 1", "different in 6 places"):
        assert line in text, line
    report = run("diff", "--json", files / "checkpoint.pt", tmp_path / "changed.pt", status=1).json
    assert not report["equal"] and report["found"] == 6
    bias = next(each for each in report["differences"] if each["path"] == "model_state_dict.0.bias")
    assert (bias["section"], bias["differing"], bias["max_absolute"]) == ("model", 1, 1.0)


def test_diff_goes_by_bits(tmp_path):
    torch.save({"w": torch.tensor([0.0, float("nan")])}, tmp_path / "a.pt")
    torch.save({"w": torch.tensor([-0.0, float("nan")])}, tmp_path / "b.pt")
    run("diff", tmp_path / "a.pt", tmp_path / "a.pt")
    assert "1 of 2 differ" in run("diff", tmp_path / "a.pt", tmp_path / "b.pt", status=1).out


def test_diff_tells_layout_from_content(tmp_path):
    torch.save({"w": numbers(3, 2)}, tmp_path / "a.pt")
    torch.save({"w": numbers(3, 2).t().contiguous().t()}, tmp_path / "b.pt")
    assert "strides" in run("diff", tmp_path / "a.pt", tmp_path / "b.pt", status=1).out
    assert "equal in content" in run("diff", "--content-only", tmp_path / "a.pt", tmp_path / "b.pt").out


def test_diff_leaves_out_what_it_is_told_to_and_provenance(tmp_path):
    a = {"w": numbers(2), "step": 1, "provenance": {"host": "a"}}
    b = copy.deepcopy(a) | {"step": 2, "provenance": {"host": "b"}}
    torch.save(a, tmp_path / "a.pt")
    torch.save(b, tmp_path / "b.pt")
    assert "provenance: differs (not counted)" in run("diff", "-i", "step", tmp_path / "a.pt", tmp_path / "b.pt").out
    run("diff", "-i", "step", "--with-provenance", tmp_path / "a.pt", tmp_path / "b.pt", status=1)
    run("diff", tmp_path / "a.pt", tmp_path / "b.pt", status=1)


def test_diff_names_the_parameter_of_a_moment(tmp_path):
    state = checkpoint()
    for group, names in zip(state["optimizer_state_dict"]["param_groups"], (["in.weight", "in.bias"], list("abcd"))):
        group["param_names"] = names
    torch.save(state, tmp_path / "a.pt")
    state["optimizer_state_dict"]["state"][1]["exp_avg"] += 1
    torch.save(state, tmp_path / "b.pt")
    assert "state.1.exp_avg (in.bias)" in run("diff", tmp_path / "a.pt", tmp_path / "b.pt", status=1).out


def test_diff_of_weights_is_one_section_and_shortens_long_lists(files, tmp_path):
    state = torch.load(files / "model.pt", weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in state.items()}, tmp_path / "b.pt")
    text = run("diff", "--content-only", "--limit", "2", files / "model.pt", tmp_path / "b.pt", status=1).out
    assert text.startswith("model: 9 tensors") and "... and 7 more" in text
    everything = run("diff", "--content-only", "--limit", "0", files / "model.pt", tmp_path / "b.pt", status=1).out
    assert everything.count("  ~ ") == 9


def test_diff_proves_that_a_resumed_run_is_exact(tmp_path):
    tool("run", tmp_path / "straight", 0, 40, 10, 3, 0)
    tool("run", tmp_path / "killed", 0, 20, 10, 3, 0)
    tool("run", tmp_path / "killed", 20, 40, 10, 3, 0)
    assert "equal in every bit" in run("diff", tmp_path / "straight", tmp_path / "killed").out
