# SPDX-License-Identifier: BSD-3-Clause
"""Plain values: numbers, strings, None, lists, dicts, arrays, and generators of Python's and NumPy's."""
import collections
import sys
from collections.abc import MutableMapping

from ._adapter import Adapter, Plan, copied, describe, mismatch, torch_module
from ._plain import plain, restored

_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, slice,
          collections.deque)


def is_value(thing):
    """Whether it is plain data, or a NumPy array or number."""
    numpy = sys.modules.get("numpy")
    return isinstance(thing, _PLAIN) or numpy is not None and isinstance(thing, (numpy.ndarray, numpy.generic))


class Value(Adapter):
    """A value that is part of the checkpoint. What can be changed (a list, a dict, a set, an array) is restored in place;
    what cannot (a number, a string, a tuple) is read and written through Run.values."""

    def __init__(self, value):
        self.value = value

    def capture(self):
        return plain(self.value)

    def prepare(self, state):
        value = restored(state)
        if isinstance(self.value, (set, frozenset)) and isinstance(value, (list, tuple)):
            value = type(self.value)(value)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(self.value, numpy.generic) and isinstance(value, (bool, int, float, complex)):
            value = type(self.value)(value)
        if self.value is not None and value is not None and not self._fits(value):
            raise mismatch(f"{_describe(value)} in the file, {_describe(self.value)} here")
        before = copied(self.value)
        return Plan(lambda: self._put(value), undo=lambda: self._put(before))

    def _fits(self, value):
        numbers = (bool, int, float, complex)
        if isinstance(self.value, numbers) and isinstance(value, numbers):
            return True
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(self.value, numpy.ndarray):
            return (isinstance(value, numpy.ndarray) and value.dtype == self.value.dtype
                    and value.shape == self.value.shape)
        return isinstance(value, type(self.value)) or isinstance(self.value, type(value))

    def _put(self, value):
        self.value = _into(self.value, value)


def _into(here, value):
    """The content of `value` in `here` where that can be changed, else `value`."""
    if isinstance(here, list) and isinstance(value, list):
        here[:] = [_into(part, new) for part, new in zip(here, value)] + value[len(here):]
    elif isinstance(here, dict) and isinstance(value, dict):
        parts = {key: _into(here.get(key), new) for key, new in value.items()}
        here.clear()
        here.update(parts)
    elif isinstance(here, (set, collections.deque)) and type(here) is type(value):
        parts = list(value)
        here.clear()
        here.update(parts) if isinstance(here, set) else here.extend(parts)
    elif isinstance(here, bytearray) and isinstance(value, bytearray):
        here[:] = value
    elif _is_alike(here, value, sys.modules.get("numpy"), "ndarray"):
        here[...] = value
    elif _is_alike(here, value, torch_module(), "Tensor"):
        with torch_module().no_grad():
            here.copy_(value)
    else:
        return value
    return here


def _is_alike(here, value, library, name):
    kind = getattr(library, name, None)
    return (kind is not None and isinstance(here, kind) and isinstance(value, kind) and here.dtype == value.dtype
            and here.shape == value.shape)


def _describe(value):
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    return f"a {describe(value)}"


class Values(MutableMapping):
    """The plain values that a run tracks, by name: `run.values["best"] = 0.3`."""

    def __init__(self):
        self._adapters = {}

    def _add(self, name, adapter):
        self._adapters[name] = adapter

    def __getitem__(self, name):
        return self._adapters[name].value

    def __setitem__(self, name, value):
        if name not in self._adapters:
            raise KeyError(f"{name!r} is not tracked: call run.track({name}=...) before resume()")
        self._adapters[name].value = value

    def __delitem__(self, name):
        raise TypeError("what a run tracks stays tracked")

    def __iter__(self):
        return iter(self._adapters)

    def __len__(self):
        return len(self._adapters)

    def __repr__(self):
        return f"Values({ {name: one.value for name, one in self._adapters.items()} })"
