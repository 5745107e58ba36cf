# SPDX-License-Identifier: BSD-3-Clause
"""torchkeep.Error: what went wrong, and where. One class, and subclasses that are also the built-in exceptions people
already catch around torch.load."""
import pickle

_VARARGS = 4  # inspect.CO_VARARGS; that module takes long to import


def printable(text):
    """The text without lone surrogates, which no stream can write: those that stand for bytes of a path become "\\xNN",
    as the core shows them."""
    if text.isascii():
        return text
    return "".join(map(_shown, text)) if any("\ud800" <= one <= "\udfff" for one in text) else text


def _shown(one):
    if "\udc80" <= one <= "\udcff":
        return f"\\x{ord(one) - 0xdc00:02x}"
    return f"\\u{ord(one):04x}" if "\ud800" <= one <= "\udfff" else one


class Error(RuntimeError):
    """Raised by everything in torchkeep.

    Attributes:
        code: "not_found", "corrupt", "unsupported", "refused", "mismatch", "io", "busy" or "invalid_argument".
        message: what was expected, what was found, what to do; without the place.
        file: path of the file, or None.
        record: entry inside the file ("data.pkl", "data/3"), or None.
        offset: byte offset inside the record (or the file), or None.
        key: key path inside the value ("optimizer.state.0.exp_avg"), or None.
    """

    def __init__(self, message, code="invalid_argument", *, file=None, record=None, offset=None, key=None, text=None):
        message, text = printable(message), printable(text or message)
        super().__init__(text)
        self.code = code
        self.message = message
        self.file = file
        self.record = record
        self.offset = offset
        self.key = key
        self._text = text

    def __str__(self):
        return self._text

    def __reduce__(self):
        return _again, (type(self), self.message, self.code, self.file, self.record, self.offset, self.key, self._text)


class NotFoundError(Error, FileNotFoundError):
    """The file, key or checkpoint does not exist."""


class RefusedError(Error, pickle.UnpicklingError):
    """Not allowed for safety: a name that is not on the list, a limit exceeded."""


class SystemFailure(Error, OSError):
    """The operating system failed: a full disk, a missing permission, a device error. `errno` says which."""


class InvalidArgumentError(Error, ValueError):
    """An argument makes no sense."""


_CLASSES = {"not_found": NotFoundError, "refused": RefusedError, "io": SystemFailure,
            "invalid_argument": InvalidArgumentError}


def _again(cls, message, code, file, record, offset, key, text):
    return cls(message, code, file=file, record=record, offset=offset, key=key, text=text)


def make(code, message, file, record, offset, key, errno, text):
    """The exception for an error of the core."""
    error = _CLASSES.get(code, Error)(message, code, file=file, record=record, offset=offset, key=key, text=text)
    if errno and isinstance(error, OSError):
        error.errno = errno
    return error


def interruption(error):
    """The exception that ended a call and is no failure of it: KeyboardInterrupt and the like, or what a signal handler
    raised in the middle, also where the call made another one from that. None: the call failed."""
    if not isinstance(error, Exception):
        return error
    while error is not None and not _is_of_a_handler(error.__traceback__):
        error = error.__cause__
    return error


def _is_of_a_handler(trace):
    """Whether it leads through a signal handler: a function that is given a number and the frame which it interrupts."""
    while trace is not None:
        given = list(_arguments(trace.tb_frame))
        interrupted = trace.tb_frame.f_back
        if any(isinstance(number, int) and frame is interrupted is not None for number, frame in zip(given, given[1:])):
            return True
        trace = trace.tb_next
    return False


def _arguments(frame):
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & _VARARGS)
    for value in map(frame.f_locals.get, code.co_varnames[:count]):
        yield from value if isinstance(value, tuple) else (value,)
