# SPDX-License-Identifier: BSD-3-Clause
"""Prints the fingerprints of golden_test.cpp from the installed PyTorch."""
import struct

import twin

SCHEDULES = {
    "cosine": (0.1, ["CosineAnnealingLR", {"T_max": 33, "eta_min": 0.007}]),
    "linear": (0.3, ["LinearLR", {"start_factor": 1.0 / 7, "end_factor": 0.9, "total_iters": 40}]),
    "polynomial": (0.1, ["PolynomialLR", {"total_iters": 70, "power": 1.7}]),
    "restarts": (0.1, ["CosineAnnealingWarmRestarts", {"T_0": 7, "T_mult": 2, "eta_min": 0.003}]),
    "exp_range": (0.1, ["CyclicLR", {"base_lr": 0.013, "max_lr": 0.11, "step_size_up": 9, "mode": "exp_range", "gamma": 0.993}]),
    "triangular2": (0.1, ["CyclicLR", {"base_lr": 0.013, "max_lr": 0.11, "step_size_up": 7, "step_size_down": 3,
                                       "mode": "triangular2"}]),
    "one_cycle": (0.1, ["OneCycleLR", {"max_lr": 0.17, "total_steps": 61}]),
    "one_cycle_linear": (0.1, ["OneCycleLR", {"max_lr": 0.17, "total_steps": 61, "anneal_strategy": "linear", "three_phase": True}]),
    "swa": (0.1, ["SWALR", {"swa_lr": 0.037, "anneal_epochs": 23}]),
    "denormal": (3e-310, ["ExponentialLR", {"gamma": 0.7}]),
    "sequential": (0.1, ["SequentialLR", {"milestones": [11], "schedulers": [
        ["LinearLR", {"start_factor": 0.013, "total_iters": 11}], ["CosineAnnealingLR", {"T_max": 50, "eta_min": 0.001}]]}]),
}


def fingerprint(lr, scheduler):
    row = {"optimizer": "SGD", "groups": [{"lr": lr, "momentum": 0.9}], "scheduler": scheduler}
    experiment = twin.Experiment(row)
    value = 0xCBF29CE484222325
    for step in range(61):
        if step:
            experiment.execute(["step"])
        group = experiment.optimizer.param_groups[0]
        for number in (group["lr"], group["momentum"]):
            value = (value ^ struct.unpack(">Q", struct.pack(">d", number))[0]) * 0x100000001B3 % 2**64
    return value


def fingerprints():
    return {name: fingerprint(lr, scheduler) for name, (lr, scheduler) in SCHEDULES.items()}


if __name__ == "__main__":
    for name, value in fingerprints().items():
        print(f"{name:20} {value:#018x}")
