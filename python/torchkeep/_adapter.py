# SPDX-License-Identifier: BSD-3-Clause
"""What an adapter is: how one kind of object is captured and restored.

An adapter has `capture()`, its state now (tensors may look at live memory), and `prepare(state)`, which checks a saved
state without changing anything and returns the function that puts it in. `checks` is False where only that function can
tell whether the state fits.

Where `in_place` is true, `prepare()` gets the state with its tensors on the device "meta", and returns the live tensors
that are to be filled, in dicts as in the state, and the function that is called with the state when they are.

`watched()` gives the tensors that show a write to them by their version counters and change only behind the gate of an
optimizer, and those that change elsewhere. An optimizer's adapter is `gated`.
"""
import sys

from ._errors import Error


def torch_module():
    return sys.modules.get("torch")


def mismatch(message):
    return Error(message, "mismatch")


def describe(value):
    torch = torch_module()
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def listed(problems, limit=20):
    more = f"; and {len(problems) - limit} more" if len(problems) > limit else ""
    return "; ".join(problems[:limit]) + more


class Adapter:
    """What is true of most of them."""

    checks = True
    in_place = False
    gated = False

    def watched(self):
        return (), ()
