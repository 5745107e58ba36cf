# SPDX-License-Identifier: BSD-3-Clause
"""Saves in the background: the same training, and no torn state, however it is provoked."""
import os
import resource
import signal
import subprocess
import sys
import threading

import pytest
import torch
from canonical import describe
from training import OPTIMIZERS, Training, everything
from watched import ROWS, Watched, Words

import torchkeep

def global_hooks():
    """What PyTorch calls before every step of every optimizer."""
    return sys.modules["torch.optim.optimizer"]._global_optimizer_pre_hooks


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
    training.writer.go_on()
    training.run.close()
    assert there == [1] and training.exact_steps() == [1, step]


# ---- what must not happen while a save reads live memory, and is found by counters too

def mul(training):
    with torch.no_grad():
        training.model.words.weight.mul_(0.5)


def exchange(training):
    training.model.words.weight.data = torch.zeros(ROWS, 32)


def moments(training):
    training.optimizer.state[training.model.words.weight]["exp_avg"].zero_()


def step_without_gate(training):
    global_hooks().clear()
    training.forward_and_backward()
    training.optimizer.step()


def load(training):
    torchkeep.load_into(torchkeep.find_checkpoint(training.directory), model=training.model)


@pytest.mark.parametrize("proof", ["hash", "counters"])
@pytest.mark.parametrize("provoke", [mul, exchange, moments, step_without_gate, load], ids=lambda one: one.__name__)
def test_a_write_outside_the_gate_is_found_and_the_state_saved_again(provoke, proof, tmp_path):
    with Watched(tmp_path, proof=proof) as training:
        step = training.begin_streaming_save()
        provoke(training)
        training.writer.go_on()
        training.run.wait()
        if proof == "hash" and provoke is exchange:  # the memory that was there is as it was
            assert training.exact_steps() == [1, 2]
            return
        assert training.exact_steps() == [1]
        assert f"step {step} was dropped" in training.warnings()
        training.finish_step()
        training.run.wait()
        assert training.exact_steps() == [1, 3]


@pytest.mark.parametrize("proof", ["hash", "counters"])
def test_an_embedding_that_normalises_in_forward_is_caught_once_and_then_copied(proof, tmp_path):
    with Watched(tmp_path, model=Words(max_norm=1.0), proof=proof) as training:
        training.begin_streaming_save(0)
        training.forward_and_backward()
        training.writer.go_on()
        training.optimizer.step()
        training.finish_step()
        training.run.wait()
        assert training.exact_steps() == [1, 3]
        assert "step 2 was dropped, for model.words.weight changed" in training.warnings()
        before = training.warnings()
        training.step()
        training.step()
        training.run.finish()
        assert training.exact_steps() == [1, 3, 4, 5] and training.warnings() == before


class Uncounted(torch.optim.SGD):
    """Steps as fused kernels do: no counter is raised."""

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter.data.sub_(parameter.grad, alpha=0.1)


def test_counters_find_a_write_that_none_shows_in_what_was_read_of_memory_that_steps_without_them(tmp_path):
    with Watched(tmp_path, optimizer=lambda model: Uncounted(model.parameters(), 0.1), proof="counters") as training:
        training.begin_streaming_save(6_000_000)
        training.model.words.weight.data.zero_()
        training.optimizer.step()
        training.writer.go_on()
        training.run.wait()
        assert training.exact_steps() == [1]
        assert "model.words.weight changed" in training.warnings()


def test_an_alias_that_the_counter_does_not_show_is_copied_at_the_save(tmp_path):
    model = Words()
    model.register_buffer("row", model.words.weight.data[0])  # memory of a parameter, with a counter of its own
    with Watched(tmp_path, model=model) as training:
        step = training.begin_streaming_save(0)
        model.row.fill_(7)
        training.writer.go_on()
        training.run.close()
        assert training.exact_steps() == list(range(1, step + 1)) and training.warnings() == ""


# ---- optimizers and gates

def test_an_optimizer_whose_steps_nobody_sees_is_copied_at_the_save(tmp_path):
    class Hidden:
        __slots__ = ("inside", "__weakref__")

        def __init__(self, inside):
            self.inside = inside

        param_groups = property(lambda self: [{"params": self.inside}])

        def state_dict(self):
            return {"state": {}}

        def load_state_dict(self, state):
            pass

        def zero_grad(self):
            pass

        def step(self):
            for parameter in self.inside:
                parameter.data.sub_(1)

    with Watched(tmp_path, optimizer=lambda model: Hidden(list(model.parameters()))) as training:
        for _ in range(3):
            training.step_until_the_writer_stands(0)
            training.model.words.weight.data.add_(1)  # no counter shows it, and nobody was told
            training.writer.go_on()
        training.run.finish()
        assert training.exact_steps() == [1, 2, 3] and training.warnings() == ""


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
    class Outer:
        def __init__(self, inside):
            self.inside = inside
            self.param_groups, self.state_dict, self.zero_grad = inside.param_groups, inside.state_dict, inside.zero_grad
            self.load_state_dict = inside.load_state_dict

        def step(self):
            self.inside.step()

    training = Watched(tmp_path, optimizer=lambda model: Outer(torch.optim.SGD(model.parameters(), 0.1)))
    assert len(global_hooks()) == 1 and "step" in vars(training.optimizer)
    training.run.close()
    assert len(global_hooks()) == 0 and "step" not in vars(training.optimizer)
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
    training.writer.go_on()
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
        training.writer.go_on()
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
    def ring(number, frame):  # in the main thread, which the writer does not let go on yet
        training.writer.go_on()
        raise Alarm

    def ring_when_the_writer_stands():
        training.writer.wait_until_it_stands()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, ring)
    other = threading.Thread(target=ring_when_the_writer_stands)
    try:
        with Watched(tmp_path, staging_limit=0) as training:  # no memory to set anything aside
            training.writer.pause(5_000_000)
            other.start()
            with pytest.raises(Alarm):  # the first save copies, so it waits in finish_step()
                training.step()
            other.join()
            training.step()
            assert training.warnings() == ""
    finally:
        signal.signal(signal.SIGALRM, before)
    torchkeep.verify(torchkeep.find_checkpoint(tmp_path))
