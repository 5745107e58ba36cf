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
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch

from report import write_report
from rivals import Rivals, State, remove
from workloads import SIZES, growth, nbytes, workloads

COLD_SECONDS = 9
PROJECT = Path(__file__).resolve().parent.parent


class Worker:
    """The C++ process with the state."""

    def __init__(self, program, folder, shapes):
        path = folder / "shapes.json"
        path.write_text(json.dumps(shapes))
        self.process = subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench_worker ended with status {self.process.wait()}")
        return json.loads(line)

    def do(self, operation, path=""):
        self.process.stdin.write(f"{operation} {path}\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """One workload: the state in both languages, and candidates that take turns."""

    def __init__(self, options, folder, shapes):
        self.options, self.folder, self.bytes = options, folder, nbytes(shapes)
        self.worker = Worker(options.worker, folder, shapes)
        self.file = folder / "state.pt"
        self.worker.do("save", self.file)
        self.state = State(self.file, shapes)
        self.rivals = Rivals(self.state)
        self.expect("torchkeep's file in PyTorch", self.state.equals(self.state.tensors_of(
            torch.load(self.file, weights_only=True))))

    def close(self):
        self.worker.close()

    def expect(self, what, equal):
        if not equal:
            raise SystemExit(f"{what}: not the state that was saved")

    def in_cpp(self, operation, path):
        return lambda: self.worker.do(operation, path)

    def in_python(self, function, path):
        def run():
            begin = time.perf_counter()
            result = function(path)
            seconds = time.perf_counter() - begin
            del result
            gc.collect()
            return {"seconds": seconds}
        return run

    def prepare(self, condition, cached):
        for path in cached:
            for file in [path] if path.is_file() else path.rglob("*"):
                if file.is_file():
                    subprocess.run(["cat", file], stdout=subprocess.DEVNULL, check=True)
        if condition == "COLD":
            time.sleep(COLD_SECONDS)
        else:
            self.worker.do("warm", int(self.bytes * 1.2) + (64 << 20))

    def rounds(self, candidates, condition, runs):
        """candidates: name -> (run, paths to remove before, paths to have in the cache). name -> list of answers."""
        answers = {name: [] for name in candidates}
        for _ in range(runs):
            for name, (run, old, cached) in candidates.items():
                for path in old:
                    remove(path)
                self.prepare(condition, cached)
                answers[name].append(run())
        return answers

    # ---- what is measured

    def saves(self):
        target = self.folder / "out"
        cpp = {"torchkeep": "save", "LibTorch archive": "archive_save", "plain write": "plain_write",
               "torchkeep, durable": "save_durable", "torchkeep, durable by the page cache": "save_durable_cached",
               "plain write + fsync": "plain_write_sync"}
        candidates = {name: (self.in_cpp(operation, target), [target], []) for name, operation in cpp.items()}
        for name, function in self.rivals.savers.items():
            candidates[name] = (self.in_python(function, target), [target], [])
        for name in ("save", "save_durable", "save_durable_cached"):
            remove(target)
            self.worker.do(name, target)
            self.expect(name, self.worker.do("check", target)["equal"])
        remove(target)
        self.rivals.torch_save(target)
        self.expect("torch.save", self.worker.do("check", target)["equal"])
        return candidates

    def source(self, save, name):
        path = self.folder / name
        if not path.exists():
            save(path)
        return path

    def loads(self):
        archive = self.folder / "archive"
        remove(archive)
        self.worker.do("archive_save", archive)
        cpp = {"torchkeep": "load", "torchkeep, 1 thread": "load_1", "torchkeep, mapped": "map",
               "torchkeep, verify only": "verify", "torchkeep, open and list": "list"}
        candidates = {name: (self.in_cpp(operation, self.file), [], [self.file]) for name, operation in cpp.items()}
        for name, (save, function) in self.rivals.loaders.items():
            path = self.source(save, "from-" + save.__name__)
            self.expect(name, self.check_loaded(function(path)))
            candidates[name] = (self.in_python(function, path), [], [path])
        return candidates

    def check_loaded(self, loaded):
        return self.state.equals(loaded if "model" not in loaded else self.state.tensors_of(loaded))

    def resumes(self):
        archive = self.folder / "archive"
        self.worker.do("scramble")
        self.worker.do("resume", self.file)
        self.expect("resume", self.worker.do("check")["equal"])
        candidates = {"torchkeep": (self.in_cpp("resume", self.file), [], [self.file]),
                      "LibTorch archive": (self.in_cpp("archive_load", archive), [], [archive]),
                      "plain read": (self.in_cpp("plain_read", self.file), [], [self.file])}
        for name, (save, function) in self.rivals.resumers.items():
            path = self.source(save, "from-" + getattr(save, "__name__", "dcp").strip("<>"))
            function(path)
            self.expect(name, self.check_loaded(torch.load(self.file, weights_only=True)))
            candidates[name] = (self.in_python(function, path), [], [path])
        return candidates


def summary(answers):
    rows = {}
    for name, runs in answers.items():
        seconds = sorted(run["seconds"] for run in runs)
        rows[name] = {"median": statistics.median(seconds), "best": seconds[0], "worst": seconds[-1], "n": len(seconds)}
        extra = [run["extra_bytes"] for run in runs if "extra_bytes" in run]
        if extra:
            rows[name]["extra_bytes"] = max(extra)
    return rows


def measure(bench, options, log):
    result = {"bytes": bench.bytes}
    for section in options.sections:
        candidates = getattr(bench, section)()
        result[section] = {}
        for condition in options.conditions:
            log(f"  {section}, {condition}: {len(candidates)} candidates, {options.runs} times")
            result[section][condition] = summary(bench.rounds(candidates, condition, options.runs))
    return result


def measure_growth(options, folder, log):
    """How the cost of one operation grows: bytes, tensors, threads."""
    rows = {}
    for title, shapes in growth(options.size).items():
        log(f"  growth: {title}")
        bench = Bench(options, folder, shapes)
        target = folder / "out"
        candidates = {name: (bench.in_cpp(operation, target if "save" in operation else bench.file),
                             [target] if "save" in operation else [], [] if "save" in operation else [bench.file])
                      for name, operation in {"save": "save", "durable save": "save_durable", "load": "load",
                                              "load, 1 thread": "load_1", "verify": "verify",
                                              "verify, 1 thread": "verify_1", "open and list": "list"}.items()}
        candidates["torch.save"] = (bench.in_python(bench.rivals.torch_save, target), [target], [])
        rows[title] = {"bytes": bench.bytes, "rows": summary(bench.rounds(candidates, "WARM", min(3, options.runs)))}
        bench.close()
        for path in folder.iterdir():
            remove(path)
    return rows


def machine():
    name = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = int(next(line.split()[1] for line in open("/proc/meminfo"))) // 2**20
    return {"cores": len(os.sched_getaffinity(0)), "cpu": name, "memory_gib": memory, "kernel": os.uname().release,
            "torch": torch.__version__, "load": os.getloadavg()[0]}


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--worker", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "bench", help="folder for report.md, bench.svg, bench.json")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to measure (default: in --out)")
    parser.add_argument("--size", choices=SIZES, default="full", help="quick: a tenth, for small machines")
    parser.add_argument("--workloads", nargs="+", default=["gpt2", "resnet", "small", "one"])
    parser.add_argument("--sections", nargs="+", default=["saves", "loads", "resumes"])
    parser.add_argument("--conditions", nargs="+", default=["WARM", "COLD"], choices=["WARM", "COLD"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-growth", action="store_true", help="leave out how the cost grows")
    return parser.parse_args()


def main():
    options = arguments()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    options.out.mkdir(parents=True, exist_ok=True)
    log = functools.partial(print, flush=True)
    results = {"machine": machine(), "size": options.size, "runs": options.runs, "workloads": {}}
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=options.scratch or options.out))
    try:
        for name in options.workloads:
            title, shapes = workloads(options.size)[name]
            log(f"{title}, {nbytes(shapes) / 1e6:,.0f} MB")
            bench = Bench(options, scratch, shapes)
            results["workloads"][name] = {"title": title, **measure(bench, options, log)}
            bench.close()
            del bench
            gc.collect()
            for path in scratch.iterdir():
                remove(path)
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
