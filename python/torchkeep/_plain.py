# SPDX-License-Identifier: BSD-3-Clause
"""What stands in a file for values that are not plain data: NumPy's, enums, deques, named tuples, generators. Numbers and
strings of subclasses become Python's own; objects without methods for pickling, of one package that is named, become what
they hold. Everything else is an error that names the place."""
import collections
import enum
import io
import pathlib
import random
import sys

from ._adapter import torch_module
from ._errors import Error

TYPE = "torchkeep.type"
_LEAVES = (type(None), bool, int, float, complex, str, bytes, bytearray)


def plain(value, package=None):
    """The value with plain data and tensors only; itself where it is that already. Objects of classes of `package` become
    what they hold. Another object is left as it is: who saves it says what to do with it."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind in (dict, collections.OrderedDict, collections.Counter):
        parts = {key: plain(part, package) for key, part in value.items()}
        if all(parts[key] is part for key, part in value.items()) and all(type(key) in _KEYS for key in value):
            return value
        made = collections.OrderedDict() if kind is collections.OrderedDict else {}
        for key, part in parts.items():
            made[plain(as_number(key), package)] = part
        if getattr(value, "_metadata", None) is not None:
            made._metadata = value._metadata
        return made
    if kind in (list, tuple):
        parts = [plain(part, package) for part in value]
        return value if all(a is b for a, b in zip(parts, value)) else kind(parts)
    torch = torch_module()
    if torch is not None and isinstance(value, (torch.Tensor, torch.dtype, torch.device, torch.Size)):
        return _uninitialized(value) if isinstance(value, torch.Tensor) and torch.nn.parameter.is_lazy(value) else value
    return _tagged(value, package)


def _uninitialized(tensor):
    """Of a lazy module before its first call."""
    kind = "parameter" if isinstance(tensor, torch_module().nn.Parameter) else "buffer"
    return {TYPE: "uninitialized", "kind": kind, "dtype": tensor.dtype}


_KEYS = (str, int, bool, float, tuple, type(None), bytes)


def _tagged(value, package):
    if isinstance(value, enum.Enum):
        return {TYPE: "enum", "class": _class_path(type(value)), "name": value.name}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.generic):
            return _scalar(value)
        if isinstance(value, numpy.ndarray):
            return _array(value)
        if isinstance(value, numpy.random.RandomState):
            return {TYPE: "numpy.RandomState", "state": plain(value.get_state(legacy=False))}
        if isinstance(value, numpy.random.Generator):
            return {TYPE: "numpy.Generator", "state": plain(value.bit_generator.state)}
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return {TYPE: "random.Random", "state": value.getstate()}
    if isinstance(value, collections.deque):
        return {TYPE: "deque", "maxlen": value.maxlen, "items": [plain(part, package) for part in value]}
    if isinstance(value, collections.defaultdict):
        return _defaultdict(value, package)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {TYPE: "namedtuple", "class": _class_path(type(value)), "items": [plain(part, package) for part in value]}
    if isinstance(value, io.BytesIO):
        return {TYPE: "BytesIO", "value": value.getvalue(), "position": value.tell()}
    if isinstance(value, pathlib.PurePath):
        return {TYPE: "path", "value": str(value)}
    if isinstance(value, frozenset):
        return {TYPE: "frozenset", "items": [plain(part, package) for part in value]}
    if isinstance(value, (range, slice)):
        return {TYPE: type(value).__name__, "items": [value.start, value.stop, value.step]}
    torch = torch_module()
    if torch is not None and isinstance(value, torch.Generator):
        return {TYPE: "torch.Generator", "state": value.get_state()}
    for kind in (int, float, str, bytes):  # of a subclass: torch's version, an option's own class
        if isinstance(value, kind):
            return kind(value)
    if package is not None and _is_holder(type(value), package):
        return {TYPE: "object", "class": _class_path(type(value)), "state": plain(vars(value), package)}
    return value


def _is_holder(kind, package):
    """Whether an object of this class is no more than its attributes: it can be made from them, and no code is run."""
    own = [name for base in kind.__mro__[:-1] for name in vars(base)]
    return (kind.__module__.partition(".")[0] == package and kind.__mro__[-1] is object and "__slots__" not in own
            and not any(base.__module__ == "builtins" for base in kind.__mro__[:-1]) and type(kind) is type
            and not {"__del__", "__new__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"} & set(own))


def as_number(value):
    """A number of NumPy's as Python's; anything else as it is."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic):
        return value
    number = value.item()
    return number if type(number) in _LEAVES and number == value or number != number else value


def _scalar(value):
    """float64 and int64 are Python's numbers; those of another width count and round in another way."""
    number = as_number(value)
    if number is value or value.dtype.kind in "SU" or value.dtype.str[1:] in ("f8", "i8", "c16"):
        return number
    if type(value) is not sys.modules["numpy"].dtype(value.dtype.str).type:  # of another package's
        return value
    return {TYPE: "number", "dtype": value.dtype.str, "value": number}


def _array(array):
    torch = torch_module()
    try:
        return {TYPE: "ndarray", "value": torch.from_numpy(array if array.flags.writeable else array.copy())}
    except (TypeError, ValueError, AttributeError):
        if array.dtype.kind in "US":
            return {TYPE: "ndarray", "dtype": array.dtype.str, "value": array.tolist()}
    return array


_FACTORIES = {None: None, list: "list", dict: "dict", set: "set", int: "int", float: "float", str: "str"}


