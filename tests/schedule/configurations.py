# SPDX-License-Identifier: BSD-3-Clause
"""The table of schedules that the tests run in C++ and in Python."""
import math
import random

STEPS = 300

ONE = [{"lr": 0.1}]
TWO = [{"lr": 0.1}, {"lr": 0.003}]
THREE = [{"lr": 0.05}, {"lr": 1e-3}, {"lr": 0.7}]
WHOLE = [{"lr": 1}, {"lr": 0.25}]
TINY = [{"lr": 3e-310}, {"lr": 1e-300}]
ZERO = [{"lr": 0.0}, {"lr": 0.1}]
HUGE = [{"lr": 1e300}, {"lr": 1e-3}]
GROUPS = [ONE, TWO, THREE, WHOLE, TINY, ZERO, HUGE]
OPTIMIZERS = ["SGD", "Adam", "RMSprop", "AdamW", "Adagrad"]
CYCLING = ["SGD", "Adam", "RMSprop", "AdamW"]

SIMPLE = {
    "LambdaLR": [({"lr_lambda": name}, [3, 10]) for name in ("power", "thirds", "halves", "warmup", "decaying")],
    "MultiplicativeLR": [({"lr_lambda": name}, [2]) for name in ("power", "halves", "constant", "decaying", "thirds")],
    "StepLR": [
        ({"step_size": 30}, [30, 60]), ({"step_size": 1}, [1]), ({"step_size": 7, "gamma": 0.5}, [7]),
        ({"step_size": 10, "gamma": 1.1}, [10]), ({"step_size": 5, "gamma": 1}, [5]), ({"step_size": 4, "gamma": -0.9}, [4]),
        ({"step_size": 2.5, "gamma": 0.3}, [5]), ({"step_size": -3, "gamma": 0.7}, [3]), ({"step_size": 6, "gamma": 0.0}, [6]),
        ({"step_size": 1000}, [2]), ({"step_size": 9, "gamma": 1 / 3}, [9]),
    ],
    "MultiStepLR": [
        ({"milestones": [30, 80]}, [30, 80]), ({"milestones": [5, 5, 9], "gamma": 0.3}, [5, 9]),
        ({"milestones": [80, 30], "gamma": 0.7}, [30]), ({"milestones": [0, 3], "gamma": 0.9}, [3]),
        ({"milestones": []}, [2]), ({"milestones": [-1, 1], "gamma": 2}, [1]), ({"milestones": [4.0, 4, 6.5], "gamma": 0.2}, [4]),
        ({"milestones": list(range(1, 200, 3)), "gamma": 0.99}, [4]), ({"milestones": [250, 299], "gamma": 1e-3}, [250]),
    ],
    "ConstantLR": [
        ({}, [5]), ({"factor": 0.5, "total_iters": 10}, [10]), ({"factor": 1}, [5]), ({"factor": 1.0, "total_iters": 1}, [1]),
        ({"factor": 0.3, "total_iters": 0}, [1]), ({"factor": 0.7, "total_iters": 2.5}, [3]), ({"factor": 1e-3, "total_iters": 100}, [100]),
        ({"factor": 0.9, "total_iters": -4}, [2]),
    ],
    "LinearLR": [
        ({}, [5]), ({"start_factor": 0.1, "total_iters": 20}, [20]), ({"start_factor": 1.0, "end_factor": 0.0, "total_iters": 9}, [9]),
        ({"start_factor": 1, "end_factor": 0.5, "total_iters": 7}, [7]), ({"start_factor": 1e-8, "total_iters": 100}, [100]),
        ({"start_factor": 0.25, "end_factor": 0.75, "total_iters": 33}, [33]), ({"start_factor": 0.5, "total_iters": 0}, [1]),
        ({"start_factor": 1 / 7, "end_factor": 0.9, "total_iters": 12.5}, [12]), ({"start_factor": 0.3, "end_factor": 0.3}, [5]),
        ({"start_factor": 1 / 3, "end_factor": 1, "total_iters": 250}, [250]), ({"start_factor": 0.9, "end_factor": 0.001, "total_iters": 64}, [64]),
    ],
    "ExponentialLR": [
        ({"gamma": g}, [2]) for g in (0.9, 0.95, 1, 1.0, 1.01, 0.5, 0.0, -0.99, 1 / 3)
    ],
    "PolynomialLR": [
        ({}, [5]), ({"total_iters": 40}, [40]), ({"total_iters": 40, "power": 2.0}, [40]), ({"total_iters": 100, "power": 0.9}, [100]),
        ({"total_iters": 10, "power": 3}, [10]), ({"total_iters": 25, "power": 0.5}, [25]), ({"total_iters": 200, "power": 1.7}, [200]),
        ({"total_iters": 1, "power": 2.5}, [1]), ({"total_iters": 7, "power": 0}, [7]), ({"total_iters": 12.5, "power": 1.2}, [12]),
        ({"total_iters": 299, "power": 10.0}, [298]),
    ],
    "CosineAnnealingLR": [
        ({"T_max": 10}, [10, 20]), ({"T_max": 50, "eta_min": 1e-3}, [50, 100]), ({"T_max": 300}, [299]), ({"T_max": 1}, [1]),
        ({"T_max": 2, "eta_min": 0.05}, [2]), ({"T_max": 7, "eta_min": 1e-8}, [7]), ({"T_max": 33, "eta_min": 0.2}, [33]),
        ({"T_max": 100, "eta_min": 0}, [100]), ({"T_max": 12.5, "eta_min": 0.01}, [12]), ({"T_max": 99, "eta_min": -0.1}, [99]),
        ({"T_max": -9, "eta_min": 0.001}, [9]), ({"T_max": 64, "eta_min": 1}, [64]), ({"T_max": 1000, "eta_min": 1e-5}, [2]),
    ],
    "CosineAnnealingWarmRestarts": [
        ({"T_0": 10}, [10, 20]), ({"T_0": 10, "T_mult": 2}, [10, 30, 70]), ({"T_0": 1}, [1]), ({"T_0": 1, "T_mult": 2, "eta_min": 1e-4}, [1, 3]),
        ({"T_0": 7, "T_mult": 3, "eta_min": 0.01}, [7, 28]), ({"T_0": 50, "eta_min": 0}, [50]), ({"T_0": 13, "T_mult": 1, "eta_min": 0.3}, [13]),
        ({"T_0": 299, "T_mult": 4}, [299]), ({"T_0": 5, "T_mult": 10, "eta_min": 1e-9}, [5, 55]),
    ],
    "SWALR": [
        ({"swa_lr": 0.05}, [10]), ({"swa_lr": 0.5, "anneal_epochs": 20, "anneal_strategy": "linear"}, [20]),
        ({"swa_lr": 0.01, "anneal_epochs": 0}, [1]), ({"swa_lr": 0.01, "anneal_epochs": 0, "anneal_strategy": "linear"}, [1]),
        ({"swa_lr": 1, "anneal_epochs": 1}, [1]), ({"swa_lr": 1, "anneal_epochs": 3, "anneal_strategy": "linear"}, [3]),
        ({"swa_lr": 1e-3, "anneal_epochs": 250}, [250]), ({"swa_lr": 0.0, "anneal_epochs": 7}, [7]),
        ({"swa_lr": 0.3, "anneal_epochs": 33, "anneal_strategy": "linear"}, [33]),
    ],
}

