# SPDX-License-Identifier: BSD-3-Clause
"""Run: interrupted and continued, training ends exactly where it would have ended."""
import json
import logging
import os
import pathlib
import random
import warnings

import numpy
import pytest
import torch
from canonical import describe
from training import OPTIMIZERS, Training, everything
from torch.optim import lr_scheduler as lrs
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

import torchkeep

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore:.*lr_scheduler.step.*")
TOTAL, CUT = 10, 7  # saves at 3 and 6: step 7 is made twice


def assert_exact(make, tmp_path, **options):
    """A training cut at step 7 and continued by a new program equals one that was not: losses, state, metrics."""
    whole = make().run(tmp_path / "whole", TOTAL, **options)
    make().run(tmp_path / "cut", TOTAL, until=CUT, **options)
    rest = make().run(tmp_path / "cut", TOTAL, **options)
    assert len(rest) == TOTAL - 6
    assert rest == whole[6:]
    assert describe(everything(tmp_path / "cut")) == describe(everything(tmp_path / "whole"))
    assert (tmp_path / "cut/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_continues_exactly(name, tmp_path):
    assert_exact(lambda: Training(name), tmp_path)


def test_these_are_all_optimizers_of_torch():
    import inspect

    classes = [name for name, one in vars(torch.optim).items()
               if inspect.isclass(one) and issubclass(one, torch.optim.Optimizer) and one is not torch.optim.Optimizer]
    assert set(classes) <= set(OPTIMIZERS) and len(OPTIMIZERS) == 15


SCHEDULERS = {
    "LambdaLR": lambda o: lrs.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: lrs.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: lrs.StepLR(o, 3),
    "MultiStepLR": lambda o: lrs.MultiStepLR(o, [2, 8]),
    "ConstantLR": lambda o: lrs.ConstantLR(o, total_iters=8),
    "LinearLR": lambda o: lrs.LinearLR(o, total_iters=8),
    "ExponentialLR": lambda o: lrs.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lrs.PolynomialLR(o, total_iters=9, power=2.0),
    "CosineAnnealingLR": lambda o: lrs.CosineAnnealingLR(o, 9),
    "CosineAnnealingWarmRestarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 2, 2),
    "CyclicLR": lambda o: lrs.CyclicLR(o, 0.001, 0.1, 3, cycle_momentum=False),
    "OneCycleLR": lambda o: lrs.OneCycleLR(o, 0.1, total_steps=TOTAL + 1),
    "ReduceLROnPlateau": lambda o: lrs.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: lrs.SequentialLR(o, [lrs.LinearLR(o, total_iters=4), lrs.ExponentialLR(o, 0.9)], [4]),
    "ChainedScheduler": lambda o: lrs.ChainedScheduler([lrs.ConstantLR(o, total_iters=8), lrs.ExponentialLR(o, 0.9)]),
    "SWALR": lambda o: SWALR(o, 0.5, 8),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_continues_exactly(name, tmp_path):
    assert_exact(lambda: Training("SGD", scheduler=SCHEDULERS[name]), tmp_path)


class Amp(Training):
    """bfloat16 on the CPU, with a gradient scaler and an average of the weights."""

    def __init__(self):
        super().__init__("Adam")
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)

    def objects(self):
        return {**super().objects(), "scaler": self.scaler, "average": self.average}

    def step(self):
        x = torch.randn(16, 6)
        self.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.mse_loss(self.model(x), x.sum(1, keepdim=True))
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update_parameters(self.model)
        return loss.item()


def test_mixed_precision_its_scaler_and_an_average_continue_exactly(tmp_path):
    assert_exact(Amp, tmp_path)
    state = everything(tmp_path / "whole")
    assert state["scaler"]["scale"] != 2.0**10 and int(state["average"]["n_averaged"]) == TOTAL


def test_optimizer_state_keeps_a_dtype_of_its_own(tmp_path):
    class Mixed(Training):
        def __init__(self):
            super().__init__("AdamW")
            self.model.bfloat16()
            for parameter in self.model.parameters():  # moments in float32, as mixed-precision trainers keep them
                self.optimizer.state[parameter] = {"step": torch.tensor(0.0), "exp_avg": torch.zeros(parameter.shape),
                                                   "exp_avg_sq": torch.zeros(parameter.shape)}
            self.optimizer.step = self.by_hand

        def by_hand(self, closure):
            loss = closure()
            with torch.no_grad():
                for parameter in self.model.parameters():
                    state = self.optimizer.state[parameter]
                    state["step"] += 1
                    state["exp_avg"].lerp_(parameter.grad.float(), 0.1)
                    parameter.sub_(state["exp_avg"].bfloat16(), alpha=0.01)
            return loss

        def step(self):
            x = torch.randn(16, 6, dtype=torch.bfloat16)
            self.model.drop.eval()
            return self.optimizer.step(lambda: self.loss(x)).item()

        def loss(self, x):
            self.optimizer.zero_grad()
            loss = self.model(x).float().square().mean()
            loss.backward()
            return loss

    assert_exact(Mixed, tmp_path)
    assert everything(tmp_path / "whole")["optimizer"]["state"][0]["exp_avg"].dtype == torch.float32


def test_random_generators_continue(tmp_path):
    class Drawing(Training):
        def step(self):
            draws = random.random(), numpy.random.rand(), torch.rand(()).item()
            return super().step() + sum(draws) + random.gauss(0, 1) + numpy.random.randn()

    def make():
        return Drawing("SGD")

    assert_exact(make, tmp_path)


def test_gradients_between_two_steps_are_saved_on_request(tmp_path):
    class Accumulating(Training):
        def step(self):
            x = torch.randn(16, 6)
            loss = torch.nn.functional.mse_loss(self.model(x), x.sum(1, keepdim=True))
            loss.backward()
            self.counter += 1
            if self.counter % 4 == 0:
                self.optimizer.step()
                self.optimizer.zero_grad()
            return loss.item()

        def objects(self):
            self.counter = torch.zeros((), dtype=torch.int64)
            return {**super().objects(), "counter": self.counter}

    assert_exact(lambda: Accumulating("SGD"), tmp_path, gradients=True)


# ---- names, mismatches

def test_optimizer_state_is_matched_by_name(tmp_path):
    def build(order):
        torch.manual_seed(0)
        model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 3) for name in "abc"})
        optimizer = torch.optim.Adam([p for name in order for p in model[name].parameters()])
        return model, optimizer

    model, optimizer = build("abc")
    for scale, name in enumerate("abc"):
        model[name](torch.full((1, 3), 1.0 + scale)).sum().backward()
    optimizer.step()
    with torchkeep.Run(tmp_path, durable=False, signals=False) as run:
        run.track(net=model, optimizer=optimizer)
        run.resume()
        run.finish_step(1)
    expected = {name: optimizer.state[p]["exp_avg"].clone() for name, p in model.named_parameters()}

    other, reordered = build("cab")
    with torchkeep.Run(tmp_path, durable=False, signals=False, role="reader") as run:
        run.track(optimizer=reordered, net=other)
        assert run.resume() == 1
    for name, parameter in other.named_parameters():
        assert torch.equal(reordered.state[parameter]["exp_avg"], expected[name]), name
    assert "param_names" not in reordered.param_groups[0]
    reordered.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})


