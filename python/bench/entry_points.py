# SPDX-License-Identifier: BSD-3-Clause
"""Measures torchkeep.save and torchkeep.load beside torch.save and torch.load(weights_only=True), in the page cache.

The candidates take turns; what was loaded is compared before anything is timed. Usage: entry_points.py [ROUNDS [FOLDER]]
"""
import pathlib
import statistics
import sys
import tempfile
import time

import torch

import torchkeep

WORKLOADS = {
    "100,000 tensors of 64 floats": lambda: {f"layer.{i}.weight": torch.randn(64) for i in range(100_000)},
    "one gigabyte in 40 tensors": lambda: {f"layer.{i}.weight": torch.randn(6_250_000) for i in range(40)},
}


def seconds(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(state, folder, rounds):
    ours, theirs = folder / "torchkeep.pt", folder / "torch.pt"
    operations = {
        "save": (lambda: torchkeep.save(state, ours, durable=False), lambda: torch.save(state, theirs)),
        "load": (lambda: torchkeep.load(ours), lambda: torch.load(theirs, weights_only=True)),
    }
    for save in operations["save"]:
        save()
    for loaded in (torchkeep.load(theirs), torch.load(ours, weights_only=True)):
        assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)
    for name, pair in operations.items():
        times = [[seconds(one) for one in pair] for _ in range(rounds)]
        first, second = (statistics.median(column) for column in zip(*times))
        print(f"  {name}: torchkeep {first:.3f} s, torch {second:.3f} s, {second / first:.1f} times as fast")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        for name, make in WORKLOADS.items():
            print(name)
            measure(make(), pathlib.Path(folder), rounds)


if __name__ == "__main__":
    main()