def _defaultdict(value, package):
    factory = value.default_factory
    if factory is not None and factory not in _FACTORIES:
        return value
    return {TYPE: "defaultdict", "factory": _FACTORIES[factory],
            "items": [[plain(key, package), plain(part, package)] for key, part in value.items()]}


def _class_path(kind):
    path = f"{kind.__module__}:{kind.__qualname__}"
    if _imported(path, object, optional=True) is not kind:
        raise Error(f"a value of {path.replace(':', '.')} cannot be saved: no program could find the class again by that "
                    "name; define it at the top of a module", "unsupported")
    return path


# ---- back

def restored(value, package=None):
    """What plain() was given. Nothing is imported and no code of a file is run: a class is found only where the program
    has imported it, and only an enum, a named tuple, or one of `package` whose objects are no more than their attributes."""
    kind = type(value)
    if isinstance(value, dict):
        if TYPE in value:
            return _untagged(value, package)
        if kind in (dict, collections.OrderedDict, collections.Counter):
            parts = {key: restored(part, package) for key, part in value.items()}
            if all(parts[key] is part for key, part in value.items()):
                return value
            made = value.copy()
            if getattr(value, "_metadata", None) is not None:
                made._metadata = value._metadata
            made.update(parts)
            return made
    if kind in (list, tuple):
        parts = [restored(part, package) for part in value]
        return value if all(a is b for a, b in zip(parts, value)) else kind(parts)
    return value


def _untagged(value, package):
    make = _MAKERS.get(value[TYPE])
    if make is None:
        raise Error(f"a value of type {value[TYPE]!r}, which this version of torchkeep does not know", "unsupported")
    return make(value, package)


def _imported(path, base, optional=False):
    module, _, names = path.partition(":")
    found = sys.modules.get(module)
    for name in names.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    if not optional and not (isinstance(found, type) and issubclass(found, base)):
        raise Error(f"the file has a value of {path.replace(':', '.')}, which this program has not imported (or which is no "
                    f"{base.__name__} here); import it before the state is loaded", "mismatch")
    return found


def _enum(value, package):
    kind = _imported(value["class"], enum.Enum)
    if value["name"] in kind.__members__:
        return kind.__members__[value["name"]]
    if issubclass(kind, enum.Flag):  # a combination of flags: "A|B"
        made = kind(0)
        for name in (value["name"] or "").split("|"):
            made |= kind.__members__[name] if name in kind.__members__ else kind(0)
        return made
    raise Error(f"{value['class'].replace(':', '.')} has no member {value['name']!r}", "mismatch")


def _namedtuple(value, package):
    kind, items = _imported(value["class"], tuple), value["items"]
    if len(getattr(kind, "_fields", ())) != len(items):
        raise Error(f"{value['class'].replace(':', '.')} has other fields here than in the file", "mismatch")
    return tuple.__new__(kind, [restored(part, package) for part in items])


def _ndarray(value, package):
    import numpy

    if isinstance(value["value"], list):
        return numpy.array(value["value"], dtype=value["dtype"])
    return value["value"].numpy().copy()


def _number(value, package):
    import numpy

    kind = numpy.dtype(value["dtype"])
    if kind.kind not in "biufc":
        raise Error(f"a number of type {value['dtype']!r}", "unsupported")
    return kind.type(value["value"])


def _numpy_random_state(value, package):
    import numpy

    made = numpy.random.RandomState()
    made.set_state(restored(value["state"], package))
    return made


def _numpy_generator(value, package):
    import numpy

    name = value["state"]["bit_generator"]
    if name not in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"):
        raise Error(f"a NumPy generator of kind {name!r}", "unsupported")
    made = numpy.random.Generator(getattr(numpy.random, name)())
    made.bit_generator.state = restored(value["state"], package)
    return made


def _lazy(value, package):
    parameter = torch_module().nn.parameter
    if value["kind"] == "buffer":
        return parameter.UninitializedBuffer(dtype=value["dtype"])
    return parameter.UninitializedParameter(dtype=value["dtype"])


def _python_random(value, package):
    made = random.Random()
    made.setstate(value["state"])
    return made


def _torch_generator(value, package):
    made = torch_module().Generator()
    made.set_state(value["state"])
    return made


def _bytes_io(value, package):
    made = io.BytesIO(value["value"])
    made.seek(value["position"])
    return made


def _default_dict(value, package):
    factories = {name: kind for kind, name in _FACTORIES.items()}
    return collections.defaultdict(factories[value["factory"]],
                                   [(restored(key, package), restored(part, package)) for key, part in value["items"]])


def _object(value, package):
    kind = _imported(value["class"], object)
    if package is None or not _is_holder(kind, package):
        raise Error(f"the file has an object of {value['class'].replace(':', '.')}, which cannot be made from its attributes "
                    "alone here", "refused")
    made = object.__new__(kind)
    vars(made).update(restored(value["state"], package))
    return made


_MAKERS = {
    "object": _object,
    "enum": _enum, "namedtuple": _namedtuple, "ndarray": _ndarray, "number": _number, "numpy.RandomState": _numpy_random_state,
    "numpy.Generator": _numpy_generator, "random.Random": _python_random, "torch.Generator": _torch_generator,
    "BytesIO": _bytes_io, "uninitialized": _lazy, "defaultdict": _default_dict,
    "deque": lambda value, package: collections.deque([restored(part, package) for part in value["items"]], value["maxlen"]),
    "path": lambda value, package: pathlib.Path(value["value"]),
    "frozenset": lambda value, package: frozenset(restored(value["items"], package)),
    "range": lambda value, package: range(*value["items"]), "slice": lambda value, package: slice(*value["items"]),
}