def test_all_that_does_not_fit_is_in_one_error_and_nothing_changes(tmp_path):
    Training("SGD").run(tmp_path, 3)

    other = Training("Adam", seed=9)
    other.model.last = torch.nn.Linear(8, 2)
    other.model.more = torch.nn.Linear(1, 1)
    before = describe(other.model.state_dict()), torch.get_rng_state()
    with torchkeep.Run(tmp_path, signals=False) as run:
        run.track(**other.objects(), extra=torch.ones(2))
        with pytest.raises(torchkeep.Error) as caught:
            run.resume()
    message = str(caught.value)
    assert caught.value.code == "mismatch"
    for part in ("last.weight: float32 [1, 8] in the file, float32 [2, 8] in the module", "more.bias: not in the file",
                 "betas", "it lacks 'extra'", "nothing was changed"):
        assert part in message, part
    assert describe(other.model.state_dict()) == before[0] and torch.equal(torch.get_rng_state(), before[1])


def test_something_new_may_be_missing_when_that_is_said(tmp_path):
    Training("SGD").run(tmp_path, 3)
    training = Training("SGD")
    with torchkeep.Run(tmp_path, signals=False, may_be_missing=["extra"], on_event=(events := []).append) as run:
        run.track(**training.objects(), extra=torch.ones(2))
        assert run.resume() == 3
    assert any("'extra'" in event.message and event.is_warning for event in events)


