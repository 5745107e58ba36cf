# SPDX-License-Identifier: BSD-3-Clause
"""The twin of train.cpp in PyTorch: the same model, and what others offer for saving while it trains.

    train.py MODE OPTIONS.json DIRECTORY    MODE: none, torch.save, DCP async, DCP async staged
"""
import json
import os
import shutil
import sys
import time
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "demo"))

from gpt import Gpt  # noqa: E402

warnings.filterwarnings("ignore", module="torch.distributed")


def tell(**what):
    print(json.dumps(what), flush=True)


def memory(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field + ":"))


class Saver:
    """Nothing is saved. `start` is called when a save is due, `before_step` before parameters change."""

    def __init__(self, directory, state):
        self.directory, self.state = directory, state

    def path(self, step):
        return self.directory / f"step-{step}"

    def start(self, step):
        pass

    def before_step(self):
        pass

    def finish(self):
        pass


class TorchSave(Saver):
    """As people do it, and safe: a new file, synced, then the old one goes."""

    def start(self, step):
        torch.save(self.state(), self.path(step))
        with open(self.path(step), "rb") as file:
            os.fsync(file.fileno())
        for old in self.directory.iterdir():
            if old != self.path(step):
                old.unlink()


class DcpAsync(Saver):
    last = None

    def start(self, step):
        self.finish()
        for old in self.directory.iterdir():
            shutil.rmtree(old)
        self.last = self.save(step)

    def save(self, step):
        return dcp.async_save(self.state(), checkpoint_id=self.path(step), no_dist=True)

    def finish(self):
        if self.last is not None:
            self.last.result()


class DcpStaged(DcpAsync):
    """The state is copied by a thread, and must be before the next step changes it."""

    def __init__(self, directory, state):
        super().__init__(directory, state)
        self.stager = DefaultStager(StagingOptions(use_pinned_memory=False, use_shared_memory=False,
                                                   use_async_staging=True, use_non_blocking_copy=False))

    def save(self, step):
        return dcp.async_save(self.state(), checkpoint_id=self.path(step), no_dist=True, async_stager=self.stager)

    def before_step(self):
        if self.last is not None:
            self.last.staging_completion.result()

    def finish(self):
        if self.last is not None:
            self.last.upload_completion.result()


SAVERS = {"none": Saver, "torch.save": TorchSave, "DCP async": DcpAsync, "DCP async staged": DcpStaged}


def main():
    mode, options, directory = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
    directory.mkdir()
    torch.set_num_threads(options["threads"])
    torch.manual_seed(1)
    model = Gpt(options["vocabulary"], options["context"], options["layers"], options["heads"], options["width"])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    saver = SAVERS[mode](directory, lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    for step in range(1, options["steps"] + 1):
        begin = time.perf_counter()
        tokens = torch.randint(options["vocabulary"], (options["batch"], options["context"] + 1))
        optimizer.zero_grad()
        logits = model(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        waited = time.perf_counter()
        saver.before_step()
        waited = time.perf_counter() - waited
        optimizer.step()
        value = loss.item()
        computed = time.perf_counter() - begin
        if step % options["save_every"] == 0:
            saver.start(step)
        tell(step=step, computed=computed, call=time.perf_counter() - begin - computed, gate=waited, loss=value)
        if step == options["warm_up"]:
            Path("/proc/self/clear_refs").write_text("5")
    saver.finish()
    tell(peak=memory("VmHWM"))


if __name__ == "__main__":
    main()
