# SPDX-License-Identifier: BSD-3-Clause
"""Schedulers with tensors, arrays, functions and schedulers inside, and those of other versions of PyTorch."""
import numpy
import pytest
import torch
from fits import resumed

import torchkeep


class Table(torch.optim.lr_scheduler.LRScheduler):
    """Takes its rates from what it is given."""

    def __init__(self, optimizer, table, last_epoch=-1):
        self.table = table
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        value = self.table(self.last_epoch) if callable(self.table) else self.table[min(self.last_epoch, 2)]
        return [float(value)] * len(self.optimizer.param_groups)


class Warmup(torch.optim.lr_scheduler.LRScheduler):
    """A scheduler as an attribute, without a load_state_dict() of its own."""

    def __init__(self, optimizer, after, last_epoch=-1):
        self.after = after
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self.last_epoch > 2:
            self.after.step()
            return self.after.get_last_lr()
        return [0.01 * (self.last_epoch + 1)] * len(self.optimizer.param_groups)


lrs = torch.optim.lr_scheduler
SCHEDULES = {
    "a table that is a tensor": lambda o: Table(o, torch.tensor([0.1, 0.2, 0.3])),
    "a table that is an array": lambda o: Table(o, numpy.array([0.1, 0.2, 0.3])),
    "a function": lambda o: Table(o, lambda step: 0.1 / (step + 1)),
    "a scheduler inside": lambda o: Warmup(o, lrs.ExponentialLR(o, 0.5)),
    "schedulers inside": lambda o: lrs.SequentialLR(o, [lrs.LinearLR(o, total_iters=2), lrs.ExponentialLR(o, 0.9)], [2]),
}


def rates(make, path, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler, found = make(optimizer), []
    with torchkeep.Run(path, signals=False, durable=False, save_every=1, on_event=(events := []).append) as run:
        run.track(parameter=optimizer.param_groups[0]["params"][0], optimizer=optimizer, scheduler=scheduler)
        for _ in run.steps(total):
            optimizer.step()
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
            run.finish_step()
    assert [event.message for event in events if event.is_warning] == []
    return found


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_schedulers_with_tensors_arrays_functions_and_schedulers_inside_continue_exactly(name, tmp_path):
    whole = rates(SCHEDULES[name], tmp_path / "whole", 7)
    assert rates(SCHEDULES[name], tmp_path / "cut", 4) + rates(SCHEDULES[name], tmp_path / "cut", 7) == whole


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_a_scheduler_of_an_older_pytorch_that_lacks_a_private_key_is_resumed(tmp_path):
    rates(SCHEDULES["schedulers inside"], tmp_path, 3)
    path = torchkeep.find_checkpoint(tmp_path)
    content = torchkeep.load(path)
    for state in (content["scheduler"], *content["scheduler"]["_schedulers"]):
        state.pop("_is_initial", None)
    torchkeep.save(content, path)
    assert len(rates(SCHEDULES["schedulers inside"], tmp_path, 5)) == 2


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_another_scheduler_is_said_or_refused_before_anything_changes(tmp_path):
    rates(lambda o: lrs.LambdaLR(o, lambda step: 0.9**step), tmp_path / "a", 2)
    rates(SCHEDULES["schedulers inside"], tmp_path / "b", 2)

    def start(path, make):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        parameter = optimizer.param_groups[0]["params"][0]
        told = resumed(path, role="reader", parameter=parameter, optimizer=optimizer, scheduler=make(optimizer))
        return told, parameter

    told, _ = start(tmp_path / "a", lambda o: lrs.MultiplicativeLR(o, lambda step: 0.9))
    assert told == ["'scheduler': the scheduler is MultiplicativeLR here and LambdaLR in the checkpoint, which is used"]
    with pytest.raises(torchkeep.Error, match="of LambdaLR does not fit the StepLR: the file lacks gamma, step_size"):
        start(tmp_path / "a", lambda o: lrs.StepLR(o, 3))
    for inner in ([lrs.LinearLR, lrs.ConstantLR, lrs.ConstantLR], [lrs.ExponentialLR, lrs.LinearLR]):
        def make(o, inner=inner):
            made = [one(o, 0.9) for one in inner]
            return lrs.SequentialLR(o, made, list(range(2, len(made) + 1)))

        with pytest.raises(torchkeep.Error, match="_schedulers"):
            start(tmp_path / "b", make)


class StartsItself(torch.optim.SGD):
    """Keeps the rate it began with under the name that schedulers use, as decoupled weight decay needs it."""

    def __init__(self, parameters, **options):
        super().__init__(parameters, **options)
        for group in self.param_groups:
            group.setdefault("initial_lr", group["lr"])


def test_an_initial_rate_of_the_optimizers_own_is_not_taken_for_a_schedules(tmp_path):
    def told(optimizer, name):
        parameter = optimizer.param_groups[0]["params"][0]
        return resumed(tmp_path / name, parameter=parameter, optimizer=optimizer)

    parameter = torch.nn.Parameter(torch.ones(1))
    assert told(StartsItself([parameter], lr=0.1), "a") == []
    for name, kind in (("b", StartsItself), ("c", torch.optim.SGD)):
        optimizer = kind([parameter], lr=0.1)
        schedule = lrs.ExponentialLR(optimizer, 0.5)
        (message,) = told(optimizer, name)
        assert "no scheduler is tracked" in message, schedule
