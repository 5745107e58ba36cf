# SPDX-License-Identifier: BSD-3-Clause
"""Measures torchkeep.save and torchkeep.load beside torch.save, torch.load(weights_only=True) and, where it is installed,
safetensors, in the page cache: wall time and processor time.

The candidates take turns; what was loaded is compared before anything is timed. Usage: entry_points.py [ROUNDS [FOLDER]]
"""
import pathlib
import statistics
import sys
import tempfile
import time

import torch

import torchkeep

try:
    import safetensors.torch as safetensors
except ImportError:
    safetensors = None

WORKLOADS = {
    "100,000 tensors of 64 floats": lambda: {f"layer.{i}.weight": torch.randn(64) for i in range(100_000)},
    "one gigabyte in 40 tensors": lambda: {f"layer.{i}.weight": torch.randn(6_250_000) for i in range(40)},
}


def candidates(state, folder):
    """Of each: how it saves, how it loads."""
    ours, theirs, tensors = folder / "torchkeep.pt", folder / "torch.pt", folder / "model.safetensors"
    found = {"torchkeep": (lambda: torchkeep.save(state, ours, durable=False), lambda: torchkeep.load(ours)),
             "torch": (lambda: torch.save(state, theirs), lambda: torch.load(theirs, weights_only=True))}
    if safetensors:  # without checksums; it maps the file, so that loading reads nothing yet
        found["safetensors"] = (lambda: safetensors.save_file(state, tensors), lambda: safetensors.load_file(tensors))
    return found


def seconds(function):
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(state, folder, rounds):
    found = candidates(state, folder)
    for save, load in found.values():
        save()
        loaded = load()
        assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)
    for i, verb in enumerate(("save", "load")):
        times = {name: [] for name in found}
        for _ in range(rounds):
            for name, operations in found.items():
                times[name].append(seconds(operations[i]))
        medians = {name: [statistics.median(column) for column in zip(*some)] for name, some in times.items()}
        own = medians["torchkeep"][0]
        for name, (wall, cpu) in medians.items():
            print(f"  {verb}: {name:11} {wall:.3f} s, processor {cpu:.3f} s, {wall / own:.1f} times torchkeep's time")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        for name, make in WORKLOADS.items():
            print(name)
            measure(make(), pathlib.Path(folder), rounds)


if __name__ == "__main__":
    main()
