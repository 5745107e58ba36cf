# SPDX-License-Identifier: BSD-3-Clause
"""What comes from outside in the middle of a run: signals, kills, forks, and calls in the middle of calls."""
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from canonical import describe
from training import Training, everything

import torchkeep

PROGRAM = pathlib.Path(__file__).with_name("training.py")


def start(directory, total):
    return subprocess.Popen([sys.executable, str(PROGRAM), str(directory), str(total)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_the_step_and_ends_the_loop(number, tmp_path):
    child = start(tmp_path, 1_000_000)
    for _ in range(5):
        child.stdout.readline()
    child.send_signal(number)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 75, errors
    done = torchkeep.checkpoints(tmp_path)[-1].step
    metrics = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert done >= 5 and json.loads(metrics[-1])["step"] == done


def test_handlers_that_were_there_before_are_called_and_come_back(tmp_path):
    seen = []
    earlier = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        mine = signal.getsignal(signal.SIGUSR1)
        with torchkeep.Run(tmp_path, durable=False) as run:
            run.track(x=torch.ones(1))
            for step in run.steps(5):
                if step == 2:
                    os.kill(os.getpid(), signal.SIGUSR1)
                run.finish_step()
            assert run.step == 3 and run.stopping and run.exit_code() == 75
        assert seen == [signal.SIGUSR1] and signal.getsignal(signal.SIGUSR1) is mine
    finally:
        signal.signal(signal.SIGUSR1, earlier)


def test_kill_9_at_random_moments_ends_where_an_undisturbed_run_ends(tmp_path):
    assert start(tmp_path / "whole", 40).wait(timeout=120) == 0
    chooser = random.Random(3)
    for _ in range(3):
        child = start(tmp_path / "killed", 40)
        for _ in range(chooser.randrange(1, 9)):
            child.stdout.readline()
        time.sleep(chooser.random() * 0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert start(tmp_path / "killed", 40).wait(timeout=120) == 0
    assert describe(everything(tmp_path / "killed")) == describe(everything(tmp_path / "whole"))
    assert (tmp_path / "killed/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


def test_a_forked_child_does_not_disturb_its_parents_run(tmp_path):
    with torchkeep.Run(tmp_path, durable=False) as run:
        run.track(x=torch.ones(1))
        for step in run.steps(3):
            child = os.fork()
            if child == 0:
                run.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            run.finish_step()
    assert [one.step for one in torchkeep.checkpoints(tmp_path)] == [3]

# ---- calls in the middle of calls

def test_a_signal_handler_cannot_call_a_run_that_is_in_the_middle_of_a_call(tmp_path):
    def ring(number, frame):
        try:
            run.wait()
        except torchkeep.InvalidArgumentError as error:
            refused.append((str(error), run.step, run.stopping))
            run.request_stop()

    model, refused = torch.nn.Linear(8000, 6000), []  # 190 MB: waiting takes long enough to look up for signals
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with torchkeep.Run(tmp_path, save_every=1, keep_last=2, signals=False) as run:
            run.track(model=model, optimizer=optimizer)
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            for _ in run.steps(100):
                optimizer.step()
                run.finish_step()
                run.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    message, step, stopping = refused[0]
    assert "in the middle of another call of this run" in message and not stopping
    assert run.stopping and run.step < 100 and step <= run.step
    assert torchkeep.checkpoints(tmp_path)[-1].step == run.step
    torchkeep.verify(torchkeep.find_checkpoint(tmp_path))


CALLS = {"wait": lambda run: run.wait(), "save_now": lambda run: run.save_now(), "finish": lambda run: run.finish(),
         "finish_step": lambda run: run.finish_step(), "resume": lambda run: run.resume(),
         "close": lambda run: run.close(), "track": lambda run: run.track(late=torch.ones(1)),
         "gate": lambda run: run._engine.gate("optimizer")}


@pytest.mark.parametrize("call", CALLS)
def test_on_event_may_look_at_a_run_and_ask_for_a_stop_but_not_call_it(call, tmp_path):
    def on_event(event):
        if event.kind == "saved" and not refused:
            with pytest.raises(torchkeep.InvalidArgumentError, match="in the middle of another call") as caught:
                CALLS[call](run)
            refused.append((caught.value.code, run.step, run.finished, run.exit_code(), run.last_save().step))
            run.request_stop()

    refused = []
    with torchkeep.Run(tmp_path, save_every=1, signals=False, durable=False, on_event=on_event) as run:
        run.track(x=torch.ones(1))
        for _ in run.steps(5):
            run.finish_step()
            run.wait()
    assert refused == [("invalid_argument", 1, False, 75, 1)]
    assert run.stopping and run.step == 2 and [one.step for one in torchkeep.checkpoints(tmp_path)] == [1, 2]


def test_a_state_dict_that_calls_its_run_is_a_save_that_fails(tmp_path):
    class Caller:
        def state_dict(self):
            if run.step == 1:
                run.save_now()
            return {}

        def load_state_dict(self, state):
            pass

    events = []
    with torchkeep.Run(tmp_path, save_every=1, signals=False, durable=False, on_event=events.append) as run:
        run.track(caller=Caller())
        for _ in run.steps(2):
            run.finish_step()
    failed = [event for event in events if event.kind == "save_failed"]
    assert [event.step for event in failed] == [1] and "in the middle of another call" in failed[0].message
    assert [one.step for one in torchkeep.checkpoints(tmp_path)] == [2]


def test_a_warning_from_inside_a_save_reaches_on_event(tmp_path):
    scheduled = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    with torchkeep.Run(tmp_path, signals=False, durable=False) as run:
        run.track(scheduler=torch.optim.lr_scheduler.StepLR(scheduled, 2))
        run.resume()
        run.finish_step()
    with torchkeep.Run(tmp_path, signals=False, on_event=(events := []).append) as run:
        run.track(scheduler=torch.optim.lr_scheduler.StepLR(scheduled, 3))
        assert run.resume() == 1
    assert any("step_size is 3 here and 2 in the checkpoint" in event.message for event in events)
