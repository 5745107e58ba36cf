# SPDX-License-Identifier: BSD-3-Clause
"""Saves in the background: the same training, and no torn state, however it is provoked."""
import copy
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from canonical import describe
from training import OPTIMIZERS, Training, everything

import torchkeep

ROWS = 50_000


class Words(torch.nn.Module):
    """6 MB, and as much twice in Adam's moments: the writer does not have it before the next line of the program."""

    def __init__(self, **options):
        super().__init__()
        self.words = torch.nn.Embedding(ROWS, 32, **options)
        self.head = torch.nn.Linear(32, 1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += 1
        return self.head(self.words(x)).mean()


class Watched:
    """A training that saves every step, and knows the state of each."""

    def __init__(self, directory, model=None, optimizer=None, **options):
        torch.manual_seed(1)
        self.directory = directory
        self.model = model or Words()
        self.optimizer = optimizer(self.model) if optimizer else torch.optim.Adam(self.model.parameters(), 0.01)
        self.events, self.expected = [], {}
        self.run = torchkeep.Run(directory, **{"save_every": 1, "keep_last": 0, "signals": False, "durable": False,
                                               "on_event": self.events.append, **options})
        self.run.track(model=self.model, adam=self.optimizer)
        self.run.resume()

    def forward_and_backward(self):
        self.optimizer.zero_grad()
        self.model(torch.arange(0, ROWS, 1000)).backward()

    def finish_step(self):
        self.expected[self.run.step + 1] = copy.deepcopy((self.model.state_dict(), self.optimizer.state_dict()["state"]))
        self.run.finish_step()

    def step(self):
        self.forward_and_backward()
        self.optimizer.step()
        self.finish_step()

    def begin_streaming_save(self):
        """Returns a step whose save reads live memory and waits for the training's consent to what it read."""
        while True:
            self.step()
            self.run.wait()
            self.step()
            time.sleep(0.03)
            # A writer that was so fast that all was read before finish_step() returned has the consent.
            if self.run.step not in self.steps():
                return self.run.step

    def steps(self):
        return [one.step for one in torchkeep.checkpoints(self.directory)]

    def exact_steps(self):
        """The steps that were published, after a look at every bit of each."""
        for one in torchkeep.checkpoints(self.directory):
            state = torchkeep.load(one.path)
            model, adam = self.expected[one.step]
            assert describe(state["model"]) == describe(model), one.step
            assert describe(state["adam"]["state"]) == describe(adam), one.step
        assert not [name for name in os.listdir(self.directory) if ".tmp-" in name]
        return self.steps()

    def warnings(self):
        return "\n".join(event.message for event in self.events if event.is_warning)


KINDS = {**{name: (name, {}) for name in OPTIMIZERS}, "foreach": ("AdamW", {"foreach": True}),
         "fused": ("AdamW", {"fused": True}), "foreach NAdam": ("NAdam", {"foreach": True})}


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_with_a_save_at_every_step_is_bit_for_bit_the_one_without(kind, tmp_path):
    def train(directory, **options):
        name, own = KINDS[kind]
        training = Training(name, own, scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2))
        losses = training.run(tmp_path / directory, 8, on_event=events.append, **options)
        return losses, describe(everything(tmp_path / directory))

    events = []
    assert train("with", save_every=1) == train("without", save_every=1000, background=False)
    assert [event.message for event in events if event.is_warning] == []


def test_what_is_written_before_the_next_step_is_written_from_live_memory(tmp_path):
    training = Watched(tmp_path)
    assert training.run.last_save() is None
    for _ in range(3):
        training.step()
        training.run.wait()
    save = training.run.last_save()
    assert save.background and save.step == 3 and save.bytes > 18_000_000 and save.staged_bytes < 100_000
    assert 0 < save.blocked_seconds and 0 < save.seconds
    saved = [event for event in training.events if event.kind == "saved"][-1]
    assert (saved.blocked_seconds, saved.staged_bytes) == (save.blocked_seconds, save.staged_bytes)
    training.run.finish()
    assert training.exact_steps() == [1, 2, 3] and training.warnings() == ""


def test_what_is_unwritten_at_the_next_step_is_set_aside(tmp_path):
    training = Watched(tmp_path)
    for _ in range(6):
        training.step()
    training.run.finish()
    assert training.exact_steps() == [1, 2, 3, 4, 5, 6] and training.warnings() == ""
    training.run.close()


def test_finish_step_returns_before_the_file_is_there(tmp_path):
    training = Watched(tmp_path)
    step = training.begin_streaming_save()
    there = training.steps()
    training.run.close()
    assert there == list(range(1, step)) and training.exact_steps() == [*there, step]


# ---- what must not happen while a save reads live memory

