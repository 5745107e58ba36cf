# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM, SIGINT and SIGUSR1 as requests to stop, for all runs that are open."""
import os
import signal
import threading

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

_open = []  # the StopSignals of the runs that are open, of any thread
_links = {number: [] for number in _SIGNALS}  # our handlers that are installed or in the chain of another, oldest first
_owner = os.getpid()  # the process whose runs these are
_interrupts = 0  # SIGINT since the first of them was opened


class StopSignals:
    """While it is open, the three signals call `request(number)`; handlers that were there before are called too. A
    second SIGINT raises KeyboardInterrupt. A signal that was ignored stays ignored. A forked child gets the signals'
    earlier effect. Only the main thread can install handlers; elsewhere nothing happens.

    When the last one is closed, the earlier handlers come back. One of ours that another handler was installed over
    stays in that one's chain, and from then on only hands the signal to the handler before it."""

    def __init__(self, request):
        global _interrupts, _owner
        self.request = request
        if _owner != os.getpid():  # a forked child: what it inherited is its parent's
            _open.clear()
            _owner = os.getpid()
        if not _open:
            _interrupts = 0
        if threading.current_thread() is threading.main_thread():
            _install()
        _open.append(self)

    def close(self):
        """From any thread; handlers that could not be removed there do nothing."""
        if self in _open:
            _open.remove(self)
        if not _open and os.getpid() == _owner and threading.current_thread() is threading.main_thread():
            _uninstall()


class _Link:
    """One handler of ours, and the one that was there before. Only the newest link of a signal acts: two may be in one
    chain, when somebody installed a handler between the opening of two runs."""

    def __init__(self, number, earlier):
        self.number = number
        self.earlier = earlier

    def __call__(self, number, frame):
        acts = os.getpid() == _owner and _open and _links[self.number][-1] is self
        if acts:
            _request_all(number)
        interrupts = self.earlier is signal.default_int_handler
        if callable(self.earlier) and not (acts and interrupts):
            self.earlier(number, frame)
        elif not acts and self.earlier == signal.SIG_DFL and signal.getsignal(number) is self:
            # Not in the chain of another, which has taken the signal over.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _request_all(number):
    global _interrupts
    if number == signal.SIGINT:
        _interrupts += 1
        if _interrupts > 1:
            raise KeyboardInterrupt
    for one in list(_open):
        one.request(int(number))


def _install():
    for number, links in _links.items():
        earlier = signal.getsignal(number)
        if earlier is signal.SIG_IGN or earlier is None:  # None: a handler that Python did not install
            continue
        if not links or earlier is not links[-1]:
            links.append(_Link(number, earlier))
            signal.signal(number, links[-1])


def _uninstall():
    for number, links in _links.items():
        while links and signal.getsignal(number) is links[-1]:
            signal.signal(number, links.pop().earlier)
