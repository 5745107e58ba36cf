# SPDX-License-Identifier: BSD-3-Clause
"""A checkpoint is the state at finish_step(), whatever writes to memory afterwards: counted or not, by any thread, before,
while and after the writer reads, changed back or not. The writer stands still at a byte, memory is changed, it goes on."""
import ctypes
import threading

import ema_pytorch
import pytest
import torch
import torch_ema
from canonical import describe
from torch.optim.optimizer import register_optimizer_step_pre_hook
from watched import ROWS, Watched, Words

import torchkeep

# Of the file: before everything, in the weights, in the moments, and when all is written.
STOPS = [0, 4_000_000, 12_000_000, 19_000_000]


# ---- writes, each with what it wrote to

def counted(weight, moment):
    weight.mul_(0.5)
    return weight


def data(weight, moment):
    weight.data.add_(1)
    return weight


def last_element(weight, moment):
    weight.data.view(-1)[-1] += 1
    return weight


def numpy(weight, moment):
    weight.detach().numpy()[:] += 1
    return weight


def pointer(weight, moment):
    ctypes.memset(weight.data_ptr(), 7, weight.numel() * weight.element_size())
    return weight


def another_thread(weight, moment):
    writer = threading.Thread(target=lambda: weight.data.add_(1))
    writer.start()
    writer.join()
    return weight


def optimizer_state(weight, moment):
    moment.data.add_(1)
    return moment


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("write", [counted, data, last_element, numpy, pointer, another_thread, optimizer_state],
                         ids=lambda one: one.__name__)
def test_what_is_written_beside_the_steps_is_never_in_a_checkpoint(write, stop, tmp_path):
    with Watched(tmp_path) as training, torch.no_grad():
        with torch.enable_grad():
            training.begin_streaming_save(stop)
        weight = training.model.words.weight
        written = write(weight, training.optimizer.state[weight]["exp_avg"])
        training.writer.go_on()
        training.run.wait()
        published = training.exact_steps()
        assert published == ([1, 2] if training.warnings() == "" else [1])
        if stop == 0:
            name = "model.words.weight" if written is weight else "adam.state.0.exp_avg"
            assert f"step 2 was dropped, for {name} changed" in training.warnings()
        if stop == STOPS[-1]:
            assert published == [1, 2], "nothing of it was read any more"
        with torch.enable_grad():
            training.step()
        training.run.finish()
        assert training.exact_steps() == [*published, 3]


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("write", [counted, data, numpy, optimizer_state], ids=lambda one: one.__name__)
def test_what_is_changed_back_before_it_was_read_is_no_reason_to_drop_a_checkpoint(write, stop, tmp_path):
    with Watched(tmp_path) as training, torch.no_grad():
        with torch.enable_grad():
            training.begin_streaming_save(stop)
        weight = training.model.words.weight
        moment = training.optimizer.state[weight]["exp_avg"]
        before = weight.clone(), moment.clone()
        write(weight, moment)
        weight.data.copy_(before[0])
        moment.data.copy_(before[1])
        training.writer.go_on()
        training.run.wait()
        assert training.exact_steps() == [1, 2] and training.warnings() == ""


def test_a_write_in_the_middle_of_reading_that_is_changed_back_later_is_found(tmp_path):
    with Watched(tmp_path) as training:
        training.begin_streaming_save(0)
        weight = training.model.words.weight
        weight.data.add_(1)
        training.writer.pause(12_000_000)  # the weights are read now
        training.writer.goes.set()
        training.writer.wait_until_it_stands()
        weight.data.sub_(1)
        training.writer.go_on()
        training.run.wait()
        assert training.exact_steps() == [1]
        training.finish_step()
        training.run.wait()
        assert training.exact_steps() == [1, 3]


def test_a_parameter_that_is_given_other_memory_is_saved_as_it_was(tmp_path):
    with Watched(tmp_path) as training:
        training.begin_streaming_save(0)
        weight = training.model.words.weight
        weight.data = torch.zeros_like(weight)
        training.writer.go_on()
        training.run.wait()
        assert training.exact_steps() == [1, 2] and training.warnings() == ""


def test_what_save_now_loses_to_another_thread_it_takes_again_at_once(tmp_path):
    def disturb():
        training.writer.wait_until_it_stands()
        training.model.words.weight.data.add_(1)
        training.writer.go_on()

    with Watched(tmp_path, save_every=100) as training:
        training.step()
        assert training.run.save_now()
        training.step()
        training.writer.pause(0)
        thread = threading.Thread(target=disturb)
        thread.start()
        assert training.run.save_now()
        thread.join()
        saved = torchkeep.load(torchkeep.find_checkpoint(tmp_path))["model"]
        assert describe(saved) == describe(training.model.state_dict())
        assert "step 2 was dropped" in training.warnings()


