# SPDX-License-Identifier: BSD-3-Clause
"""Writes the run directories NAME-python and NAME-cpp into this folder, with what a reader must find in them."""
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python/tests"), str(ROOT / "tests/python")]

import torch  # noqa: E402
from test_golden import content_hash  # noqa: E402
from training import Training  # noqa: E402

import torchkeep  # noqa: E402

HERE = pathlib.Path(__file__).parent


def write_python(directory):
    training = Training("AdamW", {"amsgrad": True}, lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3))
    training.run(directory, 7, until=5, save_every=2, keep_last=2, keep_best=1, best_metric="loss")
    torchkeep.pin(directory, 2 if (directory / "step-00000002.pt").exists() else 4)


def write_cpp(directory):
    survivor = pathlib.Path(os.environ.get("TORCHKEEP_BIN", ROOT / "build/release/bin")) / "survivor"
    subprocess.run([survivor, directory, "5"], check=True, stdout=subprocess.DEVNULL)


def describe_directory(directory):
    checkpoints = torchkeep.checkpoints(directory)
    name = {one.path: pathlib.Path(one.path).name for one in checkpoints}
    return {
        "last": name[torchkeep.find_checkpoint(directory)],
        "best": name[torchkeep.find_checkpoint(directory, "best", metric="loss")],
        "checkpoints": {name[one.path]: {"step": one.step, "pinned": one.pinned, "sha256": content_hash(one.path)}
                        for one in checkpoints},
    }


def main():
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} NAME")
    torch.set_num_threads(1)
    for language, write in (("python", write_python), ("cpp", write_cpp)):
        directory = HERE / f"{sys.argv[1]}-{language}"
        write(directory)
        (directory / "expected.json").write_text(json.dumps(describe_directory(directory), indent=1) + "\n")


if __name__ == "__main__":
    main()
