# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of test_fits_*.py share: a checkpoint of a run, its resume, load_into() with its warnings."""
import collections
import enum
import warnings

import numpy
import torch
from canonical import describe

import torchkeep


def resumed(path, role="writer", **objects):
    """Resumes the newest checkpoint; the warnings."""
    events = []
    with torchkeep.Run(path, signals=False, durable=False, role=role, on_event=events.append) as run:
        run.track(**objects)
        run.resume()
        resumed.values = dict(run.values)
    return [event.message for event in events if event.is_warning]


def saved(path, **objects):
    """One checkpoint of a run."""
    with torchkeep.Run(path, signals=False, durable=False, background=False, on_event=lambda event: None) as run:
        run.track(**objects)
        run.resume()
        run.finish_step()
    return torchkeep.find_checkpoint(path)


def loaded(path, **objects):
    """load_into(); the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torchkeep.load_into(path, **objects)
    return [str(one.message) for one in caught if issubclass(one.category, torchkeep.LoadWarning)]


def describe_any(value):
    if isinstance(value, numpy.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, numpy.generic) and value.dtype.str[1:] not in ("f8", "i8"):
        return type(value), value.tobytes()
    if isinstance(value, numpy.generic):
        return describe(value.item())
    if isinstance(value, (enum.Enum, range, frozenset)):
        return repr(value)
    if isinstance(value, dict):
        return type(value), [(describe_any(key), describe_any(part)) for key, part in value.items()]
    if isinstance(value, collections.deque):
        return value.maxlen, describe_any(list(value))
    if isinstance(value, (list, tuple)):
        return [describe_any(part) for part in value]
    return describe(value)


def net():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def stepped(model, make=torch.optim.Adam):
    optimizer = make(model.parameters())
    for _ in range(2):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    return optimizer
