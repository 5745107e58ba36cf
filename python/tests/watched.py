# SPDX-License-Identifier: BSD-3-Clause
"""A training whose saves are compared with the state that was there at finish_step(), and a writer that can be stopped."""
import copy
import functools
import os
import threading
from unittest import mock

import torch
from canonical import describe

import torchkeep
from torchkeep import _core

ROWS = 50_000


class Words(torch.nn.Module):
    """6.4 MB, and as much twice in Adam's moments: about twenty writes."""

    def __init__(self, **options):
        super().__init__()
        self.words = torch.nn.Embedding(ROWS, 32, **options)
        self.head = torch.nn.Linear(32, 1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += 1
        return self.head(self.words(x)).mean()


def snapshot(state):
    """A copy of a state dict; tensors with a history too, which deepcopy() refuses."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, (list, tuple)):
        return type(state)(map(snapshot, state))
    if isinstance(state, dict):
        return {key: snapshot(value) for key, value in state.items()}
    return copy.deepcopy(state)


class Writer:
    """Stands still in front of the first write at or behind a byte of the file, until it is told to go on."""

    def __init__(self):
        self.stop_at = None
        self.stands, self.goes = threading.Event(), threading.Event()

    def __call__(self, offset):
        if self.stop_at is not None and offset >= self.stop_at:
            self.stands.set()
            self.goes.wait()

    def pause(self, offset):
        self.stands.clear()
        self.goes.clear()
        self.stop_at = offset

    def wait_until_it_stands(self):
        assert self.stands.wait(600), "no save is under way"

    def go_on(self):
        self.stop_at = None
        self.goes.set()


def run_with(writer, *args, **options):
    """A Run whose files are written by such a writer."""
    with mock.patch.object(_core, "Engine", functools.partial(_core.Engine, before_write=writer)):
        return torchkeep.Run(*args, **options)


class Watched:
    """A training that saves every step, and knows the state of each. A context: no writer stands still behind it."""

    def __init__(self, directory, model=None, optimizer=None, more=None, before_track=None, **options):
        torch.manual_seed(1)
        self.directory = directory
        self.model = model or Words()
        self.optimizer = optimizer(self.model) if optimizer else torch.optim.Adam(self.model.parameters(), 0.01)
        self.more = more or {}
        self.events, self.expected, self.writer = [], {}, Writer()
        self.run = run_with(self.writer, directory, **{"save_every": 1, "keep_last": 0, "signals": False, "durable": False,
                                                       "on_event": self.events.append, **options})
        if before_track:
            before_track(self)
        self.run.track(model=self.model, adam=self.optimizer, **self.more)
        self.run.resume()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.writer.go_on()
        self.run.close()

    def forward_and_backward(self):
        self.optimizer.zero_grad()
        self.model(torch.arange(0, ROWS, 1000)).backward()

    def states(self):
        return {"model": self.model.state_dict(), "adam": self.optimizer.state_dict()["state"],
                **{name: one.state_dict() for name, one in self.more.items()}}

    def finish_step(self):
        self.expected[self.run.step + 1] = snapshot(self.states())
        self.run.finish_step()

    def step(self):
        self.forward_and_backward()
        self.optimizer.step()
        self.finish_step()

    def step_until_the_writer_stands(self, offset):
        self.run.wait()  # for the save before: the writer stands in this one
        self.writer.pause(offset)
        self.step()
        self.writer.wait_until_it_stands()

    def begin_streaming_save(self, offset=5_000_000):
        """Returns a step whose save reads live memory, and stands still in front of this byte of the file."""
        self.step()
        self.step_until_the_writer_stands(offset)
        return self.run.step

    def steps(self):
        return [one.step for one in torchkeep.checkpoints(self.directory)]

    def exact_steps(self):
        """The steps that were published, after a look at every bit of each."""
        for one in torchkeep.checkpoints(self.directory):
            state = torchkeep.load(one.path)
            for name, expected in self.expected[one.step].items():
                saved = state[name]["state"] if name == "adam" else state[name]
                assert describe(snapshot(saved)) == describe(expected), (one.step, name)
        assert not [name for name in os.listdir(self.directory) if ".tmp-" in name]
        return self.steps()

    def warnings(self):
        return "\n".join(event.message for event in self.events if event.is_warning)
