# SPDX-License-Identifier: BSD-3-Clause
"""For the Hugging Face Trainer: checkpoint folders that are whole or passed over.

    class Trainer(CrashProof, transformers.Trainer):   # or trl.SFTTrainer, Seq2SeqTrainer ...
        pass

    trainer.train(resume_from_checkpoint=newest_whole_checkpoint("runs/trainer"))   # or True
"""
from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
from typing import Any

import torchkeep

__all__ = ["CrashProof", "newest_whole_checkpoint"]

_SEAL = "torchkeep-files.json"  # size and SHA-256 of every file; written last
_UNFINISHED = "torchkeep-unfinished"  # while the folder is written


class CrashProof:
    """A mixin for transformers.Trainer and what derives from it.

    Files and folders stay the Trainer's own. While a checkpoint is written a marker stands in its folder; when all ranks
    have written, every file is synced to the disk, a list of all files with their sizes and SHA-256 is added, and the
    marker goes. Only then are older checkpoints removed by `save_total_limit`, so there is always a whole one.

    `train(resume_from_checkpoint=True)` continues from the newest checkpoint that is whole, and begins anew when there is
    none, as a program wants that is killed and started again.
    """

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        if resume_from_checkpoint is True:
            resume_from_checkpoint = newest_whole_checkpoint(self.args.output_dir)  # type: ignore[attr-defined]
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **options)  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any, *rest: Any, **options: Any) -> None:
        arguments = self.args  # type: ignore[attr-defined]
        runs = self._get_output_dir(trial=trial)  # type: ignore[attr-defined]
        folder = pathlib.Path(runs, f"checkpoint-{self.state.global_step}")  # type: ignore[attr-defined]
        if arguments.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _SEAL).unlink(missing_ok=True)
            (folder / _UNFINISHED).touch()
            _sync(folder)
        limit, arguments.save_total_limit = arguments.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial, *rest, **options)  # type: ignore[misc]
        finally:
            arguments.save_total_limit = limit
        _barrier(arguments)
        if arguments.should_save:
            _seal(folder)
            self._remove_older(runs)
        _barrier(arguments)

    def _remove_older(self, runs: str) -> None:
        state, limit = self.state, self.args.save_total_limit  # type: ignore[attr-defined]
        try:
            from transformers.trainer_utils import rotate_checkpoints
        except ImportError:  # before transformers 5
            self._rotate_checkpoints(use_mtime=False, output_dir=runs)  # type: ignore[attr-defined]
        else:
            rotate_checkpoints(output_dir=runs, save_total_limit=limit, best_model_checkpoint=state.best_model_checkpoint,
                               use_mtime=False)


def newest_whole_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """The newest `checkpoint-N` in the folder that is whole, as train(resume_from_checkpoint=) takes it; None without one.

    A checkpoint of CrashProof is whole if every file has the size and the SHA-256 that were noted. One that the plain
    Trainer wrote is taken if `trainer_state.json`, which it writes last, is there and every file with tensors verifies.
    """
    found = []
    for one in pathlib.Path(folder).glob("checkpoint-*"):
        number = re.fullmatch(r"checkpoint-(\d+)", one.name)
        if number and one.is_dir():
            found.append((int(number[1]), one))
    return next((str(one) for _, one in sorted(found, reverse=True) if _is_whole(one)), None)


def _is_whole(folder: pathlib.Path) -> bool:
    if (folder / _UNFINISHED).exists():
        return False
    try:
        if (folder / _SEAL).exists():
            noted = json.loads((folder / _SEAL).read_text(encoding="utf-8"))
            return all(_is_as_noted(folder / name, *facts) for name, facts in noted["files"].items())
        for file in folder.iterdir():
            if file.suffix in (".pt", ".pth", ".safetensors"):
                torchkeep.verify(file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, torchkeep.Error):
        return False
    return (folder / "trainer_state.json").exists()


def _is_as_noted(file: pathlib.Path, size: int, digest: str) -> bool:
    return file.stat().st_size == size and _digest(file) == digest


def _seal(folder: pathlib.Path) -> None:
    files = {}
    for file in sorted(one for one in folder.rglob("*") if one.is_file() and one.name != _UNFINISHED):
        _sync(file)
        files[file.relative_to(folder).as_posix()] = [file.stat().st_size, _digest(file)]
    for inner in sorted({folder / name for name in files for name in pathlib.PurePosixPath(name).parents}):
        _sync(inner)
    text = json.dumps({"files": files}, indent=1)
    temporary = folder / f".{_SEAL}.tmp"
    temporary.write_text(text, encoding="utf-8")
    _sync(temporary)
    temporary.replace(folder / _SEAL)
    (folder / _UNFINISHED).unlink()
    _sync(folder)
    _sync(folder.parent)


def _digest(file: pathlib.Path) -> str:
    sha = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _barrier(arguments: Any) -> None:
    if arguments.world_size > 1:
        import torch.distributed

        torch.distributed.barrier()
