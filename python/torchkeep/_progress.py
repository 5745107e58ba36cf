# SPDX-License-Identifier: BSD-3-Clause
"""A progress bar for long saves and loads: tqdm where it is installed, a line of the same look where it is not."""
import contextlib
import os
import sys
import time

from ._errors import printable


@contextlib.contextmanager
def bar(wanted, verb, path):
    """Yields a function (bytes done, bytes in all), or None when no bar is wanted. `wanted` may be that function."""
    if not wanted:
        yield None
    elif callable(wanted):
        yield wanted
    else:
        label = f"{verb} {printable(os.path.basename(os.fsdecode(path)))}"
        with _tqdm_bar(label) or _plain_bar(label) as move:
            yield move


def _tqdm_bar(label):
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None

    @contextlib.contextmanager
    def show():
        with tqdm(desc=label, unit="B", unit_scale=True) as line:
            def move(done, total):
                line.total = max(done, total) or None
                line.update(done - line.n)

            yield move

    return show()


@contextlib.contextmanager
def _plain_bar(label):
    begin = time.monotonic()

    def move(done, total):
        total = max(done, total, 1)
        filled = 20 * done // total
        rate = done / max(time.monotonic() - begin, 1e-9)
        sys.stderr.write(f"\r{label}: {100 * done // total:3d}%|{'█' * filled}{' ' * (20 - filled)}| "
                         f"{done / 1e6:.0f}M/{total / 1e6:.0f}M [{rate / 1e6:.0f}MB/s]")
        sys.stderr.flush()

    try:
        yield move
    finally:
        sys.stderr.write("\n")
