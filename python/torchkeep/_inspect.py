# SPDX-License-Identifier: BSD-3-Clause
"""Looking into a checkpoint: its structure is read, its tensors stay in the file. Needs no PyTorch."""
import collections
import collections.abc
import html
import os

from . import _core
from ._opaque import Opaque, is_namespace

_MAX_ENTRIES = 12  # of one container, in a repr
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
        return f"<{self.name}>"


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
        return f"{kind} {self.dtype} {list(self.shape)}{device}"


def _one_line(value):
    if isinstance(value, (TensorInfo, ObjectInfo, Named, Opaque)):
        return repr(value)
    if is_namespace(value):
        return f"{type(value).__name__} of {len(vars(value))}"
    if isinstance(value, collections.abc.Mapping):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        plain = all(isinstance(part, (int, float, str, type(None))) for part in value)
        if plain and len(value) <= 6:
            return repr(value)
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _parts(value):
    """(step, part) of what is inside, or None for a leaf."""
    if isinstance(value, collections.abc.Mapping):
        return value.items()
    if isinstance(value, (list, tuple, collections.deque)):
        return enumerate(value)
    if isinstance(value, Opaque):
        return ((step, part) for step, part in value.parts() if part is not None)
    return vars(value).items() if is_namespace(value) else None


def _children(value):
    is_short = isinstance(value, (list, tuple, collections.deque)) and " of " not in _one_line(value)
    return [] if is_short else list(_parts(value) or ())


class Checkpoint(collections.abc.Mapping):
    """What is in a checkpoint file, as a mapping; `print` shows it as a tree. Made by `torchkeep.inspect`."""

    def __init__(self, path):
        self.path = os.fspath(path)
        #: Plain Python data with a TensorInfo for every tensor.
        self.content = _core.look(self.path)

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
        _core.verify(self.path, None)

    def tensors(self):
        """Every tensor with its key path, in order; what is in a shared container, once."""
        stack, seen = [("", self.content)], set()
        while stack:
            path, value = stack.pop()
            if isinstance(value, TensorInfo):
                yield path, value
            children = _parts(value)
            if children is None or id(value) in seen:
                continue
            seen.add(id(value))
            prefix = path + "." if path else ""
            stack.extend(reversed([(f"{prefix}{key}", child) for key, child in children]))

    def _total(self):
        storages, nbytes = set(), 0
        count = 0
        for _, tensor in self.tensors():
            count += 1
            if tensor.storage not in storages:
                storages.add(tensor.storage)
                nbytes += tensor.nbytes
        return f"{os.path.basename(self.path)}: {count} tensor{'s' * (count != 1)}, {_size(nbytes)}"

    def _lines(self):
        """(depth, key, text) of the shown entries."""
        def shown(value, depth, seen):
            if depth > 3 or id(value) in seen:
                return
            children = _children(value)
            for key, child in children[:_MAX_ENTRIES]:
                yield depth, str(key), _one_line(child)
                yield from shown(child, depth + 1, seen | {id(value)})
            if len(children) > _MAX_ENTRIES:
                yield depth, "...", f"{len(children) - _MAX_ENTRIES} more"

        if not _children(self.content):
            yield 0, "", _one_line(self.content)
        yield from shown(self.content, 0, frozenset())

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
    """Reads the structure of a checkpoint without its tensors, and without PyTorch.

    Objects of classes that torchkeep does not know are shown, never made. Raises torchkeep.Error.
    """
    return Checkpoint(path)


def verify(path, *, progress=False):
    """Checks every byte of a checkpoint in little memory, as `torchkeep verify` does: more than load() checks, so that
    what load() refuses never passes. Raises torchkeep.Error."""
    from ._progress import bar

    with bar(progress, "verifying", path) as move:
        _core.verify(os.fspath(path), move)