# ---- loops that people write

def swapped(training, steps, evaluate):
    """Steps, each followed by what an evaluation does while its save is being written."""
    for stop in [0, 4_000_000, 12_000_000, 19_000_000, 0][:steps]:
        training.step_until_the_writer_stands(stop)
        evaluate()
        training.writer.go_on()
        training.run.wait()
    training.step()
    training.run.finish()
    exact = training.exact_steps()
    assert exact[-1] == steps + 1
    return exact


def test_an_evaluation_with_the_weights_of_torch_ema(tmp_path):
    def evaluate():
        with ema.average_parameters():
            training.writer.go_on()
            training.run.wait()  # all of it is written while the weights are the average
        ema.update()

    model = Words()
    ema = torch_ema.ExponentialMovingAverage(model.parameters(), decay=0.5)
    ema.store()  # so that its state has the same form in every checkpoint
    with Watched(tmp_path, model=model, more={"ema": ema}) as training:
        exact = swapped(training, 5, evaluate)
        assert exact == [1, 3, 4, 5, 6], "the first save copies, the second one is dropped"
        assert training.warnings().count("dropped") == 1, training.warnings()
        assert "model.words.weight" in training.warnings()


def test_an_average_of_ema_pytorch_that_is_updated_while_a_save_is_written(tmp_path):
    model = Words()
    ema = ema_pytorch.EMA(model, beta=0.5, update_after_step=0, update_every=1)
    with Watched(tmp_path, model=model, more={"ema": ema}) as training:
        assert swapped(training, 4, ema.update) == [1, 2, 3, 4, 5]
        assert training.warnings() == ""


class MoCo(torch.nn.Module):
    """A query encoder that is trained, and a key encoder that forward() moves after it."""

    def __init__(self, how):
        super().__init__()
        self.words, self.key = (torch.nn.Embedding(ROWS, 32) for _ in range(2))
        self.key.weight.requires_grad_(False)
        self.how = how

    @torch.no_grad()
    def move(self):
        key, query = self.key.weight, self.words.weight
        if self.how == "counted":
            key.mul_(0.9).add_(query, alpha=0.1)
        elif self.how == "data":
            key.data.mul_(0.9).add_(query.data, alpha=0.1)
        elif self.how == "assigned":
            key.data = key.data * 0.9 + query.data * 0.1
        else:
            key.numpy()[:] += 1

    def forward(self, x):
        self.move()
        return (self.words(x) - self.key(x)).square().mean()


@pytest.mark.parametrize("how", ["counted", "data", "assigned", "numpy"])
def test_a_key_encoder_that_moves_in_forward_is_copied_at_the_save(how, tmp_path):
    with Watched(tmp_path, model=MoCo(how)) as training:
        for stop in STOPS:
            training.step_until_the_writer_stands(stop)
            training.forward_and_backward()
            training.writer.go_on()
        training.run.finish()
        assert training.exact_steps() == [1, 2, 3, 4] and training.warnings() == ""


def test_frozen_parameters_and_those_of_no_optimizer_are_copied_at_the_save(tmp_path):
    model = Words()
    model.frozen = torch.nn.Parameter(torch.ones(ROWS, 8), requires_grad=False)
    model.forgotten = torch.nn.Parameter(torch.ones(ROWS, 8))
    model.inference = torch.nn.Parameter(torch.inference_mode()(torch.ones)(10), requires_grad=False)
    trained = lambda model: torch.optim.Adam([model.words.weight, *model.head.parameters()], 0.01, fused=True)
    with Watched(tmp_path, model=model, optimizer=trained) as training:
        for stop in STOPS:
            training.step_until_the_writer_stands(stop)
            for one in (model.frozen, model.forgotten, model.inference):
                with torch.inference_mode():
                    one.data.add_(1)
            training.writer.go_on()
        training.run.finish()
        assert training.exact_steps() == [1, 2, 3, 4]
        assert "dropped" not in training.warnings()


def test_parameters_that_are_views_of_one_storage_are_exact(tmp_path):
    flat = torch.randn(2 * ROWS, 32)
    model = Words()
    model.words.weight = torch.nn.Parameter(flat[:ROWS])
    model.other = torch.nn.Parameter(flat[ROWS:])
    with Watched(tmp_path, model=model) as training:
        training.begin_streaming_save(0)
        model.other.data[-1, -1] += 1
        training.writer.go_on()
        training.run.wait()
        assert training.exact_steps() == [1]
        training.step()
        training.run.finish()
        assert training.exact_steps() == [1, 3]


