# SPDX-License-Identifier: BSD-3-Clause
"""A small training whose every step depends on all of its state: used whole, cut in two, and killed."""
import itertools
import os
import random
import signal
import sys

import numpy
import torch
from watched import run_with

import torchkeep

OPTIMIZERS = {
    "Adadelta": {}, "Adafactor": {}, "Adagrad": {}, "Adam": {"amsgrad": True}, "AdamW": {}, "Adamax": {}, "ASGD": {"t0": 3},
    "LBFGS": {"max_iter": 3, "history_size": 4, "line_search_fn": "strong_wolfe"}, "Muon": {}, "NAdam": {}, "RAdam": {},
    "RMSprop": {"momentum": 0.9, "centered": True}, "Rprop": {}, "SGD": {"momentum": 0.9, "nesterov": True},
    "SparseAdam": {},
}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.drop = torch.nn.Dropout(0.3)
        self.last = torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


class Table(torch.nn.Module):
    """For SparseAdam, which takes sparse gradients only."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(10, 4, sparse=True)
        self.drop = torch.nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(self.table((x[:, 0].abs() * 5).long() % 10)).sum(1, keepdim=True)


class Matrices(torch.nn.Module):
    """For Muon, which takes matrices only."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 8, bias=False)
        self.drop = torch.nn.Dropout(0.3)
        self.last = torch.nn.Linear(8, 1, bias=False)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.first(x))))


class Training:
    """One program: the same seed, the same objects, whether it begins or continues."""

    def __init__(self, optimizer="AdamW", options=None, scheduler=None, seed=0):
        random.seed(seed)
        numpy.random.seed(seed)
        torch.manual_seed(seed)
        self.model = {"SparseAdam": Table, "Muon": Matrices}.get(optimizer, Net)()
        options = {"lr": 0.01, **OPTIMIZERS[optimizer], **(options or {})}
        self.optimizer = getattr(torch.optim, optimizer)(self.model.parameters(), **options)
        self.scheduler = scheduler(self.optimizer) if scheduler else None

    def objects(self):
        tracked = {"model": self.model, "optimizer": self.optimizer}
        return {**tracked, "scheduler": self.scheduler} if self.scheduler else tracked

    def step(self):
        x = torch.randn(16, 6)
        target = x.sum(1, keepdim=True)

        def closure():
            self.optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(self.model(x), target)
            loss.backward()
            return loss

        loss = self.optimizer.step(closure)
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(loss.item())
        elif self.scheduler:
            self.scheduler.step()
        return loss.item()

    def run(self, directory, total, until=None, **options):
        """Trains to `until` and drops everything, or to `total`; the losses made here."""
        losses = []
        run = torchkeep.Run(directory, signals=False, durable=False, **{"save_every": 3, **options})
        run.track(**self.objects())
        try:
            for step in run.steps(total):
                losses.append(self.step())
                run.finish_step(loss=losses[-1])
                if until is not None and step + 1 == until:
                    return losses
            run.finish()
            return losses
        finally:
            run.close()


def everything(directory, name="last"):
    """The whole checkpoint but what is about the process that wrote it."""
    checkpoint = torchkeep.load(torchkeep.find_checkpoint(directory, name))
    del checkpoint["provenance"]
    return checkpoint


def die_before_write(number):
    """For a run's `before_write`: SIGKILL in front of so many-th write of the process."""
    writes = itertools.count(1)

    def before_write(_offset):
        if next(writes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return before_write


if __name__ == "__main__":  # DIRECTORY TOTAL [the write in front of which it dies]: the program that tests kill
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    before_write = die_before_write(int(sys.argv[3])) if len(sys.argv) > 3 else None
    with run_with(before_write, sys.argv[1], save_every=2, durable=False) as run:
        training = Training(scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3))
        run.track(**training.objects())
        for step in run.steps(int(sys.argv[2])):
            run.finish_step(loss=training.step())
            print(step, flush=True)
    raise SystemExit(run.exit_code())