CYCLIC = [
    ({"step_size_up": 10}, [10, 20]), ({"step_size_up": 10, "mode": "triangular2"}, [20, 40]),
    ({"step_size_up": 10, "mode": "exp_range", "gamma": 0.99}, [10]), ({"step_size_up": 5, "step_size_down": 15}, [5, 20]),
    ({"step_size_up": 1}, [1]), ({"step_size_up": 7, "step_size_down": 0, "mode": "triangular2"}, [7]),
    ({"step_size_up": 13.5, "step_size_down": 4, "mode": "exp_range", "gamma": 0.999}, [17]), ({}, [2]),
    ({"step_size_up": 8, "scale_fn": "power", "scale_mode": "cycle"}, [16]), ({"step_size_up": 8, "scale_fn": "halves", "scale_mode": "iterations"}, [16]),
    ({"step_size_up": 9, "scale_fn": "decaying", "scale_mode": "cycle", "mode": "anything"}, [18]),
    ({"step_size_up": 30, "base_momentum": 0.75, "max_momentum": 0.98}, [30]), ({"step_size_up": 3, "mode": "exp_range", "gamma": 1}, [3]),
    ({"step_size_up": 20, "base_momentum": 0, "max_momentum": 1}, [20]),
]

ONE_CYCLE = [
    ({}, 100), ({"three_phase": True}, 100), ({"anneal_strategy": "linear"}, 250), ({"anneal_strategy": "linear", "three_phase": True}, 60),
    ({"pct_start": 0.1, "div_factor": 10.0, "final_div_factor": 100.0}, 300), ({"pct_start": 0.5}, 40), ({"pct_start": 0.45, "three_phase": True}, 299),
    ({"pct_start": 0.999}, 200), ({"pct_start": 0.0}, 20), ({"pct_start": 0.96}, 30), ({"div_factor": 1, "final_div_factor": 1}, 50),
    ({"base_momentum": 0.8, "max_momentum": 0.99}, 77), ({"pct_start": 0.25, "div_factor": 25, "final_div_factor": 10000}, 133), ({"pct_start": 1 / 3, "three_phase": True}, 33),
]

