# SPDX-License-Identifier: BSD-3-Clause
"""One state in both languages, and everybody's way to save it, load it and resume from it, side by side."""
import dataclasses
import gc
import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Callable

import torch

from rivals import Rivals, State, remove
from workloads import nbytes

COLD_SECONDS = 9


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


@dataclasses.dataclass
class Candidate:
    """Something that is timed: `run` returns its seconds."""

    run: Callable
    removed: tuple = ()  # paths that are not there before
    cached: tuple = ()  # paths that are in the page cache before
    evicted: tuple = ()  # paths that are not


def files_of(path):
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def evict(path):
    """Takes a file out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def summary(answers):
    rows = {}
    for name, runs in answers.items():
        seconds = sorted(run["seconds"] for run in runs)
        rows[name] = {"median": statistics.median(seconds), "best": seconds[0], "worst": seconds[-1], "n": len(seconds)}
        extra = [run["extra_bytes"] for run in runs if "extra_bytes" in run]
        if extra:
            rows[name]["extra_bytes"] = max(extra)
    return rows


class StateBench:
    """One workload: the state in both languages, and candidates that take turns."""

    def __init__(self, program, folder, shapes):
        self.folder, self.bytes = folder, nbytes(shapes)
        self.worker = Worker(program, folder, shapes)
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

    def prepare(self, condition, candidate):
        for path in candidate.removed:
            remove(path)
        for file in [file for path in candidate.cached for file in files_of(path)]:
            subprocess.run(["cat", file], stdout=subprocess.DEVNULL, check=True)
        for file in [file for path in candidate.evicted for file in files_of(path)]:
            evict(file)
        if condition == "COLD":
            time.sleep(COLD_SECONDS)
        else:
            self.worker.do("warm", int(self.bytes * 1.2) + (64 << 20))

    def measure(self, candidates, condition, runs):
        """name -> median, best and worst of `runs` runs of each, in turns."""
        answers = {name: [] for name in candidates}
        for _ in range(runs):
            for name, candidate in candidates.items():
                self.prepare(condition, candidate)
                answers[name].append(candidate.run())
        return summary(answers)

    # ---- what is measured: each returns name -> Candidate, after it was checked that it keeps every bit

    def saves(self):
        target = self.folder / "out"
        cpp = {"torchkeep": "save", "LibTorch archive": "archive_save", "plain write": "plain_write",
               "torchkeep, durable": "save_durable", "torchkeep, durable by the page cache": "save_durable_cached",
               "plain write + fsync": "plain_write_sync", "plain direct ring + fsync": "ring_write_sync"}
        candidates = {name: Candidate(self.in_cpp(operation, target), removed=(target,))
                      for name, operation in cpp.items()}
        for name, function in self.rivals.savers.items():
            candidates[name] = Candidate(self.in_python(function, target), removed=(target,))
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
        cpp = {"torchkeep": "load", "torchkeep, 1 thread": "load_1", "torchkeep, mapped": "map",
               "torchkeep, verify only": "verify", "torchkeep, open and list": "list",
               "memory read by all cores": "memory_read"}
        candidates = {name: Candidate(self.in_cpp(operation, self.file), cached=(self.file,))
                      for name, operation in cpp.items()}
        for name, (save, function) in self.rivals.loaders.items():
            path = self.source(save, "from-" + save.__name__)
            self.expect(name, self.check_loaded(function(path)))
            candidates[name] = Candidate(self.in_python(function, path), cached=(path,))
        return candidates

    def check_loaded(self, loaded):
        return self.state.equals(loaded if "model" not in loaded else self.state.tensors_of(loaded))

    def resumes(self):
        archive = self.source(lambda path: self.worker.do("archive_save", path), "archive")
        self.worker.do("scramble")
        self.worker.do("resume", self.file)
        self.expect("resume", self.worker.do("check")["equal"])
        candidates = {"torchkeep": Candidate(self.in_cpp("resume", self.file), cached=(self.file,)),
                      "LibTorch archive": Candidate(self.in_cpp("archive_load", archive), cached=(archive,)),
                      "plain read, 1 thread": Candidate(self.in_cpp("plain_read_1", self.file), cached=(self.file,)),
                      "plain read by all cores": Candidate(self.in_cpp("plain_read", self.file), cached=(self.file,))}
        for name, (save, function) in self.rivals.resumers.items():
            path = self.source(save, "from-" + getattr(save, "__name__", "dcp").strip("<>"))
            function(path)
            self.expect(name, self.check_loaded(torch.load(self.file, weights_only=True)))
            candidates[name] = Candidate(self.in_python(function, path), cached=(path,))
        # The plain reads left the file's bytes where no tensor has them.
        self.worker.do("resume", self.file)
        return candidates

    def from_disk(self):
        """The files are not in the page cache."""
        by_name = {"torch.load": self.rivals.loaders["torch.load"],
                   "torch.load + load_state_dict": self.rivals.resumers["torch.load + load_state_dict"]}
        candidates = {name: Candidate(self.in_cpp(operation, self.file), evicted=(self.file,))
                      for name, operation in {"torchkeep": "load", "torchkeep, resume": "resume",
                                              "torchkeep, verify only": "verify",
                                              "plain read by all cores": "plain_read"}.items()}
        for name, (save, function) in by_name.items():
            path = self.source(save, "from-" + save.__name__)
            candidates[name] = Candidate(self.in_python(function, path), evicted=(path,))
        return candidates

    def basics(self):
        """What is measured of every size: how the cost grows."""
        target = self.folder / "out"
        saves = {"save": "save", "durable save": "save_durable"}
        loads = {"load": "load", "load, 1 thread": "load_1", "verify": "verify", "verify, 1 thread": "verify_1",
                 "open and list": "list"}
        rows = {name: Candidate(self.in_cpp(operation, target), removed=(target,)) for name, operation in saves.items()}
        rows |= {name: Candidate(self.in_cpp(operation, self.file), cached=(self.file,))
                 for name, operation in loads.items()}
        rows["torch.save"] = Candidate(self.in_python(self.rivals.torch_save, target), removed=(target,))
        return rows
