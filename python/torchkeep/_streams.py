# SPDX-License-Identifier: BSD-3-Clause
"""File objects in place of paths: read to their end, written whole or not silently."""
import io
import os

from ._errors import InvalidArgumentError, SystemFailure


def is_path(place):
    """A path is a path, also where it has methods called read and write (py.path.local)."""
    return isinstance(place, (str, bytes, os.PathLike))


def name_of(place):
    """What a message calls it."""
    if is_path(place):
        return os.fsdecode(place)
    name = getattr(place, "name", None)
    return name if isinstance(name, str) and name else f"<{type(place).__name__}>"


def source(place):
    """What the core reads: a path as it is, or the name and the bytes of a file object, from where it stands."""
    if is_path(place) or not hasattr(place, "read"):
        return place
    _refuse_text(place, "rb")
    blocks = []
    while block := _read(place):
        blocks.append(block)
    return name_of(place), blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _read(file):
    block = file.read()
    if block is None:
        _fail(SystemFailure, "io", file, "read() gave nothing yet: the file object does not wait for its bytes; make it "
                                         "blocking")
    if not isinstance(block, (bytes, bytearray, memoryview)):
        _fail(InvalidArgumentError, "invalid_argument", file, "expected read() to give bytes, found "
                                                              f"{type(block).__name__}")
    return bytes(block)


def _fail(error, code, file, message):
    raise error(message, code, file=name_of(file), text=f"{name_of(file)}: {message}")


def _refuse_text(file, mode):
    if isinstance(file, io.TextIOBase):
        _fail(InvalidArgumentError, "invalid_argument", file,
              f"expected a file object for bytes, found one for characters; open it with mode '{mode}'")


class Writer:
    """Writes every byte to a file object or raises."""

    def __init__(self, file):
        _refuse_text(file, "wb")
        self._file = file

    def __call__(self, block):
        """A raw file may take a part of the bytes only, as on a disk that is nearly full: it is asked again for the rest."""
        rest = memoryview(block)
        while rest:
            before = self._position()
            taken = self._file.write(rest)
            rest = rest[self._checked(taken, before, len(rest)):]

    def flush(self):
        if hasattr(self._file, "flush"):
            self._file.flush()

    def _checked(self, taken, before, asked):
        if taken is None and before is not None and not isinstance(self._file, io.RawIOBase):
            taken = self._position() - before  # of one that counts, but does not say so
        if isinstance(taken, int) and 0 < taken <= asked:
            return taken
        found = "None" if taken is None else repr(taken)
        _fail(SystemFailure, "io", self._file, f"expected write() to take {asked} bytes and say how many it took, found "
                                               f"{found}: what was saved is not complete")

    def _position(self):
        try:
            return self._file.tell()
        except (AttributeError, OSError):
            return None
