# SPDX-License-Identifier: BSD-3-Clause
"""Progress for people: a live line on a terminal, a plain line now and then in a pipe."""
import sys
import time


class Progress:
    def __init__(self, steps, stream=sys.stdout):
        self._steps = steps
        self._stream = stream
        self._live = stream.isatty()
        self._line = ""
        self._drawn = 0.0
        self._next_plain = 0

    def say(self, text=""):
        """One line that stays."""
        self._stream.write(("\r\033[K" if self._line else "") + text + "\n")
        self._line = ""
        self._stream.flush()

    def step(self, title, step, loss):
        if self._live:
            if time.monotonic() - self._drawn < 0.1 and step < self._steps:
                return
            self._drawn = time.monotonic()
            full = 30 * step // self._steps
            self._line = f"    {title:<24} {'█' * full}{'░' * (30 - full)} {step:4}/{self._steps}  loss {loss:.3f}"
            self._stream.write(f"\r\033[K{self._line}")
            self._stream.flush()
        elif step >= self._next_plain or step == self._steps:
            self.say(f"    {title:<24} step {step:4} of {self._steps}  loss {loss:.3f}")
            self._next_plain = step + max(1, self._steps // 8)

    def begin(self, text):
        """Starts a run."""
        self._next_plain = 0
        self.say(text)

    def end(self):
        """Keeps the live line."""
        if self._line:
            self._stream.write("\n")
            self._line = ""
            self._stream.flush()