# ---- the gate comes before everything

def clip(optimizer, args, kwargs):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.data.clamp_(-0.01, 0.01)


@pytest.mark.parametrize("where", ["own hook", "global hook", "patched step"])
def test_what_clips_weights_before_a_step_comes_after_the_gate(where, tmp_path):
    def register(training):
        if where == "own hook":
            training.optimizer.register_step_pre_hook(clip)
        elif where == "global hook":
            handles.append(register_optimizer_step_pre_hook(clip))
        else:
            inner = training.optimizer
            training.optimizer = Clipping(inner)

    class Clipping:
        """Writes before the optimizer inside steps."""

        def __init__(self, optimizer):
            self.optimizer = optimizer

        param_groups = property(lambda self: self.optimizer.param_groups)
        state = property(lambda self: self.optimizer.state)

        def state_dict(self):
            return self.optimizer.state_dict()

        def load_state_dict(self, state):
            self.optimizer.load_state_dict(state)

        def zero_grad(self):
            self.optimizer.zero_grad()

        def step(self):
            clip(self.optimizer, (), {})
            self.optimizer.step()

    handles = []
    try:
        with Watched(tmp_path, before_track=register) as training:
            for stop in STOPS:
                training.step_until_the_writer_stands(stop)
                training.forward_and_backward()
                training.optimizer.step()
                training.writer.go_on()
            training.run.finish()
            assert training.exact_steps() == [1, 2, 3, 4] and training.warnings() == ""
    finally:
        for handle in handles:
            handle.remove()


class Outer(torch.optim.Optimizer):
    """As accelerate's: a subclass that is never initialised as one, around another optimizer."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    state = property(lambda self: self.optimizer.state)
    param_groups = property(lambda self: self.optimizer.param_groups)
    defaults = property(lambda self: self.optimizer.defaults)

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)

    def zero_grad(self):
        self.optimizer.zero_grad()

    def step(self):
        self.optimizer.step()


def accelerated(optimizer):
    accelerate = pytest.importorskip("accelerate")  # frameworks are installed for their own tests only
    return accelerate.Accelerator(cpu=True).prepare(optimizer)


@pytest.mark.parametrize("wrap", [Outer, accelerated], ids=lambda one: one.__name__)
def test_what_wraps_an_optimizer_passes_the_gate_and_is_read_where_it_lies(wrap, tmp_path):
    with Watched(tmp_path, optimizer=lambda model: wrap(torch.optim.Adam(model.parameters(), 0.01))) as training:
        for _ in range(3):
            training.step()
            training.run.wait()
        assert training.run.last_save().staged_bytes < 100_000, "only the buffer was copied"
        training.step_until_the_writer_stands(0)
        training.forward_and_backward()
        training.optimizer.step()
        training.writer.go_on()
        training.finish_step()
        training.run.finish()
        assert training.exact_steps() == [1, 2, 3, 4, 5] and training.warnings() == ""


def test_the_step_of_an_optimizer_in_another_thread_waits_for_finish_step(tmp_path):
    failures, about_to_step = [], threading.Event()

    def noted(work):
        def call():
            try:
                work()
            except BaseException as failure:
                failures.append(failure)
        thread = threading.Thread(target=call)
        thread.start()
        return thread

    def step():
        about_to_step.set()
        training.optimizer.step()

    with Watched(tmp_path, staging_limit=0) as training:
        training.forward_and_backward()
        training.optimizer.step()
        training.writer.pause(0)
        finish = noted(training.finish_step)  # the first save copies all, and there is no memory for it
        training.writer.wait_until_it_stands()
        other = noted(step)
        about_to_step.wait()
        training.writer.go_on()
        finish.join()
        other.join()
        training.run.wait()
        assert failures == [] and training.exact_steps() == [1] and training.warnings() == ""


@pytest.mark.parametrize("due", [1, 100], ids=["due", "not due"])
def test_what_changes_behind_the_last_finish_step_is_in_no_checkpoint(due, tmp_path):
    model = torch.nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(model.parameters())
    with torchkeep.Run(tmp_path / "run", save_every=due, keep_last=0) as run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps(4):
            optimizer.zero_grad()
            model(torch.ones(1, 300)).square().mean().backward()
            optimizer.step()
            kept = describe(model.state_dict())
            run.finish_step()
            if step == 3:
                model.weight.data.zero_()  # averaged weights, to be evaluated
    saved = torch.load(torchkeep.find_checkpoint(tmp_path / "run"), weights_only=True)
    assert saved["step"] == 4 and describe(saved["model"]) == kept
