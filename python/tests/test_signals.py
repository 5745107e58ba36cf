# SPDX-License-Identifier: BSD-3-Clause
"""What comes from outside in the middle of a run: signals, kills, forks, and calls in the middle of calls."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest
import torch
from canonical import describe
from training import everything
from watched import Watched

import torchkeep

PROGRAM = pathlib.Path(__file__).with_name("training.py")


def start(directory, *arguments):
    return subprocess.Popen([sys.executable, str(PROGRAM), str(directory), *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


@contextlib.contextmanager
def handler(number, function):
    before = signal.signal(number, function)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_the_step_and_ends_the_loop(number, tmp_path):
    child = start(tmp_path, 1_000_000)
    for _ in range(5):
        child.stdout.readline()
    child.send_signal(number)
    _, errors = child.communicate()
    assert child.returncode == 75, errors
    done = torchkeep.checkpoints(tmp_path)[-1].step
    metrics = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert done >= 5 and json.loads(metrics[-1])["step"] == done


def test_handlers_that_were_there_before_are_called_and_come_back(tmp_path):
    seen = []
    with handler(signal.SIGUSR1, lambda number, frame: seen.append(number)):
        mine = signal.getsignal(signal.SIGUSR1)
        with torchkeep.Run(tmp_path, durable=False) as run:
            run.track(x=torch.ones(1))
            for step in run.steps(5):
                if step == 2:
                    os.kill(os.getpid(), signal.SIGUSR1)
                run.finish_step()
            assert run.step == 3 and run.stopping and run.exit_code() == 75
        assert seen == [signal.SIGUSR1] and signal.getsignal(signal.SIGUSR1) is mine


def test_kill_9_in_the_middle_of_saves_ends_where_an_undisturbed_run_ends(tmp_path):
    assert start(tmp_path / "whole", 40).wait() == 0
    for write in (1, 4, 9, 2):
        assert start(tmp_path / "killed", 40, write).wait() == -signal.SIGKILL
    assert start(tmp_path / "killed", 40).wait() == 0
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
            training.run.track(late=torch.ones(1))
        except torchkeep.InvalidArgumentError as error:
            if "in the middle of another call of this run" in str(error):
                refused.append((training.run.step, training.run.stopping))
                training.run.request_stop()
        rang.set()

    def ring_until_refused():
        while not refused:
            rang.clear()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
            rang.wait()
        training.writer.go_on()

    refused, rang = [], threading.Event()
    with handler(signal.SIGALRM, ring), Watched(tmp_path) as training:
        training.begin_streaming_save()
        other = threading.Thread(target=ring_until_refused)
        other.start()
        training.run.wait()  # until the writer goes on
        other.join()
        assert refused == [(2, False)] and not training.run.stopping
        training.step()
        assert training.run.stopping and training.exact_steps() == [1, 2, 3]


@pytest.mark.parametrize("where", ["state_dict", "a helper of state_dict()", "load_state_dict"])
def test_what_a_signal_handler_raises_in_a_method_of_the_users_is_no_failure_of_it(where, tmp_path):
    class TimeIsUp(Exception):
        pass

    class Slow:
        rings = False

        def state_dict(self):
            if self.rings and where == "state_dict":
                signal.raise_signal(signal.SIGALRM)
            return {"x": self.helper() if self.rings and where != "load_state_dict" else 1}

        def helper(self):
            signal.raise_signal(signal.SIGALRM)

        def load_state_dict(self, state):
            if self.rings:
                signal.raise_signal(signal.SIGALRM)

    def ring(number, frame):
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # as one does that rings once
        raise TimeIsUp

    slow, events = Slow(), []
    with handler(signal.SIGALRM, ring):
        with torchkeep.Run(tmp_path, save_every=1, signals=False, durable=False, on_event=events.append) as run:
            run.track(slow=slow)
            run.resume()
            run.finish_step()
            slow.rings = True
            if where != "load_state_dict":
                with pytest.raises(TimeIsUp):
                    run.finish_step()
                slow.rings = False
                run.finish_step()
        if where == "load_state_dict":
            with torchkeep.Run(tmp_path, signals=False, on_event=events.append) as run, pytest.raises(TimeIsUp):
                run.track(slow=slow)
                run.resume()
        else:
            assert [one.step for one in torchkeep.checkpoints(tmp_path)] == [1, 3]
    assert not [event for event in events if event.is_warning]


def test_what_a_state_dict_raises_itself_is_a_failure_of_the_save_beside_any_handler(tmp_path):
    class Broken:
        def state_dict(self):
            return self.of(sys._getframe())  # as a handler gets it, but no number

        def of(self, frame):
            raise ValueError(frame)

        def load_state_dict(self, state):
            pass

    with pytest.raises(torchkeep.Error, match="ValueError"), handler(signal.SIGALRM, lambda number, frame: None):
        with torchkeep.Run(tmp_path, save_every=1, signals=False, on_event=lambda event: None) as run:
            run.track(broken=Broken())
            run.resume()
            run.finish_step()


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
