# SPDX-License-Identifier: BSD-3-Clause
"""ls and show on files that PyTorch wrote."""
import hashlib
import math

import pytest
import torch
from conftest import GOLDEN, numbers, run


def golden(name, text):
    assert text == (GOLDEN / name).read_text(), f"differs from tests/cli/golden/{name}"


@pytest.mark.parametrize("name, arguments", [
    ("ls.txt", ["ls", "checkpoint.pt"]),
    ("ls-depth.txt", ["ls", "-d", "1", "checkpoint.pt"]),
    ("ls-wide.txt", ["ls", "-q", "--wide", "tied.pt"]),
    ("ls.json", ["ls", "--json", "tied.pt"]),
    ("show.txt", ["show", "checkpoint.pt"]),
    ("show-tensor.txt", ["show", "tensors.pt", "odd"]),
    ("show-groups.txt", ["show", "checkpoint.pt", "optimizer_state_dict.param_groups"]),
    ("show.json", ["show", "--json", "--hash", "sha256", "tied.pt"]),
    ("diff.txt", ["diff", "checkpoint.pt", "other.pt"]),
])
def test_golden_output(files, name, arguments):
    status = 1 if arguments[0] == "diff" else 0
    golden(name, run(*arguments, cwd=files, status=status).out)


def test_ls_names_every_tensor_as_pytorch_does(files):
    state = torch.load(files / "checkpoint.pt", weights_only=True)
    listed = {row["path"]: row for row in run("ls", "--json", files / "checkpoint.pt").json["rows"]}
    for name, tensor in state["model_state_dict"].items():
        row = listed[f"model_state_dict.{name}"]
        assert (row["dtype"], row["shape"], row["nbytes"]) == (
            str(tensor.dtype).removeprefix("torch."), list(tensor.shape), tensor.nbytes)
    assert listed["epoch"]["value"] == 3 and listed["args.name"]["value"] == "a run"


def test_ls_sorts_filters_and_reverses(files):
    path = files / "checkpoint.pt"
    by_size = [row["nbytes"] for row in run("ls", "--json", "-t", "-s", "size", path).json["rows"]]
    assert by_size == sorted(by_size, reverse=True)
    by_path = run("ls", "--names", "-s", "path", "-r", path).out.splitlines()
    assert by_path == sorted(by_path, reverse=True)
    weights = run("ls", "--names", "-f", "model*.weight", "-f", "*0.exp_avg", path).out.splitlines()
    assert weights == ["model_state_dict.0.weight", "model_state_dict.1.weight", "model_state_dict.2.weight",
                       "optimizer_state_dict.state.0.exp_avg"]
    by_type = [row["type"] for row in run("ls", "--json", "-s", "type", path).json["rows"]]
    assert by_type == sorted(by_type)


def test_ls_tells_tensors_from_values(files):
    tensors = run("ls", "--json", "--tensors", files / "checkpoint.pt").json["rows"]
    values = run("ls", "--json", "--values", files / "checkpoint.pt").json["rows"]
    assert all("shape" in row for row in tensors) and not any("shape" in row for row in values)
    assert len(tensors) + len(values) == len(run("ls", "--json", files / "checkpoint.pt").json["rows"])


@pytest.mark.parametrize("verb", ["ls", "show"])
def test_one_list_that_a_small_file_repeats_is_looked_at_once(verb, tmp_path):
    numbers_of_it = list(range(100_000))
    torch.save([numbers_of_it] * 100_000, tmp_path / "a.pt")  # ten thousand million elements, were each looked at
    assert run(verb, "a.pt", cwd=tmp_path).out.count("100,000 in all") == 100_000


def tuples_that_double():
    value = (1, 2.5)
    for _ in range(60):
        value = (value, value)
    return value


