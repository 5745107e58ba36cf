# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM, SIGINT and SIGUSR1 as requests to stop."""
import os
import signal
import threading

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignals:
    """While installed, the three signals call `request(number)`; handlers that were there before are called too. A
    second SIGINT raises KeyboardInterrupt. A signal that was ignored stays ignored. A forked child gets the signals'
    earlier effect. Only the main thread can install handlers; elsewhere nothing happens."""

    def __init__(self, request):
        self._request = request
        self._owner = os.getpid()
        self._earlier = {}
        self._interrupts = 0
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            earlier = signal.getsignal(number)
            if earlier is signal.SIG_IGN or earlier is None:  # None: a handler that Python did not install
                continue
            self._earlier[number] = earlier
            signal.signal(number, self._handle)

    def _handle(self, number, frame):
        earlier = self._earlier.get(number, signal.SIG_DFL)
        if os.getpid() != self._owner:
            _give_up(number, frame, earlier)
            return
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
        self._request(int(number))
        if callable(earlier) and earlier is not signal.default_int_handler:
            earlier(number, frame)

    def remove(self):
        """Brings the earlier handlers back, unless somebody installed others meanwhile."""
        if os.getpid() != self._owner or threading.current_thread() is not threading.main_thread():
            return
        for number, earlier in self._earlier.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, earlier)
        self._earlier = {}


def _give_up(number, frame, earlier):
    """The signal's earlier effect, in a process that has no run."""
    if callable(earlier):
        earlier(number, frame)
    elif earlier is not signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
