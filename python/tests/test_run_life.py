# SPDX-License-Identifier: BSD-3-Clause
"""The life of a run: how it starts, which states it saves, how it ends, and whose exceptions come out of it."""
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
from watched import run_with

import torchkeep


def model_and_optimizer(seed=0):
    torch.manual_seed(seed)
    model = torch.nn.Linear(4, 1)
    return model, torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(1, 4)).square().sum().backward()
    optimizer.step()


def open_run(directory, **options):
    options = {"signals": False, "durable": False, "on_event": lambda event: None, **options}
    return torchkeep.Run(directory, **options)


def train(directory, total, **options):
    """Trains and returns the weight after every step."""
    model, optimizer = model_and_optimizer()
    weights = {}
    with open_run(directory, **options) as run:
        run.track(model=model, optimizer=optimizer)
        for done in run.steps(total):
            step(model, optimizer)
            run.finish_step()
            weights[done + 1] = model.weight.detach().clone()
    return weights


def saved_weight(directory):
    return torchkeep.load(torchkeep.find_checkpoint(directory))["model"]["weight"]


def steps_in(directory):
    return [one.step for one in torchkeep.checkpoints(directory)]


def warnings_of(events):
    return [event.message for event in events if event.kind == "warning"]


# ---- only finished steps are saved

