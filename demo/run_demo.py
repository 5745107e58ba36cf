# SPDX-License-Identifier: BSD-3-Clause
"""The demo: trains a small language model three times and proves that a killed training lost nothing.

  (a) without interruption
  (b) killed with SIGKILL at two random moments, one of them inside a save, and resumed from its newest checkpoint
  (c) stopped where (b) resumed, and resumed from the weights alone

Ends with status 0 only if (b) equals (a) bit for bit and (c) does not.
"""
import argparse
import os
import platform
import random
import shutil
import sys
import time
from pathlib import Path

import torch

from check_in_python import check
from compare import compare
from page import page
from picture import Kill, draw
from progress import Progress
from trainer import Run, kill_twice

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("*.md", "docs/**/*.md", "include/**/*.h", "src/**/*.h", "src/**/*.cpp", "examples/**/*.cpp", "demo/*.cpp")


def arguments():
    parser = argparse.ArgumentParser(prog="demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "demo-run", help="folder for all results")
    parser.add_argument("--text", type=Path, help="file to learn from (default: this project's documents and sources)")
    parser.add_argument("--steps", type=int, default=800, help="length of each training")
    parser.add_argument("--save-every", type=int, default=40, help="steps between checkpoints")
    parser.add_argument("--threads", type=int, default=2, help="threads of each training")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6),
                        help="chooses the moments of the kills (default: random)")
    parser.add_argument("--train", type=Path, required=True, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.save_every < 6 or chosen.steps < 10 * chosen.save_every:
        parser.error("--save-every must be at least 6, and --steps ten times that")
    return chosen


def clear(out):
    """Makes the output folder and removes what an earlier demo left in it; nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("index.html", "loss.svg"):
        (out / name).unlink(missing_ok=True)
    for run in (out / name for name in ("a", "b", "c")):
        if (run / "log.jsonl").exists():
            shutil.rmtree(run)
        elif run.exists():
            raise SystemExit(f"demo: {run} is there and no demo made it; choose another folder with --out")


def gather_text(chosen):
    """Puts the text into the output folder, so that it is the same for all runs whatever is edited meanwhile."""
    copy = chosen.out / "text.txt"
    if chosen.text:
        shutil.copyfile(chosen.text, copy)
    else:
        files = {path for pattern in DOCUMENTS for path in PROJECT.glob(pattern)}
        copy.write_bytes(b"".join(path.read_bytes() for path in sorted(files, key=lambda path: path.as_posix())))
    return copy


def train_three_times(chosen, text, progress):
    def run(name, title, mode="full"):
        directory = chosen.out / name
        options = ["--text", text, "--steps", chosen.steps, "--save-every", chosen.save_every,
                   "--threads", chosen.threads, "--mode", mode]
        return Run(name, title, chosen.train, directory, options, progress)

    whole = run("a", "(a) uninterrupted")
    progress.begin("(a) trains without interruption")
    began = time.monotonic()
    whole.go()
    seconds = time.monotonic() - began
    progress.end()

    killed = run("b", "(b) killed and resumed")
    killed.save_seconds = whole.save_seconds
    progress.begin("(b) trains the same, and is killed twice")
    for stretch in kill_twice(killed, chosen.steps, chosen.save_every, seconds / chosen.steps, chosen.seed):
        progress.end()
        if stretch.killed:
            where = f"inside a save, which left {stretch.inside_save}" if stretch.inside_save else "between two saves"
            progress.say(f"    SIGKILL at step {stretch.last}, {where}")
            progress.say(f"    newest checkpoint: {killed.checkpoints()[-1]}; starting again")

    weights = run("c", "(c) from weights only", "weights-only")
    progress.begin("(c) trains the same, but resumes from the weights alone where (b) resumed")
    for stop in [stretch.first for stretch in killed.stretches[1:]] + [chosen.steps]:
        weights.go("--stop-at", stop)
        progress.end()
    return whole, killed, weights


def load(run):
    return torch.load(run.final_checkpoint(), weights_only=True)


def metrics(run):
    """The log that the run keeps beside its checkpoints, cut back whenever it resumes."""
    return (run.directory / "metrics.jsonl").read_bytes()


class Proof:
    """Everything that is claimed, checked."""

    def __init__(self, whole, killed, weights, text):
        a, b, c = load(whole), load(killed), load(weights)
        both = ("model", "optimizer")
        self.state = compare({key: a[key] for key in both}, {key: b[key] for key in both})
        # Host, time and process of a checkpoint are under one key.
        self.rest = compare(*({key: value for key, value in end.items() if key != "provenance"} for end in (a, b)))
        self.weights_only = compare({key: a[key] for key in both}, {key: c[key] for key in both})
        self.same_log = metrics(whole) == metrics(killed)
        self.same_losses = all(whole.curve(what) == killed.curve(what) for what in ("losses", "held_out"))
        self.repeated = killed.repeated()
        self.same_repeated = all(before == after for _, before, after in self.repeated)
        self.inside_save = [stretch for stretch in killed.stretches if stretch.inside_save]
        self.kills = [stretch for stretch in killed.stretches if stretch.killed]
        self.same_text = whole.stretches[-1].sample == killed.stretches[-1].sample
        self.python = check(killed.final_checkpoint(), text)
        self.cpp_loss = killed.curve("held_out")[-1][1]

    def claims(self):
        """(claim, holds, result, how) in the order of their weight."""
        state, python, lost = self.state, self.python, self.weights_only
        python_holds = (python["model"].equal and python["optimizer"].equal
                        and python["steps"] == python["expected_steps"]
                        and abs(python["loss"] - self.cpp_loss) < 1e-4)
        return [
            ("(b) equals (a)", state.equal,
             f"{state.tensors} tensors, {state.bytes:,} bytes: {verdict(state)}",
             "every tensor and value of the final model and optimizer compared by its bits"),
            ("everything else too", self.rest.equal and self.same_log,
             f"{self.rest.tensors} tensors, {self.rest.values} values: {verdict(self.rest)}; "
             f"the logs of the losses are {'identical' if self.same_log else 'different'}",
             "random generators, schedule, data position and step included; every byte of metrics.jsonl"),
            ("the losses", self.same_losses and self.same_repeated,
             f"all equal; {len(self.repeated)} steps were done twice, with the same results"
             if self.same_losses and self.same_repeated else "different",
             "every loss of training and of held-out text as a double, without rounding"),
            ("one kill inside a save", bool(self.inside_save) and len(self.kills) >= 2,
             f"unfinished file {self.inside_save[0].inside_save}, never taken for a checkpoint"
             if self.inside_save else "no kill hit a save: run the demo again",
             "seen in the folder between the kill and the next start"),
            ("(c) is another model", not lost.equal,
             f"{lost.different_tensors} of {lost.tensors} tensors differ",
             "the same comparison with (a)"),
            ("Python goes on with (b)", python_holds,
             f"{python['model'].tensors + python['optimizer'].tensors} tensors equal in a Python AdamW; loss "
             f"{python['loss']:.6f} (C++: {self.cpp_loss:.6f}), {python['loss_after_a_step']:.6f} after one more step"
             if python_holds else f"failed: {python}",
             "torch.load(weights_only=True), load_state_dict of a Python twin of the model"),
            ("the text it writes", self.same_text, "the same" if self.same_text else "different",
             "240 characters drawn from each final model"),
        ]


def verdict(comparison):
    return "equal" if comparison.equal else f"{len(comparison.different)} DIFFERENT, first {comparison.different[0]}"


def history(killed):
    """Rows that tell the life of run (b)."""
    rows = []
    for number, stretch in enumerate(killed.stretches, 1):
        start = stretch.file or "the beginning"
        if stretch.removed:
            start += f" (and removed {stretch.removed} unfinished file)"
        end = "finished" if not stretch.killed else f"SIGKILL at step {stretch.last}, " + (
            f"inside a save: {stretch.inside_save} was left" if stretch.inside_save else "between two saves")
        following = killed.stretches[number] if number < len(killed.stretches) else None
        cost = f"{stretch.last - following.first} steps, done again" if following else ""
        rows.append((number, start, end, cost))
    return rows


def write_page(chosen, runs, proof, claims, text, seconds):
    whole, killed, weights = runs
    kills = [Kill(stretch.last, following.first, bool(stretch.inside_save))
             for stretch, following in zip(killed.stretches, killed.stretches[1:])]
    svg = draw(chosen.steps, [run.curve("held_out") for run in runs], kills)
    (chosen.out / "loss.svg").write_text(svg, encoding="utf-8")

    holds = all(claim[1] for claim in claims)
    worse = weights.curve("held_out")[-1][1] - whole.curve("held_out")[-1][1]
    state, python = proof.state, proof.python
    number = {2: "twice", 3: "three times"}.get(len(kills), f"{len(kills)} times")
    cards = [
        ("good" if state.equal else "bad", "0 bits" if state.equal else f"{len(state.different)} differ",
         f"differ between (a) and (b): {state.tensors} tensors of model and optimizer, {state.bytes:,} bytes compared"),
        ("good" if claims[3][1] else "bad", f"killed {number}",
         "with SIGKILL, once inside a save; the half-written file did no harm"),
        ("lost", f"{proof.weights_only.different_tensors} of {state.tensors}",
         f"tensors differ when only the weights come back (c); on text it never saw its loss ends {abs(worse):.3f} "
         f"{'higher' if worse > 0 else 'lower'}"),
        ("good" if claims[5][1] else "bad", "Python agrees",
         f"PyTorch opens the checkpoint with weights_only=True, its loss there is {python['loss']:.4f} as in C++"),
    ]
    headline = f"Killed {number}. Not one bit lost." if holds else "The proof failed: see what was checked."
    lead = ("A small GPT learned to write text, three times: never interrupted (a); killed without warning and resumed "
            "by torchkeep (b); resumed from saved weights alone, as many programs do (c). In the picture, (b) lies on (a) "
            "from beginning to end; (c) leaves it where it resumed.")
    about = {"steps": chosen.steps,
             "line": f"{killed.parameters:,} parameters, {chosen.steps} steps, text of {text.stat().st_size:,} bytes, "
                     f"checkpoints of {killed.checkpoint_bytes:,} bytes saved in {killed.save_seconds * 1000:.0f} ms every "
                     f"{chosen.save_every} steps. {chosen.threads} threads, PyTorch {torch.__version__}, "
                     f"{platform.system()} {platform.machine()}. The whole demo took {seconds:.0f} s; "
                     f"--seed {chosen.seed} kills at the same steps again."}
    last = killed.stretches[-1].sample
    html = page(headline, lead, cards, svg, history(killed), [(c[0], c[2], c[3]) for c in claims],
                (last["prompt"], last["text"]), about)
    (chosen.out / "index.html").write_text(html, encoding="utf-8")


def main():
    chosen = arguments()
    began = time.monotonic()
    clear(chosen.out)
    text = gather_text(chosen)
    progress = Progress(chosen.steps)
    progress.say(f"learning from {text.stat().st_size:,} bytes of "
                 f"{chosen.text or 'documentation and sources'}; results go to {os.path.relpath(chosen.out)}")

    runs = train_three_times(chosen, text, progress)
    torch.set_num_threads(chosen.threads)
    proof = Proof(*runs, text)
    claims = proof.claims()
    for run in runs[:2]:
        progress.say(f"{run.name} writes: {run.stretches[-1].sample['text'][:100]!r}")
    progress.say()
    for claim, holds, result, _ in claims:
        progress.say(f"{'ok    ' if holds else 'FAILED'}  {claim + ':':<25} {result}")
    write_page(chosen, runs, proof, claims, text, time.monotonic() - began)
    progress.say(f"\n{time.monotonic() - began:.0f} s; look at {os.path.relpath(chosen.out / 'index.html')}")
    return 0 if all(claim[1] for claim in claims) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted")
