# SPDX-License-Identifier: BSD-3-Clause
"""Measures saving and loading side by side: torchkeep, PyTorch, safetensors, torch.distributed.checkpoint, LibTorch's
archives and plain copies written by hand. Writes a report in Markdown and a picture.

Candidates take turns (A B C A B C ...); medians and spread are reported. What each of them wrote or read is compared bit
for bit with the state before anything is timed. WARM: memory was touched just before, so that fresh pages cost little;
COLD: the machine was idle for 9 seconds, as between two checkpoints of a real training.
"""
import argparse
import functools
import gc
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch

from report import write_report
from rivals import remove
from state_bench import StateBench
from training import measure_training
from workloads import SIZES, growth, nbytes, workloads

PROJECT = Path(__file__).resolve().parent.parent
SECTIONS = ["saves", "loads", "resumes", "from_disk"]


def measure(bench, options, log):
    result = {"bytes": bench.bytes}
    for section in options.sections:
        candidates = getattr(bench, section)()
        result[section] = {}
        for condition in options.conditions:
            log(f"  {section}, {condition}: {len(candidates)} candidates, {options.runs} times")
            result[section][condition] = bench.measure(candidates, condition, options.runs)
    return result


def measure_workloads(options, folder, log):
    results = {}
    for name in options.workloads:
        title, shapes = workloads(options.size)[name]
        log(f"{title}, {nbytes(shapes) / 1e6:,.0f} MB")
        bench = StateBench(options.worker, folder, shapes)
        results[name] = {"title": title, **measure(bench, options, log)}
        bench.close()
        del bench
        empty(folder)
    return results


def measure_growth(options, folder, log):
    """How the cost of one operation grows: bytes, tensors, threads."""
    results = {}
    for title, shapes in growth(options.size).items():
        log(f"  growth: {title}")
        bench = StateBench(options.worker, folder, shapes)
        results[title] = {"bytes": bench.bytes, "rows": bench.measure(bench.basics(), "WARM", min(3, options.runs))}
        bench.close()
        del bench
        empty(folder)
    return results


def empty(folder):
    gc.collect()
    for path in folder.iterdir():
        remove(path)


def machine():
    name = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = int(next(line.split()[1] for line in open("/proc/meminfo"))) // 2**20
    return {"cores": len(os.sched_getaffinity(0)), "cpu": name, "memory_gib": memory, "kernel": os.uname().release,
            "torch": torch.__version__, "load": os.getloadavg()[0]}


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--worker", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--train", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "bench", help="folder for report.md, bench.svg, bench.json")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to measure (default: in --out)")
    parser.add_argument("--size", choices=SIZES, default="full", help="quick: a tenth, for small machines")
    parser.add_argument("--workloads", nargs="*", default=["gpt2", "resnet", "small", "one"])
    parser.add_argument("--sections", nargs="+", default=SECTIONS, choices=SECTIONS)
    parser.add_argument("--conditions", nargs="+", default=["WARM", "COLD"], choices=["WARM", "COLD"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--saves", type=int, default=8, help="saves in each training; 0: no trainings")
    parser.add_argument("--train-threads", type=int, nargs="+", help="of each training (default: all cores, and one less)")
    parser.add_argument("--no-growth", action="store_true", help="leave out how the cost grows")
    return parser.parse_args()


def main():
    options = arguments()
    cores = len(os.sched_getaffinity(0))
    options.train_threads = options.train_threads or sorted({max(1, cores - 1), cores})
    torch.set_num_threads(cores)
    options.out.mkdir(parents=True, exist_ok=True)
    log = functools.partial(print, flush=True)
    results = {"machine": machine(), "size": options.size, "runs": options.runs}
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=options.scratch or options.out))
    try:
        results["workloads"] = measure_workloads(options, scratch, log)
        if options.saves > 0:
            results["training"] = measure_training(options, scratch, log)
        if not options.no_growth:
            results["growth"] = measure_growth(options, scratch, log)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    results["machine"]["load_at_end"] = os.getloadavg()[0]
    (options.out / "bench.json").write_text(json.dumps(results, indent=1))
    write_report(results, options.out)
    log(f"report: {options.out / 'report.md'}\npicture: {options.out / 'bench.svg'}")


if __name__ == "__main__":
    main()