LONG, BYTES, NUMBERS = "k" * (1 << 20), b"b" * (1 << 20), tuple(range(10_000))
REPEATED = {
    "tuples that double": tuples_that_double,
    "one tuple": lambda: {i: NUMBERS for i in range(1000)},
    "one text": lambda: [LONG] * 10_000,
    "one text in lists": lambda: [[LONG] for _ in range(10_000)],
    "one text in tuples": lambda: [(LONG, i) for i in range(10_000)],
    "one key": lambda: [{LONG: i} for i in range(10_000)],
    "one key above many": lambda: {LONG: {LONG: {f"p{i}": i for i in range(10_000)}}},
    "one long key each": lambda: [{LONG: {LONG: 1}} for _ in range(10_000)],
    "bytes": lambda: {i: BYTES for i in range(1000)},
    "groups": lambda: {"state": {}, "param_groups": [{"params": [i], "lr": 0.5} for i in range(3000)]},
    "options": lambda: {"state": {}, "param_groups": [{"params": [], **{f"o{i}": i for i in range(30_000)}}]},
}


@pytest.mark.parametrize("kind", REPEATED)
def test_what_a_small_file_repeats_stays_small_however_it_is_looked_at(kind, tmp_path):
    torch.save(REPEATED[kind](), tmp_path / "a.pt")
    most = 40 * (tmp_path / "a.pt").stat().st_size + 40_000_000  # what it says once, and a short line for each place
    for arguments in (["ls"], ["ls", "--json"], ["show"], ["show", "--json"], ["diff", "a.pt"], ["verify"]):
        assert len(run(*arguments, "a.pt", cwd=tmp_path).raw) < most, arguments
    run("convert", "a.pt", "b.pt", cwd=tmp_path)
    assert (tmp_path / "b.pt").stat().st_size < 2 * (tmp_path / "a.pt").stat().st_size + 100_000


def test_a_long_value_that_rows_share_is_written_in_the_first(tmp_path):
    names = [f"name {i}" for i in range(20)]
    torch.save({"a": names, "b": names, "short": [1], "again": "x" * 100, "text": "x" * 100}, tmp_path / "a.pt")
    rows = {row["path"]: row for row in run("ls", "--json", tmp_path / "a.pt").json["rows"]}
    assert rows["a"]["value"] == names and "same_as" not in rows["a"]
    assert rows["b"]["value"] is None and rows["b"]["same_as"] == "a"
    assert rows["short"]["value"] == [1] and rows["again"]["value"] == "x" * 100


def test_show_json_writes_a_tuple_that_stands_twice_once(tmp_path):
    inner = (1, [2])
    torch.save([inner, inner, (1, 2), LONG], tmp_path / "a.pt")
    root = run("show", "--json", tmp_path / "a.pt").json["root"]
    first, second, short, text = root["v"]
    assert second == {"t": "ref", "id": first["id"]} and "id" not in short
    assert text["v"] == LONG and "id" in text


def test_names_of_tensors_that_would_take_gigabytes_are_an_error(tmp_path):
    torch.save({LONG: {f"p{i}": torch.zeros(1) for i in range(200)}}, tmp_path / "a.pt")
    error = run("convert", "a.pt", "b.safetensors", cwd=tmp_path, status=3).err
    assert "a.pt: " in error and "names take more than 100 MB" in error


def test_ls_totals_count_shared_storage_once(files):
    totals = run("ls", "--json", files / "tied.pt").json["totals"]
    assert totals["nbytes"] == 32 + 32 + 16 + 6 + 40
    assert totals["stored"] == 32 + 32 + 6 + 40
    assert totals["by_dtype"]["bfloat16"] == {"tensors": 1, "nbytes": 6, "values": 0}


def test_ls_takes_several_paths_and_standard_input(files):
    both = run("ls", "-d", "0", files / "model.pt", files / "tied.pt").out
    assert both.count(".pt:\n") == 2
    piped = run("ls", "-", stdin=(files / "model.pt").read_bytes()).out
    assert piped == run("ls", files / "model.pt").out


def test_show_json_hashes_what_pytorch_holds(files):
    state = torch.load(files / "tensors.pt", weights_only=True)
    root = run("show", "--json", "--hash", "sha256", files / "tensors.pt").json["root"]
    nodes = {key["v"]: node for key, node in root["v"]}
    for name, tensor in state.items():
        expected = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        assert nodes[name]["sha256"] == expected, name
        assert nodes[name]["stride"] == list(tensor.stride()), name


