# SPDX-License-Identifier: BSD-3-Clause
"""Looking into checkpoints, also where PyTorch is not installed."""
import pickle
import subprocess
import sys

import pytest
import torch

import torchkeep


@pytest.fixture
def path(tmp_path):
    weight = torch.arange(6.0).view(2, 3)
    torch.save({"model": {"weight": torch.nn.Parameter(weight), "half": weight.bfloat16()}, "step": 7,
                "betas": (0.9, 0.999), "tied": weight}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_a_person_can_read_its_repr(path):
    assert repr(torchkeep.inspect(path)).splitlines() == [
        "a.pt: 3 tensors, 36 B",
        "  model: dict of 2",
        "    weight: Parameter float32 [2, 3]",
        "    half: Tensor bfloat16 [2, 3]",
        "  step: 7",
        "  betas: (0.9, 0.999)",
        "  tied: Tensor float32 [2, 3]",
    ]


def test_a_notebook_gets_a_table(path):
    html = torchkeep.inspect(path)._repr_html_()
    assert "<table>" in html and "Parameter float32 [2, 3]" in html
    torch.save({"<script>": 1}, path)
    assert "<script>" not in torchkeep.inspect(path)._repr_html_()


def test_it_is_a_mapping_whose_tensors_are_read_on_demand(path):
    checkpoint = torchkeep.inspect(path)
    assert list(checkpoint) == ["model", "step", "betas", "tied"] and checkpoint["step"] == 7
    weight = checkpoint["model"]["weight"]
    assert (weight.dtype, weight.shape, weight.strides, weight.nbytes) == ("float32", (2, 3), (3, 1), 24)
    assert weight.storage == checkpoint["tied"].storage
    assert weight.numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert checkpoint["model"]["half"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [key for key, _ in checkpoint.tensors()] == ["model.weight", "model.half", "tied"]


def test_unknown_classes_are_shown_and_never_made(tmp_path):
    torch.save({"x": torch.nn.Linear(1, 1)}, tmp_path / "a.pt")
    checkpoint = torchkeep.inspect(tmp_path / "a.pt")
    assert "an object of torch.nn.modules.linear.Linear" in repr(checkpoint)
    assert type(checkpoint["x"]) is torchkeep.Opaque


def test_pytorch_is_not_needed(path):
    program = ("import sys\n"
               "sys.modules['torch'] = None\n"
               "import torchkeep\n"
               "print(torchkeep.inspect(sys.argv[1])['model']['weight'])\n"
               "torchkeep.verify(sys.argv[1])\n"
               "torchkeep.save({'step': 8, 'list': [1, (2.5, None)]}, sys.argv[1])\n"
               "print(torchkeep.inspect(sys.argv[1])['step'], torchkeep.load(sys.argv[1])['list'])\n")
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["Parameter float32 [2, 3]", "8 [1, (2.5, None)]"], done.stderr


def test_a_run_of_plain_data_needs_no_pytorch(tmp_path):
    program = ("import sys\n"
               "sys.modules['torch'] = None\n"
               "import torchkeep\n"
               "class Count:\n"
               "    value = 0\n"
               "    state_dict = lambda self: {'value': self.value}\n"
               "    load_state_dict = lambda self, state: setattr(self, 'value', state['value'])\n"
               "for total in (3, 5):\n"
               "    count = Count()\n"
               "    with torchkeep.Run(sys.argv[1], save_every=2, durable=False) as run:\n"
               "        run.track(count=count)\n"
               "        for step in run.steps(total):\n"
               "            count.value += 1\n"
               "            run.finish_step()\n"
               "    print(step, count.value)\n")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["2 3", "4 5"], done.stderr


def test_importing_torchkeep_does_not_import_torch():
    program = "import sys, torchkeep; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("has_tqdm", [True, False])
def test_a_progress_bar_is_shown_when_asked_for(path, has_tqdm, capfd, monkeypatch):
    if not has_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    torchkeep.load(path, progress=True)
    shown = capfd.readouterr().err
    assert "loading a.pt" in shown and "100%" in shown
    torchkeep.load(path)
    assert capfd.readouterr().err == ""


def doubled(levels, make):
    """A container that holds itself twice at every level: 2 ** levels places in a few objects."""
    value = make([1.5, torch.ones(1)])
    for _ in range(levels):
        value = make([value, value])
    return value


def nested(depth, value):
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [doubled(60, tuple), doubled(60, list),
                                   {"a": doubled(60, lambda pair: dict(enumerate(pair)))},
                                   nested(900, torch.ones(1)), "x" * 10_000_000, b"x" * 10_000_000,
                                   ["x" * 1_000_000] * 6, {"k" * 1_000_000: 1}, {"\ud800\n\x1b[2J": "\ud800"},
                                   list(range(500_000)), ((),), {(1, "a" * 1_000_000): 2.0},
                                   {i: {j: "t" * 100 for j in range(100)} for i in range(100)}],
                         ids=range(13))
def test_a_repr_is_short_and_legible_whatever_is_in_the_file(tmp_path, value):
    torchkeep.save({"value": value}, tmp_path / "a.pt")
    checkpoint = torchkeep.inspect(tmp_path / "a.pt")
    text, page = repr(checkpoint), checkpoint._repr_html_()
    assert len(text) < 200_000 and len(page) < 400_000
    assert all(line.isprintable() for line in text.splitlines())
    for path, tensor in checkpoint.tensors():
        assert path.startswith("value.") and tensor.numpy() == [1.0]


def test_a_repr_of_what_only_a_pickle_can_hold(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({frozenset([1]): {2}, "long": 1 << 100_000, 3: bytearray(b"x")}, 2))
    text = repr(torchkeep.inspect(tmp_path / "a.pkl"))
    assert "frozenset({1}): set({2})" in text and "long: int of 100001 bits" in text


def test_tensors_of_a_deep_list_cost_no_path_for_each_level(tmp_path):
    """A path of every level would be 10 GB here."""
    depth = 100_000
    pickled = b"\x80\x02" + b"]" * depth + b"K\x01" + b"a" * depth + b"."
    (tmp_path / "a.pkl").write_bytes(pickled)
    assert list(torchkeep.inspect(tmp_path / "a.pkl").tensors()) == []
    assert len(repr(torchkeep.inspect(tmp_path / "a.pkl"))) < 1000