def test_what_would_be_lost_is_a_warning_by_name(tmp_path):
    training = Training("SGD", scheduler=SCHEDULERS["StepLR"])
    with torchkeep.Run(tmp_path, signals=False, rng=False, on_event=(events := []).append) as run:
        run.track(optimizer=training.optimizer, other=torch.nn.Linear(1, 1))
        run.resume()
    text = "\n".join(event.message for event in events if event.is_warning)
    assert "in no tracked module" in text and "initial_lr" in text
    with torchkeep.Run(tmp_path, signals=False, rng=False, on_event=(events := []).append) as run:
        run.track(model=training.model)
        run.resume()
    assert "drops other elements in model.drop" in events[0].message


def test_warnings_go_to_warnings_and_events_to_logging(tmp_path, caplog):
    training = Training("SGD", scheduler=SCHEDULERS["StepLR"])
    with caplog.at_level(logging.INFO, "torchkeep"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torchkeep.Run(tmp_path, signals=False) as run:
            run.track(model=training.model, optimizer=training.optimizer)
            run.resume()
            run.finish_step(loss=1.0)
    assert [w.category for w in caught] == [torchkeep.RunWarning] and "initial_lr" in str(caught[0].message)
    assert pathlib.Path(caught[0].filename) == pathlib.Path(__file__)
    text = caplog.text
    assert "starting at step 0" in text and "saved" in text and "finished at step 1" in text


# ---- the directory

def test_retention_best_pins_and_metrics(tmp_path):
    training = Training("SGD")
    with torchkeep.Run(tmp_path, save_every=1, keep_last=2, keep_best=1, best_metric="loss", durable=False,
                       signals=False) as run:
        run.track(**training.objects())
        for step in run.steps(6):
            run.finish_step(loss=torch.tensor([3.0, 1.0, 5.0, 4.0, 6.0, 7.0][step]), note="text", n=numpy.int64(step))
            if step == 2:
                run.wait()  # until the file is there
                torchkeep.pin(tmp_path, 3)
    steps = [(one.step, one.pinned) for one in torchkeep.checkpoints(tmp_path)]
    assert steps == [(2, False), (3, True), (5, False), (6, False)]
    assert torchkeep.find_checkpoint(tmp_path, "best").endswith("step-00000002.pt")
    assert torchkeep.find_checkpoint(tmp_path, "best", metric="loss", best="max").endswith("step-00000006.pt")
    assert torchkeep.unpin(tmp_path, 3) and not torchkeep.unpin(tmp_path, 3)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[1] == {"step": 2, "loss": 1.0, "note": "text", "n": 1}
    with pytest.raises(FileNotFoundError):
        torchkeep.find_checkpoint(tmp_path, 99)


def test_a_damaged_checkpoint_is_set_aside_and_the_older_one_used(tmp_path):
    Training().run(tmp_path, 7, until=6)
    newest = tmp_path / "step-00000006.pt"
    content = bytearray(newest.read_bytes())
    weight = torchkeep.load(newest)["model"]["first.weight"].numpy().tobytes()
    content[content.index(weight) + 5] ^= 1
    newest.write_bytes(content)
    training = Training()
    with torchkeep.Run(tmp_path, signals=False, on_event=(events := []).append) as run:
        run.track(**training.objects())
        assert run.resume() == 3
    assert [event.kind for event in events] == ["set_aside", "resumed"]
    assert newest.with_name("step-00000006.pt.broken").exists()


def test_one_writer_many_readers(tmp_path):
    training = Training("SGD")
    with torchkeep.Run(tmp_path, save_every=1, signals=False, durable=False) as run:
        run.track(**training.objects())
        for _ in run.steps(2):
            training.step()
            run.finish_step()
        with pytest.raises(torchkeep.Error) as caught:
            torchkeep.Run(tmp_path)
        assert caught.value.code == "busy"
        run.wait()  # for the save of step 2
        other = Training("SGD", seed=5)
        with torchkeep.Run(tmp_path, role="reader", signals=False) as reader:
            reader.track(**other.objects())
            assert reader.resume() == 2
            reader.finish_step()
            assert not reader.save_now()
        assert describe(other.model.state_dict()) == describe(training.model.state_dict())
    assert len(torchkeep.checkpoints(tmp_path)) == 2


def test_a_save_that_fails_is_a_warning_and_training_goes_on(tmp_path):
    class Stubborn:
        fail = False

        def state_dict(self):
            if self.fail:
                raise ZeroDivisionError("no state today")
            return {}

        def load_state_dict(self, state):
            pass

    thing = Stubborn()
    with torchkeep.Run(tmp_path, save_every=1, signals=False, durable=False, on_event=(events := []).append) as run:
        run.track(thing=thing)
        for step in run.steps(3):
            thing.fail = step == 1
            run.finish_step()
    failed = [event for event in events if event.kind == "save_failed"]
    assert len(failed) == 1 and "ZeroDivisionError: no state today" in failed[0].message
    assert [one.step for one in torchkeep.checkpoints(tmp_path)] == [1, 3]


def test_mistakes_are_told(tmp_path):
    run = torchkeep.Run(tmp_path, signals=False)
    for name in ("rng", "gradients", "step", "metrics", "provenance", ""):
        with pytest.raises(ValueError):
            run.track({name: torch.ones(1)})
    with pytest.raises(ValueError, match="cannot be tracked"):
        run.track(number=object())
    with pytest.raises(ValueError, match="nothing is tracked"):
        run.resume()
    run.track(x=torch.ones(1))
    with pytest.raises(ValueError, match="finish_step"):
        for _ in run.steps(3):
            pass
    with pytest.raises(ValueError, match="before resume"):
        run.track(y=torch.ones(1))
    run.close()
    run.close()
    with pytest.raises(ValueError, match="closed"):
        run.finish_step()
    with pytest.raises(ValueError, match="role"):
        torchkeep.Run(tmp_path, role="boss")


def test_a_run_that_is_dropped_gives_its_lock_back(tmp_path):
    run = torchkeep.Run(tmp_path, signals=False)
    run.track(x=torch.ones(1))
    del run
    torchkeep.Run(tmp_path, signals=False).close()


def test_memory_that_two_tracked_objects_share_is_saved_once_and_filled_once(tmp_path):
    def build():
        model = torch.nn.Linear(100, 100)
        return model, {"model": model, "row": model.weight.detach()[3], "again": torch.nn.ModuleDict({"inside": model})}

    model, objects = build()
    with torchkeep.Run(tmp_path, signals=False, durable=False) as run:
        run.track(objects)
        run.resume()
        run.finish_step(1)
    assert os.path.getsize(torchkeep.find_checkpoint(tmp_path)) < 1.5 * model.weight.nbytes
    state = everything(tmp_path)
    assert state["row"].untyped_storage().data_ptr() == state["model"]["weight"].untyped_storage().data_ptr()
    other, places = build()
    before = other.weight.data_ptr()
    with torchkeep.Run(tmp_path, signals=False, role="reader") as run:
        run.track(places)
        assert run.resume() == 1
    assert other.weight.data_ptr() == before and describe(other.state_dict()) == describe(model.state_dict())
