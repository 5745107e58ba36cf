# SPDX-License-Identifier: BSD-3-Clause
"""The GIL, signals, threads and processes."""
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

import torchkeep


def test_other_threads_run_while_a_save_works(tmp_path):
    state = {"x": torch.ones(40_000_000)}
    counts, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counts[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        before = counts[0]
        torchkeep.save(state, tmp_path / "a.pt")
        saved = counts[0] - before
        torchkeep.load(tmp_path / "a.pt")
        loaded = counts[0] - before - saved
    finally:
        stop.set()
        counter.join()
    assert saved > 0 and loaded > 0


def test_threads_save_and_load_at_once(tmp_path):
    failures = []

    def work(number):
        try:
            value = {"x": torch.full((1000,), number), "n": number}
            for _ in range(10):
                torchkeep.save(value, tmp_path / f"{number}.pt", durable=False)
                loaded = torchkeep.load(tmp_path / f"{number}.pt")
                assert loaded["n"] == number and torch.equal(loaded["x"], value["x"])
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


INTERRUPTED = """
import os, signal, sys, threading, torch, torchkeep
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
state = {"x": torch.ones(150_000_000)}
torchkeep.save({"old": 1}, sys.argv[1])
seen = []
def move(done, total):
    seen.append(done)
    if len(seen) == 1:
        os.kill(os.getpid(), signal.SIGINT)
try:
    torchkeep.save(state, sys.argv[1], progress=move)
except KeyboardInterrupt:
    print("interrupted")
print(torchkeep.load(sys.argv[1]), os.listdir(os.path.dirname(sys.argv[1])))
seen.clear()
torchkeep.save({"x": state["x"][:40_000_000].clone()}, sys.argv[1], durable=False)
try:
    torchkeep.load(sys.argv[1], progress=move)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_a_save_which_leaves_the_old_file_and_a_load(tmp_path):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, str(tmp_path / "a.pt")], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["interrupted", "{'old': 1} ['a.pt']", "interrupted"], done.stderr


def test_an_error_in_the_progress_callback_comes_out(tmp_path):
    def fail(done, total):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        torchkeep.save({"x": torch.ones(150_000_000)}, tmp_path / "a.pt", progress=fail)


def _child(path, queue):
    torchkeep.save({"from": "child", "x": torch.ones(3)}, path)
    queue.put(torchkeep.load(path)["from"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes_save_and_load(method, tmp_path):
    torchkeep.save({"x": torch.ones(3)}, tmp_path / "parent.pt")  # so that the child inherits a used module
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_child, args=(str(tmp_path / "child.pt"), queue))
    child.start()
    assert queue.get(timeout=120) == "child"
    child.join()
    assert child.exitcode == 0
    assert torchkeep.load(tmp_path / "child.pt")["x"].tolist() == [1, 1, 1]


def test_a_kill_in_the_middle_of_saves_leaves_a_whole_file(tmp_path):
    program = ("import sys, torch, torchkeep\n"
               "for i in range(100000):\n"
               "    torchkeep.save({'i': i, 'x': torch.full((100000,), i)}, sys.argv[1], durable=False)\n"
               "    print(i, flush=True)\n")
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "a.pt")], stdout=subprocess.PIPE)
        for _ in range(5):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        loaded = torchkeep.load(tmp_path / "a.pt")
        assert loaded["i"] >= 4 and torch.equal(loaded["x"], torch.full((100000,), loaded["i"]))


def test_a_run_outside_the_main_thread_works_and_handles_no_signals(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with torchkeep.Run(tmp_path, save_every=2, durable=False) as run:
            seen.append(signal.getsignal(signal.SIGTERM))
            run.track(x=torch.ones(3))
            for _ in run.steps(5):
                run.finish_step()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
    assert [one.step for one in torchkeep.checkpoints(tmp_path)] == [2, 4, 5]


INTERRUPTED_RUN = """
import os, signal, sys, torch, torchkeep
signal.signal(signal.SIGINT, signal.default_int_handler)
run = torchkeep.Run(sys.argv[1], save_every=1, signals=False)
class Big:
    armed = False
    def state_dict(self):
        if self.armed:
            os.kill(os.getpid(), signal.SIGINT)
        return {"x": torch.ones(3)}
    def load_state_dict(self, state):
        pass
thing = Big()
run.track(thing=thing)
try:
    for step in run.steps(3):
        thing.armed = step == 1
        run.finish_step()
except KeyboardInterrupt:
    print("interrupted")
print([one.step for one in torchkeep.checkpoints(sys.argv[1])], len(os.listdir(sys.argv[1])))
run.close()
print(sorted(name for name in os.listdir(sys.argv[1]) if name.endswith(".pt")))
"""


def test_ctrl_c_in_a_save_of_a_run_is_raised_and_leaves_the_checkpoint_before(tmp_path):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_RUN, str(tmp_path)], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "interrupted" and lines[1].startswith("[1]"), (lines, done.stderr)
    assert lines[2] == "['step-00000001.pt']"
