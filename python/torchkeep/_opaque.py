# SPDX-License-Identifier: BSD-3-Clause
"""Objects in a file whose class torchkeep does not know, and those of Python's own data classes."""
import argparse
import collections
import datetime
import decimal
import fractions
import pathlib
import types
import uuid

_MAX_SHOWN = 60  # characters of the parts, in a repr


class Opaque:
    """An object of a class that torchkeep does not know: what the file says about it, to look at. Nothing is called.

    Python's pickle would make the object as `class_name(*args, **kwargs)`, and then give it its state and items.

    Attributes:
        class_name: "package.module.Class"; of a persistent object, "".
        kind: "object"; "name" for a class or function itself (a hyperparameter `activation=torch.nn.ReLU`, a member of
            an Enum that was saved by its name: "my.Color.RED"); "persistent" for an id that only the writing program
            knows.
        args: what it was made from. A member of an Enum has its value here: `(2,)`.
        kwargs: a dict, or None.
        state: what `__setstate__` would get, often the dict of its attributes; None when there is none.
        list_items: the elements of a subclass of list.
        dict_items: the entries of a subclass of dict.
    """

    __slots__ = ("class_name", "kind", "args", "kwargs", "state", "list_items", "dict_items")

    def __init__(self, class_name, kind="object", args=None, kwargs=None, state=None, list_items=(), dict_items=None):
        self.class_name = class_name
        self.kind = kind
        self.args = args
        self.kwargs = kwargs
        self.state = state
        self.list_items = list(list_items)
        self.dict_items = {} if dict_items is None else dict_items

    def __eq__(self, other):
        if self.kind == "name" and isinstance(other, Opaque):
            return other.kind == "name" and other.class_name == self.class_name
        return self is other

    def __hash__(self):
        return hash(self.class_name) if self.kind == "name" else id(self)

    def __repr__(self):
        if self.kind == "name":
            return f"<torchkeep.Opaque: the name {self.class_name}>"
        if self.kind == "persistent":
            return "<torchkeep.Opaque: an object of the program that saved it>"
        return f"<torchkeep.Opaque: an object of {self.class_name}{self._content()}>"

    def _content(self):
        """Its parts, as long as they are short and no containers of containers."""
        def is_plain(value):
            if isinstance(value, (str, bytes)):
                return len(value) <= _MAX_SHOWN
            return value is None or isinstance(value, (float, bool)) or isinstance(value, int) and value.bit_length() < 200

        if self.args and len(self.args) <= 4 and all(map(is_plain, self.args)) and not self.state:
            text = ", ".join(map(repr, self.args))
            return f" made from ({text})" if len(text) <= _MAX_SHOWN else ""
        names = self.state if isinstance(self.state, dict) else self.dict_items
        text = ", ".join(name[:_MAX_SHOWN] for name in list(names)[:5] if isinstance(name, str))
        more = ", ..." if len(names) > 5 else ""
        return f" with {text}{more}" if text and len(text) <= _MAX_SHOWN else ""

    def __reduce__(self):
        return Opaque, (self.class_name, self.kind, self.args, self.kwargs, self.state, self.list_items, self.dict_items)

    def parts(self):
        """(name, part) of its parts: "args", "kwargs", "state", then list items by index and dict items by key."""
        yield from (("args", self.args), ("kwargs", self.kwargs), ("state", self.state))
        yield from enumerate(self.list_items)
        yield from self.dict_items.items()


_FACTORIES = {f"builtins.{one.__name__}": one
              for one in (bool, bytes, complex, dict, float, frozenset, int, list, object, set, str, tuple)}


def _uuid(args, state, items, entries):
    return uuid.UUID(int=state["int"], is_safe=uuid.SafeUUID(state.get("is_safe")))


def _default_dict(args, state, items, entries):
    factory = _FACTORIES[args[0].class_name.replace("__builtin__", "builtins")]
    return collections.defaultdict(factory, entries)


def _deque(args, state, items, entries):
    return collections.deque(items, *args[1:])


def _of(make):
    return lambda args, state, items, entries: make(*args)


_PATHS = {"PurePosixPath": pathlib.PurePosixPath, "PureWindowsPath": pathlib.PureWindowsPath,
          "PosixPath": pathlib.Path if isinstance(pathlib.Path(), pathlib.PosixPath) else pathlib.PurePosixPath,
          "WindowsPath": pathlib.Path if isinstance(pathlib.Path(), pathlib.WindowsPath) else pathlib.PureWindowsPath}

# Classes whose repr says all of it in bounded time.
REPRESENTED = {type(pathlib.Path()), pathlib.PurePosixPath, pathlib.PureWindowsPath, datetime.date, datetime.datetime,
               datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal, fractions.Fraction, uuid.UUID}


def is_namespace(value):
    """Whether it is an object with attributes that stands for data."""
    return type(value) in _NAMESPACES.values()


# What stands for each of Python's own classes in the table of the core (data_class.h). The core has checked the parts.
_MAKERS = {
    "builtins.range": _of(range), "builtins.slice": _of(slice), "builtins.xrange": _of(range),
    "collections.defaultdict": _default_dict, "collections.deque": _deque,
    "datetime.date": _of(datetime.date), "datetime.datetime": _of(datetime.datetime), "datetime.time": _of(datetime.time),
    "datetime.timedelta": _of(datetime.timedelta), "datetime.timezone": _of(datetime.timezone),
    "decimal.Decimal": _of(decimal.Decimal), "fractions.Fraction": _of(fractions.Fraction), "uuid.UUID": _uuid,
    **{f"pathlib.{name}": _of(path) for name, path in _PATHS.items()},
}
_NAMESPACES = {"argparse.Namespace": argparse.Namespace, "types.SimpleNamespace": types.SimpleNamespace}


def begin(class_name, kind, is_builtin):
    """The object, empty, where its parts can be given to it later; else None."""
    if not is_builtin:
        return Opaque(class_name, kind)
    return _NAMESPACES[class_name]() if class_name in _NAMESPACES else None


def finish(made, class_name, kind, parts, list_count):
    """The object with its parts: args, kwargs, state, the list items, and keys and values of the dict items."""
    args, kwargs, state = parts[:3]
    items = list(parts[3:3 + list_count])
    rest = parts[3 + list_count:]
    entries = dict(zip(rest[::2], rest[1::2]))
    if is_namespace(made):
        vars(made).update(state or {})
        return made
    if made is None:
        try:
            return _MAKERS[class_name](args, state, items, entries)
        except Exception:  # what only the class itself can tell is wrong, as a year of 10,000 in another calendar
            made = Opaque(class_name, kind)
    made.args, made.kwargs, made.state, made.list_items, made.dict_items = args, kwargs, state, items, entries
    return made