@pytest.mark.parametrize("leave", ["break", "save_now", "finish", "two of them"])
def test_what_happens_in_the_middle_of_a_step_never_replaces_a_checkpoint(leave, tmp_path):
    weights = train(tmp_path / "whole", 5)
    model, optimizer = model_and_optimizer()
    with open_run(tmp_path / "cut", save_every=5, on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        for done in run.steps(20):
            step(model, optimizer)
            if done == 5:
                if leave != "break":
                    assert run.save_now()
                if leave != "save_now":
                    run.finish()
                break
            run.finish_step()
    assert steps_in(tmp_path / "cut") == [5]
    assert torch.equal(saved_weight(tmp_path / "cut"), weights[5])


def test_leaving_the_middle_of_a_step_says_which_step_is_lost(tmp_path):
    model, optimizer = model_and_optimizer()
    with open_run(tmp_path, save_every=5, on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        for done in run.steps(20):
            if done == 7:
                break  # nothing was changed, but who knows
            step(model, optimizer)
            run.finish_step()
    assert steps_in(tmp_path) == [5] and run.exit_code() == 75
    assert len(warnings_of(events)) == 1 and "the step after 7, whose state is gone" in warnings_of(events)[0]


def test_a_loop_left_after_finish_step_saves_that_step(tmp_path):
    model, optimizer = model_and_optimizer()
    with open_run(tmp_path, save_every=5) as run:
        run.track(model=model, optimizer=optimizer)
        for done in run.steps(20):
            step(model, optimizer)
            run.finish_step()
            if done == 6:
                break
    assert steps_in(tmp_path)[-1] == 7 and torch.equal(saved_weight(tmp_path), model.weight)


def test_save_now_in_a_loop_of_ones_own_waits_for_the_end_of_the_step(tmp_path):
    model, optimizer = model_and_optimizer()
    with open_run(tmp_path, save_every=100, on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        run.resume()
        run.finish_step()
        step(model, optimizer)
        assert not run.save_now() and steps_in(tmp_path) == []
        run.finish_step()
        run.wait()
        assert steps_in(tmp_path) == [2] and torch.equal(saved_weight(tmp_path), model.weight)
    assert any("save_now() was called in the middle of the step after 1" in one for one in warnings_of(events))


def test_finish_step_counts_one_step_a_turn_of_steps(tmp_path):
    model, optimizer = model_and_optimizer()
    with pytest.raises(torchkeep.InvalidArgumentError, match="a second time in one turn"):
        with open_run(tmp_path, save_every=1) as run:
            run.track(model=model, optimizer=optimizer)
            for _ in run.steps(4):
                run.finish_step()
                run.finish_step()
    assert run.step == 1
    with open_run(tmp_path) as run:  # after the loop, and in one of the program's own, it counts on
        run.track(model=model, optimizer=optimizer)
        for _ in run.steps(2):
            run.finish_step()
        run.finish_step()
        run.finish_step()
    assert run.step == 4


# ---- ends and exit codes

LOOPS = {"steps": "for done in run.steps(10):\n        body(done)",
         "while": "run.resume()\n    while run.step < 10 and not run.stopping:\n        body(run.step)"}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["SIGTERM", "SIGUSR1", "SIGKILL", "nothing"])
def test_after_the_last_step_the_exit_code_becomes_0_and_stays(loop, how, tmp_path):
    program = textwrap.dedent("""
        import os, signal, sys, torchkeep
        class Thing:
            def state_dict(self): return {"x": 1}
            def load_state_dict(self, state): pass
        def body(done):
            first = done == 9 and len(sys.argv) > 2
            if first and sys.argv[2] in ("SIGTERM", "SIGUSR1"):
                os.kill(os.getpid(), getattr(signal, sys.argv[2]))
            run.finish_step()
            if first and sys.argv[2] == "SIGKILL":
                run.save_now()
                os.kill(os.getpid(), signal.SIGKILL)
        with torchkeep.Run(sys.argv[1], save_every=5, durable=False) as run:
            run.track(thing=Thing())
            LOOP
        raise SystemExit(run.exit_code())
        """).replace("LOOP", LOOPS[loop])
    codes = []
    for arguments in ([how], [], []):
        codes.append(subprocess.run([sys.executable, "-c", program, str(tmp_path), *arguments]).returncode)
    first = {"SIGKILL": -9, "nothing": 0}.get(how, 0 if loop == "steps" else 75)  # steps() knows that it was the last
    assert codes == [first, 0, 0] and steps_in(tmp_path)[-1] == 10


def test_a_block_that_only_resumes_marks_nothing(tmp_path):
    train(tmp_path, 6, save_every=3)
    for marker in tmp_path.glob("finished-*"):
        marker.unlink()
    model, optimizer = model_and_optimizer()
    with open_run(tmp_path, on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        assert run.resume() == 6
    assert [event.kind for event in events] == ["resumed"] and not list(tmp_path.glob("finished-*"))


class Breaks:
    """Its state cannot be saved from some step on."""

    def __init__(self):
        self.error = None

    def state_dict(self):
        if self.error:
            raise self.error
        return {"x": 1}

    def load_state_dict(self, state):
        state["missing key"]


def test_a_training_that_cannot_be_saved_stops_and_raises(tmp_path):
    thing = Breaks()
    with pytest.raises(torchkeep.Error, match="5 saves in a row failed, and there is no checkpoint") as caught:
        with open_run(tmp_path, save_every=1, on_event=(events := []).append) as run:
            run.track(thing=thing)
            run.resume()
            thing.error = ValueError("mine")
            for _ in run.steps(50):
                run.finish_step()
    assert run.step == 5 and run.exit_code() == 74 and caught.value.__cause__ is thing.error
    failed = [event for event in events if event.kind == "save_failed"]
    assert all(event.error.__cause__ is thing.error and "key 'thing'" in event.message for event in failed)


def test_an_end_without_any_checkpoint_is_never_silent_even_before_the_limit(tmp_path):
    thing = Breaks()
    with pytest.raises(torchkeep.Error, match="no save up to step 3 has worked"):
        with open_run(tmp_path, save_every=2) as run:
            run.track(thing=thing)
            run.resume()
            thing.error = ValueError("mine")
            for _ in run.steps(3):
                run.finish_step()


def test_a_failed_last_save_behind_a_good_one_is_told_by_the_exit_code(tmp_path):
    thing = Breaks()
    with open_run(tmp_path, save_every=1) as run:
        run.track(thing=thing)
        for done in run.steps(3):
            thing.error = ValueError("mine") if done == 2 else None
            run.finish_step()
    assert run.exit_code() == 74 and steps_in(tmp_path) == [1, 2]


def test_failures_are_logged_with_their_traceback(tmp_path, caplog):
    thing = Breaks()
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("ignore")
        with open_run(tmp_path, save_every=1, on_event=None) as run:
            run.track(thing=thing)
            for done in run.steps(3):
                thing.error = ValueError("mine") if done == 1 else None
                run.finish_step()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1 and "step 2 could not be saved" in errors[0].message
    assert errors[0].exc_info[1].__cause__.args == ("mine",)


# ---- what a run says by default

def test_start_stop_and_end_are_a_line_each_on_stderr_unless_on_event_is_given(tmp_path, capsys):
    train(tmp_path, 2, on_event=None)
    assert capsys.readouterr().err == (f"torchkeep: starting at step 0 in {tmp_path}\n"
                                       f"torchkeep: finished at step 2 of {tmp_path}\n")
    model, optimizer = model_and_optimizer()
    with open_run(tmp_path, on_event=None) as run:
        run.track(model=model, optimizer=optimizer)
        for _ in run.steps(9):
            run.request_stop()
            run.finish_step()
    assert capsys.readouterr().err == (f"torchkeep: already finished at step 2 of {tmp_path}\n"
                                       f"torchkeep: stopping at step 3 as requested; run the program again to continue\n")
    train(tmp_path, 4)
    assert capsys.readouterr().err == ""


def test_the_lines_go_to_logging_where_it_lets_them_through(tmp_path, capsys, caplog):
    with caplog.at_level(logging.INFO):
        train(tmp_path, 1, on_event=None)
    assert capsys.readouterr().err == ""
    assert [record.message.split(" at ")[0] for record in caplog.records if record.name == "torchkeep"
            and " step " in record.message and "saved" not in record.message] == ["starting", "finished"]


# ---- the user's exceptions are the user's

class Mine(Exception):
    pass


@pytest.mark.parametrize("kind", ["started", "saved", "finished", "pruned"])
@pytest.mark.parametrize("background", [True, False])
def test_what_on_event_raises_comes_out_and_nothing_else_is_disturbed(kind, background, tmp_path):
    def on_event(event):
        kinds.append(event.kind)
        if event.kind == kind and kinds != ["started", "started"]:  # the second resume() is told of the start too
            raise Mine(kind)

    kinds, raised = [], 0
    model, optimizer = model_and_optimizer()
    run = open_run(tmp_path, save_every=1, keep_last=1, background=background, on_event=on_event)
    run.track(model=model, optimizer=optimizer)
    calls = [run.resume] if kind != "started" else [run.resume, run.resume]
    for _ in range(3):
        calls += [lambda: step(model, optimizer), run.finish_step, run.wait]
    for call in [*calls, run.finish, run.wait]:
        try:
            call()
        except Mine:
            raised += 1
    run.close()
    assert raised == (1 if kind == "started" else kinds.count(kind)) > 0 and "save_failed" not in kinds
    assert kinds.count("saved") == 3 and steps_in(tmp_path) == [3] and run.exit_code() == 0


def test_a_warning_that_on_event_refuses_at_resume_is_the_users_exception(tmp_path):
    def scheduler(size):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
        return torch.optim.lr_scheduler.StepLR(optimizer, size)

    with open_run(tmp_path) as run:
        run.track(scheduler=scheduler(2))
        run.resume()
        run.finish_step()

    def on_event(event):
        if event.kind == "warning":
            raise Mine(event.message)

    run = open_run(tmp_path, on_event=on_event)
    run.track(scheduler=scheduler(3))
    with pytest.raises(Mine, match="step_size"):
        run.resume()
    run.close()


@pytest.mark.parametrize("when", ["save", "load"])
def test_errors_of_state_dicts_keep_their_traceback_and_name_the_object(when, tmp_path):
    thing = Breaks()
    with open_run(tmp_path) as run:
        run.track(thing=thing)
        run.resume()
        run.finish_step()
    thing.error = ValueError("mine") if when == "save" else None
    with pytest.raises(torchkeep.Error, match="key 'thing'|thing: ") as caught:
        with open_run(tmp_path) as run:
            run.track(thing=thing)
            run.resume()
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError if when == "save" else KeyError)
    frames = []
    trace = cause.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == ("state_dict" if when == "save" else "load_state_dict")


# ---- a start always works

def test_a_resume_that_failed_can_be_called_again(tmp_path):
    train(tmp_path / "done", 2)
    model, optimizer = model_and_optimizer(seed=1)
    model.bias = None
    with open_run(tmp_path / "done") as run:
        run.track(model=model, optimizer=torch.optim.SGD(model.parameters(), 0.01, momentum=0.9))
        with pytest.raises(torchkeep.Error):
            run.resume()
    model, optimizer = model_and_optimizer(seed=1)
    run = open_run(tmp_path / "later", resume="required", role="reader")
    run.track(model=model, optimizer=optimizer)
    for _ in range(2):
        with pytest.raises(torchkeep.NotFoundError):
            run.resume()
    shutil.copytree(tmp_path / "done", tmp_path / "later")
    assert run.resume() == 2
    run.close()


@pytest.mark.parametrize("what", ["folder", "pipe", "broken link", "link to itself"])
def test_what_is_no_file_is_passed_over_and_left_alone(what, tmp_path):
    train(tmp_path, 3, save_every=1, keep_last=0)
    newest = tmp_path / "step-00000003.pt"
    newest.unlink()
    {"folder": newest.mkdir, "pipe": lambda: os.mkfifo(newest), "broken link": lambda: newest.symlink_to("nowhere"),
     "link to itself": lambda: newest.symlink_to(newest.name)}[what]()
    model, optimizer = model_and_optimizer()
    with open_run(tmp_path, on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        assert run.resume() == 2
    told = [one.message for one in events if one.is_warning]
    assert len(told) == 1 and "passed over" in told[0] and newest.name in told[0]
    assert os.path.lexists(newest) and not list(tmp_path.glob("*.broken"))


class OtherGenerator(torch.Generator):
    """Its state is no CPU generator's, as on a GPU."""

    content = torch.arange(16, dtype=torch.uint8)

    def get_state(self):
        return self.content.clone()

    def set_state(self, state):
        if state.numel() != 16:
            raise RuntimeError("expected 16 bytes")
        self.content = state.clone()


def test_a_generator_decides_itself_which_states_it_takes(tmp_path):
    generator = OtherGenerator()
    generator.content = generator.content.flip(0)
    torchkeep.save({"generator": generator.get_state(), "cpu": torch.Generator().get_state()}, tmp_path / "a.pt")
    fresh = OtherGenerator()
    torchkeep.load_into(tmp_path / "a.pt", generator=fresh)
    assert torch.equal(fresh.content, generator.content)
    with pytest.raises(torchkeep.Error, match="expected 16 bytes"):
        torchkeep.load_into(tmp_path / "a.pt", cpu=fresh)
    assert torch.equal(fresh.content, generator.content)


def test_a_directory_is_where_it_was_after_chdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    model, optimizer = model_and_optimizer()
    with open_run("runs/a", save_every=2, on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        for done in run.steps(6):
            if done == 3:
                os.chdir("elsewhere")
            step(model, optimizer)
            run.finish_step(loss=1.0)
    assert run.exit_code() == 0 and steps_in(tmp_path / "runs/a") == [2, 4, 6]
    assert not any((tmp_path / "elsewhere").iterdir())
    assert all(str(tmp_path) not in event.message for event in events)
    assert all(os.path.isabs(event.path) for event in events if event.kind == "saved")


def test_a_relative_directory_of_an_error_is_the_one_that_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_run("runs/a", resume="required") as run:
        run.track(x=torch.ones(1))
        with pytest.raises(torchkeep.NotFoundError, match="^runs/a: no checkpoint"):
            run.resume()


# ---- positions and metrics

@pytest.mark.parametrize("at", range(1, 6))
def test_take_reports_the_end_of_an_epoch_once_wherever_the_run_is_cut(at, tmp_path):
    def go(directory, until):
        sampler, seen = torchkeep.ResumableSampler(8, seed=1), []
        with open_run(directory, save_every=1) as run:
            run.track(data=sampler)
            run.resume()
            while run.step < until:
                batch = sampler.take(4)
                seen.append(tuple(batch) or ("end", sampler.epoch))
                if batch:
                    run.finish_step()
        return seen

    assert go(tmp_path / "cut", at) + go(tmp_path / "cut", 6) == go(tmp_path / "whole", 6)


@pytest.mark.parametrize("value", [torch.ones(2), torch.ones(1, 0), __import__("numpy").ones(3)])
def test_a_metric_of_several_elements_is_refused_by_name(value, tmp_path):
    with open_run(tmp_path) as run:
        run.track(x=torch.ones(1))
        run.resume()
        with pytest.raises(torchkeep.InvalidArgumentError, match="metric 'loss' is a .* of shape .*loss.mean()"):
            run.finish_step(loss=value)
        with pytest.raises(torchkeep.InvalidArgumentError, match=r"run.finish_step\(3, loss=loss\)"):
            run.finish_step(step=3)


def test_the_best_is_saved_when_it_comes_and_of_what_was_saved_else(tmp_path):
    values = {4: 3.0, 8: 1.0, 12: 2.0}
    for name, options, kept in (("without", {}, [12, 14]), ("with", {"save_on_best": True}, [8, 14])):
        with open_run(tmp_path / name, save_every=3, keep_last=1, keep_best=1, best_metric="val", **options) as run:
            run.track(x=torch.ones(1))
            for done in run.steps(14):
                run.finish_step(**({"val": values[done + 1]} if done + 1 in values else {}))
        assert steps_in(tmp_path / name) == kept
        assert torchkeep.find_checkpoint(tmp_path / name, "best").endswith(f"step-{kept[0]:08}.pt")


def test_a_best_metric_that_never_comes_is_said_once(tmp_path):
    with open_run(tmp_path, save_every=1, keep_best=1, best_metric="val_los", on_event=(events := []).append) as run:
        run.track(x=torch.ones(1))
        for _ in run.steps(5):
            run.finish_step(val_loss=1.0)
    assert len(warnings_of(events)) == 1
    assert "'val_los'" in warnings_of(events)[0] and "given were 'val_loss'" in warnings_of(events)[0]


# ---- forks

def test_a_forked_child_writes_nothing_and_its_parent_goes_on(tmp_path):
    run = open_run(tmp_path, save_every=2)
    run.track(x=torch.ones(1))
    run.resume()
    for _ in range(3):
        run.finish_step(who="parent")
    run.wait()
    files = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    child = os.fork()
    if child == 0:
        for _ in range(3):
            run.finish_step(who="child")
        code = run.save_now()
        run.finish()
        run.close()
        os._exit(int(code))
    assert os.waitpid(child, 0)[1] == 0
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == files
    for _ in range(3):
        run.finish_step(who="parent")
    run.finish()
    run.close()
    assert (tmp_path / "metrics.jsonl").read_text().count("parent") == 6 and steps_in(tmp_path)[-1] == 6


# ---- what trains and is not tracked

def test_an_optimizer_that_is_not_tracked_is_named_once(tmp_path):
    model, optimizer = model_and_optimizer()
    with open_run(tmp_path, on_event=(events := []).append) as run:
        run.track(model=model)
        for _ in run.steps(4):
            step(model, optimizer)
            run.finish_step()
    assert len(warnings_of(events)) == 1 and "SGD, and trains 'model'" in warnings_of(events)[0]


def test_a_model_and_optimizer_that_replace_the_tracked_ones_are_named(tmp_path):
    model, optimizer = model_and_optimizer()
    with open_run(tmp_path, on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        for done in run.steps(6):
            if done == 2:
                model, optimizer = model_and_optimizer()
            step(model, optimizer)
            run.finish_step()
    assert len(warnings_of(events)) == 1 and "'optimizer' made no step meanwhile" in warnings_of(events)[0]


def test_a_part_of_the_model_that_was_replaced_is_named(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with open_run(tmp_path, on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        for done in run.steps(9):
            if done == 2:
                model[1] = torch.nn.Linear(4, 1)
            step(model, optimizer)
            run.finish_step()
    assert len(warnings_of(events)) == 1 and "no longer in a tracked module" in warnings_of(events)[0]


class Wrapper(torch.optim.Optimizer):
    """Steps another optimizer, as Lookahead and its like do."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        super().__init__(optimizer.param_groups, {})

    def step(self, closure=None):
        return self.optimizer.step(closure)

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)


def test_optimizers_inside_tracked_ones_and_of_inner_loops_and_other_runs_are_no_reason_to_warn(tmp_path):
    model, inner = model_and_optimizer()
    optimizer, events = Wrapper(inner), []
    other_model, other_optimizer = model_and_optimizer()
    with open_run(tmp_path / "a", on_event=events.append) as run, open_run(tmp_path / "b", on_event=events.append) as other:
        run.track(model=model, optimizer=optimizer)
        other.track(model=other_model, optimizer=other_optimizer)
        other.resume()
        for _ in run.steps(4):
            step(model, optimizer)
            step(other_model, other_optimizer)
            image = torch.ones(3, requires_grad=True)  # an attack, a style: made anew in every step
            inner_loop = torch.optim.SGD([image], 0.1)
            for _ in range(3):
                inner_loop.zero_grad()
                image.square().sum().backward()
                inner_loop.step()
            run.finish_step()
            other.finish_step()
    assert warnings_of(events) == []


def test_an_optimizer_of_tracked_tensors_is_complete(tmp_path):
    class Holder:
        def __init__(self):
            self.table = torch.ones(3, requires_grad=True)

        def state_dict(self):
            return {"table": self.table.detach()}

        def load_state_dict(self, state):
            self.table.data.copy_(state["table"])

    weight, holder = torch.ones(3, requires_grad=True), Holder()
    optimizer = torch.optim.Adam([weight, holder.table])
    with open_run(tmp_path, on_event=(events := []).append) as run:
        run.track(weight=weight, holder=holder, optimizer=optimizer)
        for _ in run.steps(3):
            optimizer.zero_grad()
            (weight.square().sum() + holder.table.square().sum()).backward()
            optimizer.step()
            run.finish_step()
    assert warnings_of(events) == []


def accelerated(optimizer, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, project_dir=str(tmp_path))
    optimizer = accelerator.prepare(optimizer)
    return optimizer, accelerator.prepare(torch.optim.lr_scheduler.StepLR(optimizer.optimizer, 2))


def timms(optimizer, tmp_path):
    scheduler = pytest.importorskip("timm.scheduler")
    return optimizer, scheduler.CosineLRScheduler(optimizer, t_initial=5)


@pytest.mark.parametrize("make", [accelerated, timms])
def test_schedulers_of_other_packages_are_schedulers(make, tmp_path):
    model, optimizer = model_and_optimizer()
    optimizer, scheduler = make(optimizer, tmp_path)
    with open_run(tmp_path / "run", on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer, scheduler=scheduler)
        run.resume()
    assert warnings_of(events) == []
    with open_run(tmp_path / "other", on_event=(events := []).append) as run:
        run.track(model=model, optimizer=optimizer)
        run.resume()
    assert any("no scheduler is tracked" in one for one in warnings_of(events))


# ---- signals

def send(number):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers_stay_as_they_were():
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_live_run_stops_though_an_earlier_one_was_closed_after_it_was_opened(tmp_path):
    first = open_run(tmp_path / "first", signals=True)
    second = open_run(tmp_path / "second", signals=True)
    first.close()
    with second as run:
        run.track(x=torch.ones(1))
        for done in run.steps(5):
            if done == 2:
                send(signal.SIGTERM)
            run.finish_step()
    assert run.step == 3 and run.exit_code() == 75 and steps_in(tmp_path / "second") == [3]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_closed_runs_leave_no_handler_in_whatever_order(order, tmp_path):
    before = signal.signal(signal.SIGUSR1, mine := lambda number, frame: None)
    runs = [open_run(tmp_path / str(i), signals=True) for i in range(3)]
    for i in order:
        runs[i].close()
    assert signal.getsignal(signal.SIGUSR1) is mine
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGUSR1, before)


def test_a_handler_over_ours_still_works_when_the_run_is_closed(tmp_path):
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append("first"))
    run = open_run(tmp_path / "a", signals=True)
    ours = signal.getsignal(signal.SIGTERM)

    def over(number, frame):
        seen.append("over")
        ours(number, frame)

    signal.signal(signal.SIGTERM, over)
    run.close()
    send(signal.SIGTERM)
    assert seen == ["over", "first"] and signal.getsignal(signal.SIGTERM) is over
    seen.clear()
    with open_run(tmp_path / "b", signals=True) as later:
        later.track(x=torch.ones(1))
        later.resume()
        send(signal.SIGTERM)
        later.finish_step()
        assert later.stopping
    assert seen == ["over", "first"] and signal.getsignal(signal.SIGTERM) is over


def test_a_dead_handler_below_one_of_the_programs_own_does_nothing(tmp_path):
    seen = []
    run = open_run(tmp_path, signals=True)
    ours = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, lambda number, frame: (seen.append(number), ours(number, frame)))
    run.close()
    send(signal.SIGUSR1)  # by default it would end the process
    assert seen == [signal.SIGUSR1]


def test_a_handler_that_raises_never_ends_the_process_and_the_run_goes_on(tmp_path):
    class Boom(BaseException):
        pass

    def ring(number, frame):
        raise Boom

    chooser, before = random.Random(1), signal.signal(signal.SIGALRM, ring)
    model = torch.nn.Linear(300, 300)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    bell = Bell()
    run = run_with(bell, tmp_path, save_every=1, keep_last=2, durable=False, signals=False, on_event=lambda event: None)
    try:
        run.track(model=model, optimizer=optimizer)
        run.resume()
        for _ in range(60):
            bell.rings_at = bell.writes + chooser.randrange(1, 12)
            with pytest.raises(Boom):
                while True:
                    model(torch.ones(1, 300)).sum().backward()
                    optimizer.step()
                    run.finish_step(loss=1.0)
        run.finish_step()
        assert run.save_now() and steps_in(tmp_path)[-1] == run.step
    finally:
        signal.signal(signal.SIGALRM, before)
    run.close()
    torchkeep.verify(torchkeep.find_checkpoint(tmp_path))
    assert not [name for name in os.listdir(tmp_path) if ".tmp-" in name]


class Bell:
    """Sends SIGALRM in front of one write of a run; its handler runs wherever the main thread is by then."""

    writes, rings_at = 0, None

    def __call__(self, offset):
        self.writes += 1
        if self.writes == self.rings_at:
            os.kill(os.getpid(), signal.SIGALRM)


def test_what_a_checkpoint_lacks_is_said_in_pythons_words(tmp_path):
    model = torch.nn.Linear(2, 2)
    with torchkeep.Run(tmp_path / "run", save_every=1) as run:
        run.track(model=model)
        for _ in run.steps(1):
            run.finish_step()
    with pytest.raises(torchkeep.Error, match=r"it lacks 'more' \(Run\(may_be_missing=\[\.\.\.\]\) lets these start fresh\)"):
        with torchkeep.Run(tmp_path / "run") as run:
            run.track(model=model, more=torch.nn.Linear(2, 2))
            run.resume()
