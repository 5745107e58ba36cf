# SPDX-License-Identifier: BSD-3-Clause
"""What saving costs a training: the demo's language model trains in C++ and in Python, with each way to save.

A save is due every PERIOD steps. Its cost is what the PERIOD steps that follow it take, the call that saves included,
beyond as many steps that no save touched: the median of the last step of each period.
"""
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

PERIOD = 5
MODES = {"torchkeep": ("cpp", "background"), "torchkeep, by counters": ("cpp", "counters"),
         "torchkeep, everything copied": ("cpp", "copying"), "torchkeep, not in the background": ("cpp", "blocking"),
         "torch.save + fsync": ("python", "torch.save"), "DCP async_save": ("python", "DCP async"),
         "DCP async_save, staged": ("python", "DCP async staged")}


def shape(size, saves, threads):
    """Options of both programs. "full" is GPT-2-small, but for its vocabulary: the demo's model does not tie weights."""
    width, layers, vocabulary, context, batch = {"full": (768, 12, 25_000, 64, 4), "quick": (256, 12, 8_000, 64, 4),
                                                 "tiny": (32, 2, 100, 16, 2)}[size]
    return {"width": width, "layers": layers, "vocabulary": vocabulary, "context": context, "batch": batch,
            "heads": width // 32 if size == "tiny" else width // 64, "threads": threads, "save_every": PERIOD,
            "steps": PERIOD * (saves + 2), "warm_up": PERIOD - 1}


def run_once(program, mode, options, folder):
    path = folder / "train.json"
    path.write_text(json.dumps(options))
    runs = folder / "run"
    shutil.rmtree(runs, ignore_errors=True)
    command = [program, mode] if program.suffix != ".py" else [sys.executable, program, mode]
    done = subprocess.run([*command, path, runs], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {done.returncode}")
    shutil.rmtree(runs, ignore_errors=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def costs(lines):
    """Of the second save and later: [(cost, blocked)] in seconds, and the seconds of an undisturbed step."""
    steps = {line["step"]: line for line in lines if "step" in line}
    saves = {line["save"]["step"]: line["save"] for line in lines if "save" in line}
    dues = [step for step in steps if step % PERIOD == 0 and step > PERIOD and step + PERIOD in steps]
    quiet = statistics.median(steps[due + PERIOD]["computed"] for due in dues)
    rows = []
    for due in dues:
        touched = [steps[due + i] for i in range(1, PERIOD + 1)]
        cost = steps[due]["call"] + sum(step["computed"] for step in touched) + sum(
            step["call"] for step in touched[:-1]) - PERIOD * quiet
        blocked = saves[due]["blocked_seconds"] if due in saves else steps[due]["call"] + touched[0].get("gate", 0)
        rows.append((cost, blocked))
    return rows, quiet, saves


def measure_training(options, folder, log):
    """threads -> name -> what was measured."""
    programs = {"cpp": options.train, "python": Path(__file__).parent / "train.py"}
    results = {}
    for threads in options.train_threads:
        what = shape(options.size, options.saves, threads)
        idle = {language: run_once(program, "none", {**what, "steps": 2 * PERIOD}, folder)
                for language, program in programs.items()}
        peaks = {language: lines[-1]["peak"] for language, lines in idle.items()}
        results[threads] = {"period": PERIOD, "rows": {}}
        for name, (language, mode) in MODES.items():
            log(f"  training with {threads} thread(s), {name}")
            lines = run_once(programs[language], mode, what, folder)
            check_losses(idle[language], lines, name)
            rows, quiet, saves = costs(lines)
            cost, blocked = zip(*rows)
            results[threads]["rows"][name] = {
                "step": quiet, "cost": statistics.median(cost), "best": min(cost), "worst": max(cost),
                "blocked": statistics.median(blocked), "blocked_worst": max(blocked), "n": len(rows),
                "extra_bytes": lines[-1]["peak"] - peaks[language],
                "staged_bytes": max((save["staged_bytes"] for step, save in saves.items() if step > PERIOD), default=None),
                "bytes": max((save["bytes"] for save in saves.values()), default=None),
                "seconds": statistics.median(save["seconds"] for save in saves.values()) if saves else None}
    return results


def check_losses(expected, found, name):
    """Saving must not change the training: the losses are the same to the last bit."""
    losses = [line["loss"] for line in expected if "loss" in line]
    if losses != [line["loss"] for line in found if "loss" in line][:len(losses)]:
        raise SystemExit(f"{name}: the training is not the one without saves")