def mul(training):
    with torch.no_grad():
        training.model.words.weight.mul_(0.5)


def exchange(training):
    training.model.words.weight.data = torch.zeros(ROWS, 32)


def moments(training):
    training.optimizer.state[training.model.words.weight]["exp_avg"].zero_()


def step_without_gate(training):
    training.optimizer._optimizer_step_pre_hooks.clear()
    training.forward_and_backward()
    training.optimizer.step()


def load(training):
    torchkeep.load_into(torchkeep.find_checkpoint(training.directory), model=training.model)


@pytest.mark.parametrize("provoke", [mul, exchange, moments, step_without_gate, load], ids=lambda one: one.__name__)
def test_a_write_outside_the_gate_is_found_and_the_state_saved_again(provoke, tmp_path):
    training = Watched(tmp_path)
    step = training.begin_streaming_save()
    provoke(training)
    training.run.wait()
    assert training.exact_steps() == list(range(1, step))
    assert f"step {step} was dropped" in training.warnings()
    training.finish_step()
    training.run.wait()
    assert training.exact_steps() == [*range(1, step), step + 1]
    training.run.close()


def test_an_embedding_that_normalises_in_forward_is_caught_once_and_then_copied(tmp_path):
    training = Watched(tmp_path, model=Words(max_norm=1.0))
    step = training.begin_streaming_save()
    training.forward_and_backward()
    training.optimizer.step()
    training.finish_step()
    training.run.wait()
    assert training.exact_steps() == [*range(1, step), step + 1]
    assert f"step {step} was dropped, for model.words.weight changed" in training.warnings()
    before = training.warnings()
    training.step()
    training.step()
    training.run.finish()
    assert training.exact_steps() == [*range(1, step), *range(step + 1, step + 4)] and training.warnings() == before
    training.run.close()


class Uncounted(torch.optim.SGD):
    """Steps as fused kernels do: no counter is raised."""

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter.data.sub_(parameter.grad, alpha=0.1)


def test_a_write_that_no_counter_shows_is_found_in_what_was_read(tmp_path):
    training = Watched(tmp_path, optimizer=lambda model: Uncounted(model.parameters(), 0.1))
    step = training.begin_streaming_save()
    wait_for_the_writer(tmp_path)
    training.model.words.weight.data.zero_()
    training.optimizer.step()
    training.run.wait()
    assert training.exact_steps() == list(range(1, step))
    assert "model.words.weight changed" in training.warnings()
    training.run.close()


def wait_for_the_writer(directory, size=6_000_000):
    """Until it has written so much of a checkpoint, or all."""
    for _ in range(2000):
        files = [one for one in pathlib.Path(directory).iterdir() if ".tmp-" in one.name]
        if files and files[0].stat().st_blocks * 512 > size:
            return
        time.sleep(0.005)
    raise AssertionError("no save is under way")


def test_an_alias_that_the_counter_does_not_show_is_copied_at_the_save(tmp_path):
    model = Words()
    model.register_buffer("row", model.words.weight.data[0])  # memory of a parameter, with a counter of its own
    training = Watched(tmp_path, model=model)
    step = training.begin_streaming_save()
    model.row.fill_(7)
    training.run.close()
    assert training.exact_steps() == list(range(1, step + 1)) and training.warnings() == ""


# ---- optimizers and gates

def test_an_optimizer_without_hooks_is_copied_at_the_save(tmp_path):
    class Wrapper(torch.optim.Optimizer):
        """As accelerate's: a part of it is made, the rest is the optimizer inside."""

        def __init__(self, inside):
            self.inside = inside
            self.state, self.param_groups, self.defaults = inside.state, inside.param_groups, inside.defaults

        def state_dict(self):
            return self.inside.state_dict()

        def zero_grad(self):
            self.inside.zero_grad()

        def step(self):
            self.inside.step()

    training = Watched(tmp_path, optimizer=lambda model: Wrapper(torch.optim.Adam(model.parameters(), 0.01)))
    for _ in range(3):
        training.step()
        training.model.words.weight.data.add_(1)  # no counter shows it, and nobody was told
    training.run.finish()
    assert training.exact_steps() == [1, 2, 3] and training.warnings() == ""
    training.run.close()


