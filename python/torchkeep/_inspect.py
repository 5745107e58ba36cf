# SPDX-License-Identifier: BSD-3-Clause
"""Looking into a checkpoint: its structure is read, its tensors stay in the file. Needs no PyTorch."""
import collections
import collections.abc
import html
import itertools
import os

from . import _core
from ._errors import printable
from ._opaque import REPRESENTED, Opaque, is_namespace
from ._streams import name_of, source

_MAX_ENTRIES = 12  # of one container, in a repr
_MAX_LINE = 200  # characters of an object in it
_MAX_TEXT = 60  # characters of one value in it
_MAX_KEY = 1000  # characters of one key in a path
_MAX_DEPTH = 1000  # steps of a path; a deeper one shows
_MAX_STEPS = 32  # the last of them
_UNITS = ("B", "KB", "MB", "GB", "TB")


def _size(nbytes):
    number, unit = float(nbytes), 0
    while number >= 1000 and unit + 1 < len(_UNITS):
        number, unit = number / 1000, unit + 1
    return f"{nbytes} B" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


class Named(str):
    """A dtype or a device, by its name."""

    __slots__ = ()

    def __repr__(self):
        return str(self)


class ObjectInfo:
    """A sparse or nested tensor: what it is, and the tensors it is made of."""

    __slots__ = ("name", "parts")

    def __init__(self, name, parts):
        self.name = name
        self.parts = parts

    def __repr__(self):
        return f"<{_legible(self.name)}>"


