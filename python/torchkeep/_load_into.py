# SPDX-License-Identifier: BSD-3-Clause
"""load_into: a file straight into live objects."""
import collections

from . import _core, _state
from ._errors import Error, InvalidArgumentError, NotFoundError
from ._progress import bar
from ._streams import name_of, source


def load_into(path, *, verify_first=False, progress=False, **objects):
    """Loads a checkpoint into live modules, optimizers and other objects, each by its name in the file:

        step = torchkeep.load_into("checkpoint.pt", model=model, optimizer=optimizer)["step"]

    An object `model=...` is filled from the entry "model" or "model_state_dict" (the only object also from a file that
    is nothing but its state). The bytes are read straight into the memory of parameters, buffers and existing optimizer
    state on the CPU: no second copy of the state is made. Everything is checked first: names, shapes and dtypes of all
    objects, and one torchkeep.Error (mismatch) lists what does not fit before anything is changed. Checksums are
    verified while the bytes are read.

    Args:
        path: the file, or a file object opened for binary reading.
        verify_first: check every byte of the file before the first byte of an object is changed: twice the reading.
            Without it a file that turns out to be damaged leaves the objects half loaded, and the error says so.
        progress: as in save().
        objects: what Run.track() takes.

    Returns:
        What else is in the file.

    Raises:
        torchkeep.Error: not_found, mismatch, corrupt, refused, unsupported, io.
    """
    if not objects:
        raise InvalidArgumentError("expected objects to load into: load_into(path, model=model, ...)")
    file_source, path = source(path), name_of(path)
    modules = []
    adapters = {name: _state.adapter_for(name, thing, modules, _ignore) for name, thing in objects.items()}
    modules += [(name, one.module) for name, one in adapters.items() if isinstance(one, _state.Module)]
    with bar(progress, "loading", path) as move:
        file = _core.OpenedCheckpoint(file_source, move)
        rest = _load(file, file.structure(), adapters, path, verify_first)
        file.end()
    return rest


def _load(file, structure, adapters, path, verify_first):
    keys = {name: _key_of(name, structure, adapters, path) for name in adapters}
    places, changes, problems = {}, {}, []

    def prepare(name, state):
        try:
            return adapters[name].prepare(state)
        except Error as error:
            problems.append(f"{name}: {error.message}")

    for name in [name for name, one in adapters.items() if one.in_place]:
        key = keys[name]
        places[name], changes[name] = prepare(name, structure if key is None else structure[key]) or (None, None)
    whole = None in keys.values()
    direct = {keys[name] for name in places}
    others = {} if whole else file.read([key for key in structure if key not in direct], None)
    for name in [name for name, one in adapters.items() if not one.in_place]:
        changes[name] = prepare(name, others.pop(keys[name]))
    if problems:
        message = f"the file does not fit, and nothing was changed: {'; '.join(problems)}"
        raise Error(message, "mismatch", file=path, text=f"{path}: {message}")
    if verify_first:
        file.verify()
    if whole:
        (name, targets), = places.items()
        filled = {None: file.read(None, targets)}
    else:
        filled = file.read(list(direct), {keys[name]: targets for name, targets in places.items()})
    for name, change in changes.items():
        change(filled[keys[name]]) if name in places else change()
    return others


def _ignore(message):
    """Where a run would warn, load_into takes the file's word."""


def _key_of(name, structure, adapters, path):
    """The object's entry; None: the whole file."""
    if isinstance(structure, collections.abc.Mapping):
        for key in (name, f"{name}_state_dict"):
            if key in structure:
                return key
    if len(adapters) == 1 and isinstance(adapters[name], (_state.Module, _state.Optimizer)):
        return None
    there = ", ".join(map(repr, structure)) if isinstance(structure, collections.abc.Mapping) else type(structure).__name__
    raise NotFoundError(f"no entry '{name}' or '{name}_state_dict'; there are: {there}", "not_found", file=path, key=name,
                        text=f"{path}: no entry '{name}' or '{name}_state_dict'; there are: {there}")
