# SPDX-License-Identifier: BSD-3-Clause
"""Every scheduler of PyTorch against ours, bit for bit: learning rates, momenta, state dicts, and runs cut in two."""
import os
import pathlib

import pytest

pytest.importorskip("torch", reason="PyTorch is what the schedulers are compared with")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

import configurations
import twin

PEER = os.environ.get("TORCHKEEP_SCHEDULE_PEER") or str(pathlib.Path(os.environ["TORCHKEEP_BIN"]) / "schedule_peer")
ROWS = configurations.rows()


def first_difference(ours, theirs):
    """Names the first record that differs, or None."""
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            return f"record {i}:\n  C++    {a}\n  Python {b}"
    return None if len(ours) == len(theirs) else f"{len(ours)} records, {len(theirs)} in Python: {ours[-1]}"


def compare(names, ours, theirs):
    """Fails with one line per configuration that differs."""
    differences = [f"{name}: {difference}" for name, a, b in zip(names, ours, theirs, strict=True)
                   if (difference := first_difference(twin.text(a), twin.text(b)))]
    assert not differences, f"{len(differences)} of {len(names)} differ\n" + "\n".join(differences[:20])


@pytest.fixture(scope="module")
def uninterrupted():
    """What PyTorch does with every row: all records in full, so that a run can be continued from each."""
    return {row["name"]: twin.Experiment(row).run(row["commands"], compact=False) for row in ROWS}


def test_the_table_has_every_scheduler_in_at_least_200_configurations():
    assert len(ROWS) >= 200
    kinds = {row["scheduler"][0] for row in ROWS}
    assert kinds == set(twin.lr_scheduler.__all__) - {"LRScheduler"} | {"SWALR"}


def test_every_step_is_bit_identical(uninterrupted):
    lines = [twin.peer_line(row, row["commands"], compact=False) for row in ROWS]
    compare([row["name"] for row in ROWS], twin.run_peer(PEER, lines), [uninterrupted[row["name"]] for row in ROWS])


def resumed(records, cut):
    """Commands that bring a fresh run to where `records` were at `cut`."""
    groups, state, _ = records[cut]
    return [["load_groups", [twin.decode(group) for group in groups]], ["load_scheduler", twin.decode(state)]]


def compact(record):
    groups, state, _ = record
    groups = [twin.decode(group) for group in groups]
    return [[[twin.encode(g["lr"]), twin.encode(g.get("momentum", g.get("betas")))] for g in groups],
            twin.encode(twin.decode(state)["_last_lr"])]


def continuations(uninterrupted, steps):
    """For every row and cut: the commands that resume there and run on for `steps`, and what they must give."""
    for row in ROWS:
        records = uninterrupted[row["name"]]
        for cut in configurations.cuts(row):
            end = min(cut + steps, len(row["commands"]))
            expected = [compact(record) for record in records[cut:end + 1]] + [records[end]]
            yield f"{row['name']} cut at {cut}", row, resumed(records, cut) + row["commands"][cut:end], expected


def test_a_run_cut_in_python_continues_in_cpp(uninterrupted):
    # The states of both languages are equal (the test above), so this is C++ -> C++ as well.
    names, lines, expected = [], [], []
    for name, row, commands, rest in continuations(uninterrupted, steps=configurations.STEPS):
        names.append(name)
        lines.append(twin.peer_line(row, commands, compact=True))
        expected.append(rest)
    compare(names, [records[2:] for records in twin.run_peer(PEER, lines)], expected)


def test_a_run_cut_in_cpp_continues_in_python(uninterrupted):
    answers = twin.run_peer(PEER, [twin.peer_line(row, row["commands"], compact=False) for row in ROWS])
    cpp = {row["name"]: records for row, records in zip(ROWS, answers, strict=True)}
    names, python, expected = [], [], []
    for name, row, commands, rest in continuations(cpp, steps=60):
        names.append(name)
        expected.append(rest)
        python.append(twin.Experiment(row).run(commands, compact=True)[2:])
    compare(names, expected, python)