@pytest.mark.parametrize("how", ["compiled step", "scaler", "two optimizers", "scheduler first"])
def test_every_way_to_step_passes_the_gate(how, tmp_path):
    torch.manual_seed(0)
    models = {name: torch.nn.Linear(50, 50) for name in ("one", "two")}
    optimizers = {f"o_{name}": torch.optim.SGD(model.parameters(), 0.01, momentum=0.9) for name, model in models.items()}
    scheduler = torch.optim.lr_scheduler.StepLR(optimizers["o_one"], 2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    step = torch.compile(optimizers["o_one"].step, backend="eager") if how == "compiled step" else None
    with torchkeep.Run(tmp_path, save_every=2, durable=False, signals=False, on_event=(events := []).append) as run:
        run.track(models)
        run.track(optimizers)
        run.track(scheduler=scheduler)
        for _ in run.steps(8):
            loss = sum(model(torch.ones(1, 50)).square().mean() for model in models.values())
            (scaler.scale(loss) if how == "scaler" else loss).backward()
            for optimizer in optimizers.values():
                if how == "scaler":
                    scaler.step(optimizer)
                elif step is not None and optimizer is optimizers["o_one"]:
                    step()
                else:
                    optimizer.step()
            scaler.update() if how == "scaler" else None
            scheduler.step()
            run.finish_step()
            run.wait()
    assert [event.message for event in events if event.is_warning] == []
    saves = [event for event in events if event.kind == "saved"]
    assert [event.step for event in saves] == [2, 4, 6, 8]
    assert all(event.staged_bytes < 20_000 for event in saves[1:]), "read from live memory: every gate was passed"


def test_a_closed_run_leaves_no_hook_behind(tmp_path):
    training = Watched(tmp_path)
    assert len(training.optimizer._optimizer_step_pre_hooks) == 1
    training.run.close()
    assert len(training.optimizer._optimizer_step_pre_hooks) == 0
    training.optimizer.step()


# ---- processes, signals, the end

def test_a_fork_during_a_save_disturbs_neither(tmp_path):
    training = Watched(tmp_path)
    step = training.begin_streaming_save()
    child = os.fork()
    if child == 0:
        training.optimizer.step()
        training.run.wait()
        training.run.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    loader = torch.utils.data.DataLoader(range(8), num_workers=2)
    for _ in loader:
        training.step()
    training.run.finish()
    assert training.exact_steps() == list(range(1, step + 9)) and training.warnings() == ""
    training.run.close()


def test_an_exception_in_the_training_lets_the_save_under_way_come_to_its_end(tmp_path):
    training = Watched(tmp_path)
    with pytest.raises(ZeroDivisionError), training.run:
        step = training.begin_streaming_save()
        training.forward_and_backward()
        raise ZeroDivisionError
    assert training.exact_steps() == list(range(1, step + 1))


def test_a_save_that_fails_in_the_background_is_told_by_the_next_call(tmp_path):
    training = Watched(tmp_path)
    training.step()
    training.run.wait()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        training.step()
        assert [event.kind for event in training.events].count("save_failed") == 0
        training.run.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "step 2 could not be saved" in training.warnings()
    training.step()
    training.run.close()
    assert training.exact_steps() == [1, 3]


ENDING = """
import sys, torch, torchkeep
model = torch.nn.Linear(2000, 2000)
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
run = torchkeep.Run(sys.argv[1], save_every=1, keep_last=0)
run.track(model=model, optimizer=optimizer)
for step in run.steps(4):
    model(torch.ones(1, 2000)).sum().backward()
    optimizer.step()
    run.finish_step()
    if step == 2:
        break
print("end", flush=True)
raise RuntimeError("stop")
"""


def test_the_end_of_the_program_waits_for_the_save_under_way(tmp_path):
    done = subprocess.run([sys.executable, "-c", ENDING, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "end\n") and "RuntimeError: stop" in done.stderr, done.stderr
    assert [one.step for one in torchkeep.checkpoints(tmp_path)] == [1, 2, 3]
    for one in torchkeep.checkpoints(tmp_path):
        torchkeep.verify(one.path)
    assert not [name for name in os.listdir(tmp_path) if ".tmp-" in name]


class Alarm(BaseException):
    pass


def test_ctrl_c_ends_the_waiting_for_the_writer_and_other_threads_run_meanwhile(tmp_path):
    def ring(number, frame):
        raise Alarm

    count, stop = [0], threading.Event()

    def work():
        while not stop.wait(0.001):
            count[0] += 1

    model = torch.nn.Linear(8000, 6000)  # 190 MB, and no memory to set any of it aside
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.step()
    before, thread = signal.signal(signal.SIGALRM, ring), threading.Thread(target=work)
    try:
        with torchkeep.Run(tmp_path, save_every=1, staging_limit=0, signals=False) as run:
            run.track(model=model, optimizer=optimizer)
            run.resume()
            thread.start()
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Alarm):
                while True:  # the first save copies, so it waits in finish_step(); the others in step()
                    optimizer.step()
                    run.finish_step()
            assert count[0] > 3
            optimizer.step()
            run.finish_step()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        thread.join()
    torchkeep.verify(torchkeep.find_checkpoint(tmp_path))
