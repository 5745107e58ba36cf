# SPDX-License-Identifier: BSD-3-Clause
"""Starts the training process, listens to it, kills it, and remembers what happened."""
import json
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stretch:
    """The life of one training process."""
    first: int = 0  # steps done before it started
    file: str = ""  # checkpoint it continued from; empty for a fresh start
    removed: int = 0  # unfinished files of its predecessor that it deleted
    losses: dict = field(default_factory=dict)  # step -> loss
    held_out: dict = field(default_factory=dict)  # step -> loss on the held-out text
    killed: bool = False
    inside_save: str = ""  # the unfinished file that the kill left behind
    sample: dict = field(default_factory=dict)

    @property
    def last(self):
        return max(self.losses, default=self.first)


class Run:
    """One training run: a directory, and one process after the other working in it."""

    def __init__(self, name, title, program, directory, arguments, progress):
        self.name = name
        self.title = title
        self.directory = Path(directory)
        self.stretches = []
        self.save_seconds = 0.0
        self.parameters = 0
        self.checkpoint_bytes = 0
        self._command = [str(program), "--out", str(directory), *map(str, arguments)]
        self._progress = progress
        # Waiting threads that sleep instead of spinning: the same results, and much faster on a busy machine.
        self._environment = {"OMP_WAIT_POLICY": "passive", **os.environ}

    def go(self, *arguments, kill=None):
        """Runs one process to its end, or until kill(event, process, stretch) has killed it."""
        stretch = Stretch()
        self.stretches.append(stretch)
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [*self._command, *map(str, arguments)]
        with (open(self.directory / "log.jsonl", "a", encoding="utf-8") as log,
              subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True) as process):
            try:
                for line in process.stdout:
                    if not line.endswith("\n"):
                        break  # cut off by the kill
                    log.write(line)
                    event = json.loads(line)
                    self._take(event, stretch)
                    if kill and not stretch.killed and kill(event, process, stretch):
                        stretch.killed = True
            finally:
                process.kill()
        if process.returncode != (-signal.SIGKILL if stretch.killed else 0):
            raise SystemExit(f"demo: {' '.join(self._command)} ended with {process.returncode}")
        return stretch

    def checkpoints(self):
        return sorted(path.name for path in self.directory.glob("step-*.pt"))

    def final_checkpoint(self):
        return self.directory / self.checkpoints()[-1]

    def curve(self, what):
        """[(step, loss)] as it led to the final model: steps that were done twice count once, the last time.

        what: "losses" or "held_out".
        """
        final = {}
        for stretch in self.stretches:
            final.update(getattr(stretch, what))
        return sorted(final.items())

    def repeated(self):
        """(step, loss before the kill, loss after the resume) of every step that was done twice."""
        seen, twice = {}, []
        for stretch in self.stretches:
            twice += [(step, seen[step], loss) for step, loss in stretch.losses.items() if step in seen]
            seen.update(stretch.losses)
        return twice

    def _take(self, event, stretch):
        kind = event["event"]
        if kind == "start":
            stretch.first, stretch.file, stretch.removed = event["step"], event["file"], event["removed"]
            self.parameters = event["parameters"]
            for reason in event["refused"]:
                self._progress.say(f"    refused: {reason}")
        elif kind == "step":
            stretch.losses[event["step"]] = event["loss"]
            self._progress.step(self.title, event["step"], event["loss"])
        elif kind == "held_out":
            stretch.held_out[event["step"]] = event["loss"]
        elif kind == "saved":
            self.save_seconds, self.checkpoint_bytes = event["seconds"], event["bytes"]
        elif kind == "sample":
            stretch.sample = event


def unfinished_files(directory):
    """What a save is still writing: hidden names beside the checkpoints."""
    return [name for name in os.listdir(directory) if name.startswith(".") and ".tmp-" in name]


def kill_between_saves(dice, at_step, step_seconds):
    """SIGKILL a random moment after `at_step` steps."""
    def kill(event, process, _):
        if event["event"] != "step" or event["step"] != at_step:
            return False
        time.sleep(dice.uniform(0, step_seconds))
        process.send_signal(signal.SIGKILL)
        return True
    return kill


def kill_inside_save(dice, from_step, save_every, run):
    """SIGKILL a random moment after a save of `from_step` or later began to write, and before it was finished.

    A save takes some milliseconds and may win the race; then the process lives on, and the next save is tried. Only a
    kill that left the unfinished file, and no finished one, counts.
    """
    def kill(event, process, stretch):
        if event["event"] != "step" or event["step"] < from_step or event["step"] % save_every != 0:
            return False
        finished = run.directory / f"step-{event['step']:08}.pt"
        while not (writing := unfinished_files(run.directory)):
            if finished.exists() or process.poll() is not None:
                return False
        time.sleep(dice.uniform(0, run.save_seconds / 3))
        if finished.exists():
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not finished.exists() and unfinished_files(run.directory):
            stretch.inside_save = writing[0]
        return True
    return kill


def kill_twice(run, steps, save_every, step_seconds, seed):
    """Trains to the end through two kills; returns the number of kills (a third when the second missed its save)."""
    dice = random.Random(seed)
    middle = dice.randrange(steps // 5, 2 * steps // 5) // save_every * save_every
    run.go(kill=kill_between_saves(dice, middle + dice.randrange(2, save_every - 2), step_seconds))
    yield run.stretches[-1]
    begin = dice.randrange(11 * steps // 20, 3 * steps // 4)
    while run.stretches[-1].killed:
        inside = any(stretch.inside_save for stretch in run.stretches)
        run.go(kill=None if inside else kill_inside_save(dice, begin, save_every, run))
        yield run.stretches[-1]