def test_show_json_says_which_tensors_share_storage(files):
    root = run("show", "--json", files / "tied.pt").json["root"]
    nodes = {key["v"]: node for key, node in root["v"]}
    assert nodes["head"] == {"t": "ref", "id": nodes["embedding"]["id"]}  # one object, as PyTorch saved it
    assert nodes["embedding"]["parameter"] and nodes["embedding"]["requires_grad"]
    assert nodes["part"]["offset"] == 2 and nodes["part"]["storage"] != nodes["embedding"]["storage"]


def test_statistics_are_those_of_pytorch(files):
    tensor = torch.load(files / "checkpoint.pt", weights_only=True)["model_state_dict"]["0.weight"]
    node = run("show", "--json", "--statistics", files / "checkpoint.pt", "model_state_dict.0.weight").json["root"]
    found = node["statistics"]
    wide = tensor.double()
    assert found["min"] == wide.min().item() and found["max"] == wide.max().item()
    assert math.isclose(found["mean"], wide.mean().item(), rel_tol=1e-12)
    assert math.isclose(found["std"], wide.std().item(), rel_tol=1e-12)
    assert math.isclose(found["norm"], wide.norm().item(), rel_tol=1e-12)
    assert sum(found["histogram"]["counts"]) == tensor.numel() == found["count"]


def test_statistics_count_what_is_not_finite(files):
    found = run("show", "--json", "--statistics", files / "tensors.pt", "odd").json["root"]["statistics"]
    assert (found["nan"], found["positive_infinity"], found["negative_infinity"], found["zero"]) == (1, 1, 1, 3)
    assert (found["min"], found["max"]) == (-2.5, 1.5)


def test_show_prints_all_numbers_when_asked(files, tmp_path):
    torch.save(numbers(10, 10), tmp_path / "many.pt")
    assert "..." in run("show", tmp_path / "many.pt").out
    text = run("show", "-n", "100", "--bins", "0", tmp_path / "many.pt").out
    assert "..." not in text and "12.375" in text


def test_show_recognises_generators_and_schedulers(files):
    text = run("show", files / "checkpoint.pt", "rng").out
    assert "torch's CPU generator (Mersenne twister): seed 7" in text
    assert "Python's random (Mersenne twister): position" in text
    assert "last_epoch: 1" in run("show", files / "checkpoint.pt", "scheduler_state_dict").out


def test_show_names_what_there_is_when_a_key_is_wrong(files):
    error = run("show", files / "checkpoint.pt", "model", status=2).err
    assert "'model_state_dict'" in error and "'model'" in error


def test_formats_are_told_by_content_not_by_name(files, tmp_path):
    import safetensors.torch
    safetensors.torch.save_file({"w": numbers(2, 2)}, tmp_path / "weights.pt", metadata={"by": "a test"})
    found = run("ls", "--json", tmp_path / "weights.pt").json
    assert found["format"] == "safetensors" and found["metadata"] == {"by": "a test"}
    assert "before 1.6" in run("ls", "--json", files / "legacy.pt").json["format"]
    zip_rows = run("ls", "--json", files / "checkpoint.pt").json["rows"]
    assert run("ls", "--json", files / "legacy.pt").json["rows"] == zip_rows


def test_nothing_is_called_that_a_file_names(tmp_path):
    import pickle

    class Attack:
        def __reduce__(self):
            import os
            return os.system, (f"touch {tmp_path}/called",)

    torch.save({"x": Attack(), "w": numbers(2)}, tmp_path / "attack.pt")
    assert "posix.system" in run("ls", tmp_path / "attack.pt", status=3).err
    text = run("ls", "--inspect", tmp_path / "attack.pt").out
    assert "posix.system" in text and "w  " in text
    with open(tmp_path / "plain.pkl", "wb") as file:
        pickle.dump(Attack(), file)
    assert "posix.system" in run("show", "--inspect", tmp_path / "plain.pkl").out
    assert not (tmp_path / "called").exists()


def test_text_from_a_file_cannot_steer_the_terminal(tmp_path):
    torch.save({"a\x1b[31m\nb": "\x1b]0;title\x07", "\u202egpj": 1}, tmp_path / "escape.pt")
    for arguments in (["ls"], ["show"], ["ls", "--names"]):
        text = run(*arguments, tmp_path / "escape.pt").out
        assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
        assert r"a\x1b[31m\nb" in text
