# SPDX-License-Identifier: BSD-3-Clause
"""load_into: a file straight into live objects."""
import collections
import warnings

from . import _core, _state
from ._adapter import outside
from ._errors import Error, InvalidArgumentError, NotFoundError
from ._progress import bar
from ._streams import name_of, source


class LoadWarning(UserWarning):
    """Something was loaded, but not as it stands in the file, or by an assumption."""


def load_into(path, *, verify_first=False, progress=False, **objects):
    """Loads a checkpoint into live modules, optimizers and other objects, each by its name in the file:

        step = torchkeep.load_into("checkpoint.pt", model=model, optimizer=optimizer)["step"]

    An object `model=...` is filled from the entry "model" or "model_state_dict" (the only object also from a file that
    is nothing but its state). What fits is what the object's own load_state_dict() takes. Everything is checked first, and
    one torchkeep.Error (mismatch) lists what does not fit before anything is changed; an object with methods or hooks of
    its own is loaded first, and put back if it refuses. Where load_state_dict() would do nothing but copy, the bytes are
    read straight into the memory of parameters, buffers and existing optimizer state on the CPU: no second copy of the
    state is made. Checksums are verified while the bytes are read. What an object shows afterwards and is not the file's
    (a dtype of its own, a method that changes what it loads) is a torchkeep.LoadWarning by name.

    Args:
        path: the file, or a file object opened for binary reading.
        verify_first: check every byte of the file before the first byte of an object is changed: twice the reading.
            Without it a file that turns out to be damaged may leave the objects half loaded, and the error then says so.
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
    context = _state.Context(_warn)
    adapters = {name: _state.adapter_for(name, thing, context) for name, thing in objects.items()}
    with bar(progress, "loading", path) as move:
        file = _core.OpenedCheckpoint(file_source, move)
        rest = _load(file, file.structure(), adapters, context, path, verify_first)
        file.end()
    return rest


def _load(file, structure, adapters, context, path, verify_first):
    keys = {name: _key_of(name, structure, adapters, path) for name in adapters}
    parts = {name: structure if key is None else structure[key] for name, key in keys.items()}
    direct = [name for name, one in adapters.items() if one.in_place]
    whole = None in keys.values()
    others = {} if whole else file.read([key for key in structure if key not in {keys[name] for name in direct}], None)
    context.note(parts, others.get("provenance"))
    plans, problems = {}, []
    for name, adapter in adapters.items():
        try:
            plans[name] = adapter.prepare(parts[name] if adapter.in_place else others[keys[name]])
        except Error as error:
            problems.append(error)
            error.message = f"{name}: {error.message}"
    if problems:
        message = f"the file does not fit, and nothing was changed: {'; '.join(error.message for error in problems)}"
        raise Error(message, "mismatch", file=path, text=f"{path}: {message}") from problems[0]
    if verify_first:
        file.verify()
    for name in adapters.keys() - set(direct):
        others.pop(keys[name])

    def read(names):
        if whole:
            return {None: file.read(None, plans[names[0]].targets)} if names else {}
        return file.read([keys[name] for name in names], {keys[name]: plans[name].targets for name in names})

    judged = [name for name in adapters if not plans[name].checked]
    _change(judged, plans, read([name for name in judged if name in direct]), keys, path)
    rest = [name for name in adapters if plans[name].checked]
    try:
        filled = read([name for name in rest if name in direct])
    except Error:  # it says what it left behind; what has a way back is put back
        for name in reversed(judged):
            if plans[name].undo is not None:
                plans[name].undo()
        raise
    _change(rest, plans, filled, keys, path)
    return others


def _change(names, plans, filled, keys, path):
    for i, name in enumerate(names):
        plan = plans[name]
        try:
            plan.change(filled[keys[name]]) if keys[name] in filled else plan.change()
        except Error as error:
            undone = all(plans[one].undo is not None for one in names[:i + 1])
            for one in reversed(names[:i + 1]) if undone else ():
                plans[one].undo()
            state = "nothing was changed" if undone else "what was loaded before it is changed already: do not use it"
            message = f"{name}: {error.message}; {state}"
            raise Error(message, error.code, file=path, text=f"{path}: {message}") from error.__cause__ or error


def _warn(message):
    warnings.warn(message, LoadWarning, stacklevel=outside())


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
