# SPDX-License-Identifier: BSD-3-Clause
"""Every scheduler of PyTorch against ours, bit for bit: learning rates, momenta, state dicts, and runs cut in two."""
import os
import pathlib

import pytest

pytest.importorskip("torch", reason="PyTorch is what the schedulers are compared with")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

import configurations
import golden
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


BAD = [
    # What the constructors refuse.
    (["LambdaLR", {"lr_lambda": ["power"]}], []),
    (["MultiplicativeLR", {"lr_lambda": ["power", "halves", "power"]}], []),
    (["ConstantLR", {"factor": 1.5}], []),
    (["ConstantLR", {"factor": -0.1}], []),
    (["LinearLR", {"start_factor": 0}], []),
    (["LinearLR", {"start_factor": 1.1}], []),
    (["LinearLR", {"end_factor": -0.5}], []),
    (["LinearLR", {"end_factor": 2}], []),
    (["CosineAnnealingWarmRestarts", {"T_0": 0}], []),
    (["CosineAnnealingWarmRestarts", {"T_0": -3}], []),
    (["CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 0}], []),
    (["CyclicLR", {"base_lr": [0.1], "max_lr": 1.0}], []),
    (["CyclicLR", {"base_lr": 0.1, "max_lr": [1.0, 2.0, 3.0]}], []),
    (["CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "mode": "square"}], []),
    (["CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "base_momentum": [0.1]}], []),
    (["CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 0, "step_size_down": 0}], []),
    (["OneCycleLR", {"max_lr": 0.1}], []),
    (["OneCycleLR", {"max_lr": 0.1, "epochs": 5}], []),
    (["OneCycleLR", {"max_lr": 0.1, "total_steps": 0}], []),
    (["OneCycleLR", {"max_lr": 0.1, "total_steps": -5}], []),
    (["OneCycleLR", {"max_lr": 0.1, "epochs": 0, "steps_per_epoch": 3}], []),
    (["OneCycleLR", {"max_lr": 0.1, "epochs": 3, "steps_per_epoch": -1}], []),
    (["OneCycleLR", {"max_lr": 0.1, "total_steps": 10, "pct_start": 1.5}], []),
    (["OneCycleLR", {"max_lr": 0.1, "total_steps": 10, "pct_start": -0.1}], []),
    (["OneCycleLR", {"max_lr": 0.1, "total_steps": 10, "anneal_strategy": "exp"}], []),
    (["OneCycleLR", {"max_lr": [0.1], "total_steps": 10}], []),
    (["OneCycleLR", {"max_lr": 0.1, "total_steps": 10, "pct_start": 0.1}], []),
    (["SWALR", {"swa_lr": 0.1, "anneal_strategy": "exp"}], []),
    (["SWALR", {"swa_lr": 0.1, "anneal_epochs": -1}], []),
    (["SWALR", {"swa_lr": [0.1]}], []),
    (["ReduceLROnPlateau", {"factor": 1.0}], []),
    (["ReduceLROnPlateau", {"mode": "average"}], []),
    (["ReduceLROnPlateau", {"threshold_mode": "some"}], []),
    (["ReduceLROnPlateau", {"min_lr": [0.1]}], []),
    (configurations.sequential(milestones=[]), []),
    (configurations.sequential(configurations.LINEAR, milestones=[5]), []),
    (configurations.sequential(configurations.LINEAR, configurations.STEP, milestones=[]), []),
    (configurations.chained(), []),
    (["StepLR", {"step_size": 3, "last_epoch": 5}], []),
    (["OneCycleLR", {"max_lr": 0.1, "total_steps": 10, "last_epoch": 4}], []),
    # What a step refuses.
    (["StepLR", {"step_size": 0}], [["step"]]),
    (["StepLR", {"step_size": 0.0}], [["step"]]),
    (["StepLR", {"step_size": 0}], [["step", 4]]),
    (["StepLR", {"step_size": 0.0}], [["step", 4]]),
    (["ConstantLR", {"factor": 0.0, "total_iters": 2}], [["step"], ["step"]]),
    (["LinearLR", {"total_iters": 0}], [["step", 3]]),
    (["PolynomialLR", {"total_iters": 0}], [["step", 3]]),
    (["PolynomialLR", {"total_iters": 2, "power": -1.0}], [["step"], ["step"]]),
    (["ExponentialLR", {"gamma": 0.0}], [["step", -1]]),
    (["ExponentialLR", {"gamma": 10.0}], [["step", 400]]),
    (["CosineAnnealingLR", {"T_max": 0}], [["step"]]),
    (["CosineAnnealingWarmRestarts", {"T_0": 3}], [["step", -1]]),
    (["CosineAnnealingWarmRestarts", {"T_0": 3}], [["step", -0.5]]),
    (["OneCycleLR", {"max_lr": 0.1, "total_steps": 3, "pct_start": 0.5}], [["step"]] * 4),
    (configurations.sequential(configurations.LINEAR, configurations.sequential(configurations.STEP, milestones=[]),
                               milestones=[2]), [["step"]] * 2),
    # A group that came after the scheduler.
    (["LambdaLR", {"lr_lambda": "power"}], [["add_group", {"lr": 0.1}], ["step"]]),
    (["MultiplicativeLR", {"lr_lambda": "power"}], [["add_group", {"lr": 0.1}], ["step"]]),
    (["CosineAnnealingWarmRestarts", {"T_0": 3}], [["add_group", {"lr": 0.1}], ["step"]]),
    (["CyclicLR", {"base_lr": 0.1, "max_lr": 1.0}], [["add_group", {"lr": 0.1, "momentum": 0}], ["step"]]),
    (["ReduceLROnPlateau", {"min_lr": [0.0, 0.0], "patience": 0}],
     [["add_group", {"lr": 0.1}], ["step", 1.0], ["step", 2.0]]),
]


def complaint(row, commands):
    try:
        twin.Experiment(row).run(commands, compact=True)
    except KeyError as error:
        return error.args[0]
    except Exception as error:  # noqa: BLE001: whatever PyTorch raises
        return str(error) or type(error).__name__
    raise AssertionError(f"PyTorch accepts {row['scheduler']} {commands}")


def test_what_pytorch_refuses_is_refused_in_its_words():
    rows = [({"optimizer": "SGD", "groups": configurations.TWO, "scheduler": scheduler}, commands)
            for scheduler, commands in BAD]
    rows += [({"optimizer": "Adagrad", "groups": configurations.TWO, "scheduler": scheduler}, []) for scheduler in (
        ["CyclicLR", {"base_lr": 0.1, "max_lr": 1.0}], ["OneCycleLR", {"max_lr": 0.1, "total_steps": 3}])]
    answers = twin.run_peer(PEER, [twin.peer_line(row, commands, compact=True) for row, commands in rows])
    for (row, commands), records in zip(rows, answers, strict=True):
        expected = complaint(row, commands)
        assert records[-1][0] == "error", f"{row['scheduler']} {commands}: PyTorch says {expected}"
        assert expected in records[-1][2], f"{row['scheduler']} {commands}"


def test_a_group_added_later_is_driven_where_pytorch_drives_it():
    schedulers = [["StepLR", {"step_size": 2}], ["ExponentialLR", {"gamma": 0.9}], ["MultiStepLR", {"milestones": [3, 7]}],
                  ["LinearLR", {"total_iters": 8}], ["PolynomialLR", {"total_iters": 9}], ["OneCycleLR", {"max_lr": 1.0, "total_steps": 20}],
                  configurations.chained(["StepLR", {"step_size": 2}], ["ConstantLR", {}])]
    group = {"lr": 0.3, "momentum": 0.5, "initial_lr": 0.2, "max_lr": 0.4, "min_lr": 0.1, "max_momentum": 0.8, "base_momentum": 0.7}
    commands = [["step"]] * 3 + [["add_group", group]] + [["step"]] * 12
    rows = [{"optimizer": "SGD", "groups": configurations.TWO, "scheduler": scheduler} for scheduler in schedulers]
    ours = twin.run_peer(PEER, [twin.peer_line(row, commands, compact=False) for row in rows])
    compare([row["scheduler"][0] for row in rows], ours, [twin.Experiment(row).run(commands, compact=False) for row in rows])


def test_last_epoch_continues_from_the_groups_as_in_pytorch():
    # Constructing with last_epoch=N: every class has its own quirk, and ours are the same.
    schedulers = [[name, {**arguments, "last_epoch": 6}] for name, cases in configurations.SIMPLE.items() for arguments, _ in cases]
    schedulers += [["CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 4, "last_epoch": 6}],
                   ["OneCycleLR", {"max_lr": 1.0, "total_steps": 40, "last_epoch": 6}]]
    groups = [{"lr": 0.07, "momentum": 0.9, "initial_lr": 0.1, "max_lr": 0.4, "min_lr": 0.1, "max_momentum": 0.8, "base_momentum": 0.7}]
    rows = [{"optimizer": "SGD", "groups": groups, "scheduler": scheduler} for scheduler in schedulers]
    commands = [["step"]] * 20
    ours = twin.run_peer(PEER, [twin.peer_line(row, commands, compact=False) for row in rows])
    compare([row["scheduler"][0] for row in rows], ours, [twin.Experiment(row).run(commands, compact=False) for row in rows])


def test_the_golden_table_is_what_this_pytorch_computes():
    source = (pathlib.Path(__file__).parent / "golden_test.cpp").read_text()
    for name, value in golden.fingerprints().items():
        assert f"{value:#018x}" in source, f"{name}: this PyTorch gives {value:#018x}"