class TensorInfo:
    """A tensor in a file: everything about it but its elements, which numpy() reads."""

    __slots__ = ("dtype", "shape", "strides", "offset", "nbytes", "device", "requires_grad", "is_parameter", "storage",
                 "_stored")

    def __init__(self, dtype, shape, strides, offset, nbytes, device, requires_grad, is_parameter, storage, stored):
        self.dtype = dtype  #: PyTorch's name: "float32"
        self.shape = shape
        self.strides = strides  #: in elements
        self.offset = offset  #: of the first element in the storage, in elements
        self.nbytes = nbytes  #: of the elements
        self.device = device  #: where it was: "cpu", "cuda:0"
        self.requires_grad = requires_grad
        self.is_parameter = is_parameter
        self.storage = storage  #: equal numbers: the same memory
        self._stored = stored

    def tobytes(self):
        """The elements in row-major order, little-endian; the record's checksum is verified."""
        return self._stored.contiguous_bytes()

    def numpy(self):
        """The elements as a NumPy array. bfloat16 becomes float32, exactly; other dtypes that NumPy lacks are refused."""
        import numpy

        data = self.tobytes()
        if self.dtype == "bfloat16":
            array = (numpy.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            try:
                array = numpy.frombuffer(data, numpy.dtype(self.dtype).newbyteorder("<"))
            except TypeError:
                raise TypeError(f"NumPy has no {self.dtype}; tobytes() gives the bits") from None
        return array.reshape(self.shape)

    def __repr__(self):
        kind = "Parameter" if self.is_parameter else "Tensor"
        device = "" if self.device == "cpu" else f" {self.device}"
        return f"{kind} {self.dtype} {list(self.shape)}{_legible(device)}"


def _cut(text, limit):
    return text if len(text) <= limit else text[:limit - 3] + "..."


def _legible(text, limit=_MAX_TEXT):
    """The start of a string, on one line and fit for any stream."""
    text = printable(_cut(text[:limit + 1], limit))
    return text if text.isprintable() else repr(text)[1:-1]


def _plain(value):
    """The repr of a value that holds no others, cut: of a long one, only the start is looked at. None for others."""
    if isinstance(value, Named):
        return _legible(value)
    if isinstance(value, (str, bytes, bytearray)):
        return _cut(repr(value[:_MAX_TEXT]), _MAX_TEXT)
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"int of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float, complex, TensorInfo, ObjectInfo)):
        return _cut(repr(value), _MAX_TEXT)
    return None


def _inline(value):
    """A short tuple, list or set of plain values on one line; None when it is not."""
    if not isinstance(value, (list, tuple, set, frozenset)) or len(value) > 6:
        return None
    parts = [_plain(part) for part in value]
    if None in parts or any(isinstance(part, (TensorInfo, ObjectInfo)) for part in value):
        return None
    text = ", ".join(parts)
    if isinstance(value, list):
        return f"[{text}]"
    if isinstance(value, tuple):
        return f"({text},)" if len(parts) == 1 else f"({text})"
    return f"{type(value).__name__}({{{text}}})" if parts else f"{type(value).__name__}()"


def _one_line(value):
    if isinstance(value, Opaque):
        return _legible(repr(value), _MAX_LINE)
    text = _plain(value) or _inline(value)
    if text is not None:
        return text
    if is_namespace(value):
        return f"{type(value).__name__} of {len(vars(value))}"
    if type(value) in REPRESENTED:
        return _legible(repr(value))
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else _legible(type(value).__name__)


def _parts(value):
    """(how many there are, an iterable of steps and parts) of what is inside."""
    if isinstance(value, collections.abc.Mapping):
        return len(value), value.items()
    if isinstance(value, (list, tuple, collections.deque)):
        return len(value), enumerate(value)
    if isinstance(value, Opaque):
        parts = [(step, part) for step, part in value.parts() if part is not None]
        return len(parts), parts
    return (len(vars(value)), vars(value).items()) if is_namespace(value) else (0, ())


def _children(value):
    """(how many there are, an iterator over keys and values) of what is shown on lines of its own."""
    if isinstance(value, (list, tuple)) and _inline(value) is not None:
        return 0, iter(())
    count, parts = _parts(value)
    return count, iter(parts)


def _key_text(key, limit=_MAX_KEY):
    """A key as a step of a path: a str as it is, another as its repr."""
    return _cut(key, limit) if isinstance(key, str) else _one_line(key)


def _path_text(place):
    """The steps (parent, key, depth) from the root, joined by dots; of more than a thousand the last ones."""
    if place is None:
        return ""
    shortened = place[2] > _MAX_DEPTH
    steps = []
    while place is not None and not (shortened and len(steps) == _MAX_STEPS):
        steps.append(_key_text(place[1]))
        place = place[0]
    return ("...." if shortened else "") + ".".join(reversed(steps))


class Checkpoint(collections.abc.Mapping):
    """What is in a checkpoint file, as a mapping; `print` shows it as a tree. Made by `torchkeep.inspect`."""

    def __init__(self, path):
        self.path = name_of(path)
        self._source = source(path)
        #: Plain Python data with a TensorInfo for every tensor.
        self.content = _core.look(self._source)

    def _mapping(self):
        if not isinstance(self.content, collections.abc.Mapping):
            raise TypeError(f"{self.path} holds a {type(self.content).__name__}; see .content")
        return self.content

    def __getitem__(self, key):
        return self._mapping()[key]

    def __iter__(self):
        return iter(self._mapping())

    def __len__(self):
        return len(self._mapping())

    def verify(self):
        """Reads every byte of the file and checks all that load() checks. Raises torchkeep.Error."""
        _core.verify(self._source, None)

    def tensors(self):
        """Every tensor with its key path, in order; what is in a shared container, once."""
        stack, seen = [(None, self.content)], set()
        while stack:
            place, value = stack.pop()
            if isinstance(value, TensorInfo):
                yield _path_text(place), value
            count, children = _parts(value)
            if count == 0 or id(value) in seen:
                continue
            seen.add(id(value))
            depth = 1 if place is None else place[2] + 1
            stack.extend(reversed([((place, key, depth), child) for key, child in children]))

    def _total(self):
        storages, nbytes = set(), 0
        count = 0
        for _, tensor in self.tensors():
            count += 1
            if tensor.storage not in storages:
                storages.add(tensor.storage)
                nbytes += tensor.nbytes
        return f"{_legible(os.path.basename(self.path), 260)}: {count} tensor{'s' * (count != 1)}, {_size(nbytes)}"

    def _lines(self):
        """(depth, key, text) of the shown entries."""
        seen = set()

        def shown(value, depth):
            if depth > 3:
                return
            if id(value) in seen:
                yield depth, "...", "shown above"
                return
            seen.add(id(value))
            count, children = _children(value)
            for key, child in itertools.islice(children, _MAX_ENTRIES):
                yield depth, _legible(_key_text(key, _MAX_TEXT)), _one_line(child)
                if _children(child)[0]:
                    yield from shown(child, depth + 1)
            if count > _MAX_ENTRIES:
                yield depth, "...", f"{count - _MAX_ENTRIES} more"

        if not _children(self.content)[0]:
            yield 0, "", _one_line(self.content)
        yield from shown(self.content, 0)

    def __repr__(self):
        lines = [self._total()]
        lines += [f"{'  ' * (depth + 1)}{key}: {text}" if key else f"  {text}" for depth, key, text in self._lines()]
        return "\n".join(lines)

    def _repr_html_(self):
        rows = "".join(
            f'<tr><td style="text-align:left;padding-left:{depth * 1.5 + 0.5}em">{html.escape(key)}</td>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>' for depth, key, text in self._lines())
        return f"<b>{html.escape(self._total())}</b><table>{rows}</table>"


def inspect(path):
    """Reads the structure of a checkpoint (a path or a file object) without its tensors, and without PyTorch.

    Objects of classes that torchkeep does not know are shown, never made. Raises torchkeep.Error.
    """
    return Checkpoint(path)


def verify(path, *, progress=False):
    """Checks every byte of a checkpoint in little memory, as `torchkeep verify` does: more than load() checks, so that
    what load() refuses never passes. Raises torchkeep.Error."""
    from ._progress import bar

    with bar(progress, "verifying", path) as move:
        _core.verify(source(path), move)
