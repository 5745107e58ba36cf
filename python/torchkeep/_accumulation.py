# SPDX-License-Identifier: BSD-3-Clause
"""Notices gradients that an optimizer uses after a finish_step() that was before it in the accumulation: without
gradients=True a run that is resumed there lacks them."""
import threading
import weakref


class Accumulation:
    """The gradients that were alive, and not used yet, when a step was finished.

    Only those of optimizers that make their steps in the thread that calls finish_step(): PyTorch sets `.grad` without the
    GIL, so reading it beside a backward pass in another thread would be a race on freed memory."""

    def __init__(self):
        self._waiting = {}  # by the optimizer's name: a reference to one of its gradients
        self._stepped = set()  # optimizers, since the last finish_step()
        self._threads = {}  # by the optimizer's name: those that its steps were made in

    def carried(self, name, optimizer):
        """Called before a step of an optimizer; True when it uses gradients of before the last finish_step()."""
        self._stepped.add(name)
        self._threads.setdefault(name, set()).add(threading.get_ident())
        waiting = self._waiting.pop(name, None)
        gradient = None if waiting is None else waiting()
        return gradient is not None and any(gradient is one for one in _gradients(optimizer))

    def finish(self, optimizers):
        """Called by finish_step() with the tracked optimizers by name."""
        for name, optimizer in optimizers.items():
            if name in self._stepped or self._threads.get(name) != {threading.get_ident()}:
                continue
            gradient = next(_gradients(optimizer), None)
            if gradient is not None:
                self._waiting[name] = weakref.ref(gradient)
        self._stepped.clear()


def _gradients(optimizer):
    return (parameter.grad for group in optimizer.param_groups for parameter in group["params"]
            if parameter.grad is not None)