PLATEAU = [
    {}, {"mode": "max"}, {"factor": 0.5, "patience": 2}, {"threshold_mode": "abs", "threshold": 0.1, "patience": 1},
    {"mode": "max", "threshold_mode": "abs", "threshold": 0.01, "patience": 0}, {"cooldown": 5, "patience": 3, "factor": 0.7},
    {"min_lr": 0.01, "patience": 1}, {"min_lr": 0, "patience": 0, "factor": 0.3}, {"eps": 0.02, "patience": 1, "factor": 0.9}, {"patience": 0, "cooldown": 1},
    {"mode": "max", "patience": 4, "threshold": 0.5}, {"threshold": 0, "patience": 2, "factor": 0.95}, {"factor": 0, "patience": 5}, {"min_lr": 1, "patience": 0},
    {"mode": "min", "threshold_mode": "rel", "threshold": -0.1, "patience": 2}, {"cooldown": 2.5, "patience": 1.5, "factor": 0.8},
]

LINEAR = ["LinearLR", {"start_factor": 0.1, "total_iters": 5}]
COSINE = ["CosineAnnealingLR", {"T_max": 30, "eta_min": 1e-4}]
EXPONENTIAL = ["ExponentialLR", {"gamma": 0.97}]
STEP = ["StepLR", {"step_size": 10, "gamma": 0.5}]
CONSTANT = ["ConstantLR", {"factor": 0.1, "total_iters": 8}]
POLYNOMIAL = ["PolynomialLR", {"total_iters": 25, "power": 1.5}]
RESTARTS = ["CosineAnnealingWarmRestarts", {"T_0": 9, "T_mult": 2}]
LAMBDA = ["LambdaLR", {"lr_lambda": "warmup"}]
MULTIPLICATIVE = ["MultiplicativeLR", {"lr_lambda": "constant"}]
MULTI_STEP = ["MultiStepLR", {"milestones": [4, 11], "gamma": 0.3}]
SWA = ["SWALR", {"swa_lr": 0.02, "anneal_epochs": 6}]
ONE_CYCLE_PART = ["OneCycleLR", {"max_lr": 0.3, "total_steps": 400}]
CYCLIC_PART = ["CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 7, "mode": "triangular2"}]


def sequential(*schedulers, milestones, **more):
    return ["SequentialLR", {"schedulers": list(schedulers), "milestones": milestones, **more}]


def chained(*schedulers):
    return ["ChainedScheduler", {"schedulers": list(schedulers)}]


COMPOSITES = [
    (sequential(LINEAR, COSINE, milestones=[5]), [5, 35]), (sequential(CONSTANT, EXPONENTIAL, milestones=[20]), [8, 20]),
    (sequential(LINEAR, STEP, EXPONENTIAL, milestones=[5, 50]), [5, 50]), (sequential(LINEAR, RESTARTS, milestones=[10]), [10, 19]),
    (sequential(LAMBDA, POLYNOMIAL, CONSTANT, milestones=[10, 40]), [10, 40]), (sequential(COSINE, milestones=[]), [30]),
    (sequential(LINEAR, COSINE, milestones=[0]), [1]), (sequential(MULTIPLICATIVE, MULTIPLICATIVE, milestones=[7]), [7]),
    (sequential(MULTI_STEP, SWA, milestones=[15]), [15, 21]), (sequential(SWA, LINEAR, milestones=[4]), [4]),
    (sequential(LINEAR, COSINE, STEP, milestones=[30, 5]), [5, 30]), (sequential(LINEAR, COSINE, STEP, milestones=[5, 5]), [5]),
    (sequential(LINEAR, ONE_CYCLE_PART, milestones=[5]), [5]), (sequential(CYCLIC_PART, EXPONENTIAL, milestones=[14]), [14]),
    (sequential(LINEAR, CYCLIC_PART, milestones=[6]), [6]), (sequential(LINEAR, COSINE, milestones=[5], last_epoch=3), [1, 2]),
    (sequential(LINEAR, COSINE, milestones=[5.0]), [5]), (sequential(POLYNOMIAL, COSINE, milestones=[2.5]), [3]),
    (sequential(sequential(LINEAR, COSINE, milestones=[5]), EXPONENTIAL, milestones=[20]), [4, 5, 20]),
    (sequential(sequential(EXPONENTIAL, POLYNOMIAL, milestones=[6]), COSINE, STEP, milestones=[20, 60]), [5, 6, 20, 60]),
    (sequential(chained(LINEAR, EXPONENTIAL), COSINE, milestones=[12]), [12]),
    (sequential(chained(CONSTANT, MULTIPLICATIVE), RESTARTS, milestones=[9]), [8, 9]),
    (sequential(sequential(sequential(LINEAR, STEP, milestones=[3]), POLYNOMIAL, milestones=[8]), EXPONENTIAL, milestones=[30]), [3, 8, 30]),
    (chained(CONSTANT, EXPONENTIAL), [8]), (chained(LINEAR, COSINE), [5]), (chained(STEP, MULTI_STEP, LAMBDA), [4, 10]),
    (chained(RESTARTS, EXPONENTIAL), [9]), (chained(POLYNOMIAL), [25]), (chained(MULTIPLICATIVE, SWA), [6]),
    (chained(sequential(LINEAR, COSINE, milestones=[5]), EXPONENTIAL), [5]),
    (chained(chained(LINEAR, STEP), MULTIPLICATIVE), [5, 10]), (chained(CYCLIC_PART, CONSTANT), [7]),
    (chained(ONE_CYCLE_PART, EXPONENTIAL), [2]),
]


def metrics(seed):
    """A noisy loss that falls and then stays, with a NaN and an infinity in it."""
    generator = random.Random(seed)
    values = [1.0 / (1 + 0.1 * min(i, 60)) + generator.uniform(-0.05, 0.05) for i in range(STEPS)]
    values[17], values[18], values[40] = math.nan, math.inf, -0.0
    return values


def jumps(seed):
    """Mostly step(), now and then step(epoch)."""
    generator = random.Random(seed)
    return [["step", generator.randrange(0, 60)] if generator.random() < 0.1 else ["step"] for _ in range(STEPS)]


def rows():
    """Every configuration: name, optimizer, groups, scheduler, commands, and the steps around which it is cut."""
    table = []

    def add(name, optimizer, groups, scheduler, commands, boundaries):
        table.append({"name": f"{len(table):03d}-{name}", "optimizer": optimizer, "groups": groups, "scheduler": scheduler,
                      "commands": commands, "boundaries": boundaries})

    plain = [["step"]] * STEPS
    count = 0
    for name, cases in SIMPLE.items():
        for arguments, boundaries in cases:
            add(name, OPTIMIZERS[count % 5], GROUPS[count % 6], [name, arguments], plain, boundaries)
            count += 1
        jumping = [case for case in cases if name != "SWALR"][:3]
        for arguments, boundaries in jumping:
            add(name + "-jumps", OPTIMIZERS[count % 5], GROUPS[count % 3], [name, arguments], jumps(count), boundaries)
            count += 1
    for lambdas in (["power", "halves"], ["thirds", "decaying"]):
        add("LambdaLR-list", "SGD", TWO, ["LambdaLR", {"lr_lambda": lambdas}], plain, [2])
        add("MultiplicativeLR-list", "Adam", WHOLE, ["MultiplicativeLR", {"lr_lambda": lambdas}], plain[:40], [2])
    add("SWALR-list", "SGD", THREE, ["SWALR", {"swa_lr": [0.1, 0.2, 1], "anneal_epochs": 12}], plain, [12])
    add("ExponentialLR-huge", "SGD", HUGE, ["ExponentialLR", {"gamma": 1.5}], plain, [40])
    for fraction in ({"T_0": 10}, {"T_0": 4, "T_mult": 2, "eta_min": 0.001}, {"T_0": 5, "T_mult": 3}):
        epochs = [["step", i / 7] for i in range(STEPS)]
        add("WarmRestarts-fractions", "SGD", TWO, ["CosineAnnealingWarmRestarts", fraction], epochs, [70, 71])
    for i, (arguments, boundaries) in enumerate(CYCLIC):
        for j, limits in enumerate(({"base_lr": 0.01, "max_lr": 0.1}, {"base_lr": [1e-5, 1], "max_lr": [0.3, 2]})):
            add("CyclicLR", CYCLING[(i + j) % 4], TWO, ["CyclicLR", {**limits, **arguments}], plain, boundaries)
    add("CyclicLR-lists", "Adam", TWO, ["CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 6, "base_momentum": [0.5, 0.6],
                                                     "max_momentum": [0.9, 0.95]}], plain, [6])
    add("CyclicLR-no-momentum", "Adagrad", ONE, ["CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 6, "cycle_momentum": False}], plain, [6])
    for i, (arguments, total) in enumerate(ONE_CYCLE):
        add("OneCycleLR", CYCLING[i % 4], GROUPS[i % 3], ["OneCycleLR", {"max_lr": 0.1, "total_steps": total, **arguments}],
            [["step"]] * total, [int(0.3 * total), total - 1])
    add("OneCycleLR-epochs", "SGD", TWO, ["OneCycleLR", {"max_lr": [0.1, 1], "epochs": 5, "steps_per_epoch": 40, "base_momentum": [0.5, 0.6],
                                                         "max_momentum": [0.9, 1]}], [["step"]] * 200, [59])
    add("OneCycleLR-no-momentum", "Adagrad", ONE, ["OneCycleLR", {"max_lr": 0.1, "total_steps": 90, "cycle_momentum": False}], [["step"]] * 90, [27])
    for i, arguments in enumerate(PLATEAU):
        commands = [["step", metric] for metric in metrics(i)]
        add("ReduceLROnPlateau", OPTIMIZERS[i % 5], GROUPS[i % 6], ["ReduceLROnPlateau", arguments], commands, [17, 60, 75])
    add("ReduceLROnPlateau-list", "SGD", THREE, ["ReduceLROnPlateau", {"min_lr": [0.01, 0, 1], "patience": 1}],
        [["step", metric, 2 * i] for i, metric in enumerate(metrics(99))], [40])
    for i, (scheduler, boundaries) in enumerate(COMPOSITES):
        add(scheduler[0], CYCLING[i % 4], GROUPS[i % 4], scheduler, plain, boundaries)
    return table


def cuts(row):
    """Where a run is interrupted: 0, 1, around every boundary, and somewhere."""
    last = len(row["commands"])
    points = {0, 1, random.Random(row["name"]).randrange(last)}
    for boundary in row["boundaries"]:
        points |= {boundary - 1, boundary, boundary + 1}
    return sorted(point for point in points if 0 <= point <= last)
