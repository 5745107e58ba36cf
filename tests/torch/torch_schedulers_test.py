# SPDX-License-Identifier: BSD-3-Clause
"""The schedulers on LibTorch's optimizers against PyTorch's, and runs cut in two by a .pt file of the other language."""
import os
import pathlib
import sys

import pytest
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "schedule"))

import configurations
import twin

PEER = str(pathlib.Path(os.environ["TORCHKEEP_BIN"]) / "torch_scheduler_peer")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# LibTorch's lr and momentum are doubles, so the numbers that go into groups are given as floats to both languages.
IN_GROUPS = ("lr", "min_lr", "max_lr", "base_lr", "swa_lr", "base_momentum", "max_momentum", "eta_min", "div_factor")


def with_floats(arguments):
    def convert(key, value):
        if key == "schedulers":
            return [[name, with_floats(inner)] for name, inner in value]
        if key not in IN_GROUPS:
            return value
        return [float(x) for x in value] if isinstance(value, list) else float(value)
    return {key: convert(key, value) for key, value in arguments.items()}


ROWS = [{**row, "groups": [with_floats(group) for group in row["groups"]],
         "scheduler": [row["scheduler"][0], with_floats(row["scheduler"][1])]} for row in configurations.rows()]


def plain(records):
    """The records with whole momenta as floats: SGD's default momentum is the int 0 in Python and here."""
    def number(code):
        if isinstance(code, list):
            return [code[0]] + [number(part) for part in code[1:]]
        return twin.encode(float(code)) if isinstance(code, int) else code

    def entry(pair):
        return [pair[0], number(pair[1])] if pair[0] in ("smomentum", "sbetas") else pair

    def groups(record):
        return [[group[0]] + [entry(pair) for pair in group[1:]] if group[0] == "d" else [group[0], number(group[1])]
                for group in record[0]]
    return [[groups(record), *record[1:]] for record in records]


def compare(names, ours, theirs):
    differences = []
    for name, a, b in zip(names, ours, theirs, strict=True):
        if a[-1][0] == "error":
            differences.append(f"{name}: {a[-1]}")
            continue
        for i, (x, y) in enumerate(zip(twin.text(plain(a)), twin.text(plain(b)), strict=True)):
            if x != y:
                differences.append(f"{name} record {i}:\n  C++    {x}\n  Python {y}")
                break
    assert not differences, f"{len(differences)} of {len(names)} differ\n" + "\n".join(differences[:10])


class Files(twin.Experiment):
    """An experiment that saves and loads .pt files."""

    def execute(self, command):
        if command[0] == "save":
            torch.save({"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}, command[1])
        elif command[0] == "load":
            checkpoint = torch.load(command[1], weights_only=True)
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.scheduler.load_state_dict(checkpoint["scheduler"])
        else:
            super().execute(command)


def file_of(folder, row, cut):
    return str(folder / f"{row['name']}-{cut}.pt")


def saving_commands(folder, row):
    """The row's commands with a file saved at every cut."""
    commands = []
    for step in range(len(row["commands"]) + 1):
        if step in configurations.cuts(row):
            commands.append(["save", file_of(folder, row, step)])
        commands += row["commands"][step:step + 1]
    return commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuts")


@pytest.fixture(scope="module")
def python_runs(folder):
    (folder / "python").mkdir()
    return [Files(row).run(saving_commands(folder / "python", row), compact=False) for row in ROWS]


@pytest.fixture(scope="module")
def cpp_runs(folder):
    (folder / "cpp").mkdir()
    lines = [twin.peer_line(row, saving_commands(folder / "cpp", row), compact=False) for row in ROWS]
    return twin.run_peer(PEER, lines)


def test_every_step_on_a_libtorch_optimizer_is_bit_identical(python_runs, cpp_runs):
    compare([row["name"] for row in ROWS], cpp_runs, python_runs)


def uninterrupted(row, run, cut, end):
    """The full records at `cut`, ..., `end` of a run with its saves left out, and the last once more."""
    records, step = [], 0
    for record, command in zip(run[1:], saving_commands(pathlib.Path(), row)):
        if command[0] == "step":
            step += 1
            if cut < step <= end:
                records.append(record)
    return records + records[-1:]


def continuations(folder, run_of, steps):
    for row, run in zip(ROWS, run_of, strict=True):
        for cut in configurations.cuts(row):
            end = min(cut + steps, len(row["commands"]))
            if end > cut:
                commands = [["load", file_of(folder, row, cut)]] + row["commands"][cut:end]
                yield f"{row['name']} cut at {cut}", row, commands, uninterrupted(row, run, cut, end)


@pytest.mark.parametrize("writer", ["cpp", "python"])
def test_a_run_continues_in_cpp_from_a_file_of(writer, folder, python_runs, cpp_runs):
    cases = list(continuations(folder / writer, python_runs, steps=12))
    answers = twin.run_peer(PEER, [twin.peer_line(row, commands, compact=False) for _, row, commands, _ in cases])
    compare([name for name, *_ in cases], [records[2:] for records in answers], [expected for *_, expected in cases])


def test_a_run_continues_in_python_from_a_file_of_cpp(folder, python_runs, cpp_runs):
    cases = list(continuations(folder / "cpp", cpp_runs, steps=12))
    answers = [Files(row).run(commands, compact=False)[2:] for _, row, commands, _ in cases]
    compare([name for name, *_ in cases], [expected for *_, expected in cases], answers)
