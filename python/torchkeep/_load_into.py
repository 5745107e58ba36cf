# SPDX-License-Identifier: BSD-3-Clause
"""load_into: a file straight into live objects."""
import collections
import os

from . import _core, _state
from ._errors import Error, InvalidArgumentError, NotFoundError
from ._progress import bar


def load_into(path, *, verify_first=False, progress=False, **objects):
    """Loads a checkpoint into live modules, optimizers and other objects, each by its name in the file:

        step = torchkeep.load_into("checkpoint.pt", model=model, optimizer=optimizer)["step"]

    An object `model=...` is filled from the entry "model" or "model_state_dict" (the only object also from a file that
    is nothing but its state). Modules on the CPU are read straight into the memory of their parameters and buffers: no
    second copy of the state is made. Everything is checked first: names, shapes and dtypes of all objects, and one
    torchkeep.Error (mismatch) lists what does not fit before anything is changed. Checksums are verified while the
    bytes are read.

    Args:
        path: the file.
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
    path = os.fspath(path)
    structure = _core.load_structure(path)
    modules = []
    adapters = {name: _state.adapter_for(name, thing, modules, _ignore) for name, thing in objects.items()}
    modules += [(name, one.module) for name, one in adapters.items() if isinstance(one, _state.Module)]
    keys = {name: _key_of(name, structure, adapters, path) for name in adapters}
    _check(adapters, keys, structure, path)
    direct = {name for name, one in adapters.items() if isinstance(one, _state.Module) and _is_plain(one.module)}
    whole = None in keys.values()
    targets = {keys[name]: adapters[name].capture() for name in direct}
    with bar(progress, "loading", path) as move:
        rest = _core.load_into(path, targets[None] if whole and targets else targets, verify_first, move)
    for name, one in adapters.items():
        if name not in direct:
            one.prepare(rest if whole else rest.pop(keys[name]))()
    return {} if whole else rest


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


def _check(adapters, keys, structure, path):
    problems = []
    for name, one in adapters.items():
        if not isinstance(one, (_state.Module, _state.Optimizer, _state.Scheduler, _state.Tensor)):
            continue  # these need the values, not only their shapes
        try:
            one.prepare(structure if keys[name] is None else structure[keys[name]])
        except Error as error:
            problems.append(f"{name}: {error.message}")
    if problems:
        message = f"the file does not fit, and nothing was changed: {'; '.join(problems)}"
        raise Error(message, "mismatch", file=path, text=f"{path}: {message}")


def _is_plain(module):
    """Whether load_state_dict() would do nothing but copy into dense tensors in the CPU's memory."""
    hooked = any(part._load_state_dict_pre_hooks or part._load_state_dict_post_hooks for part in module.modules())
    torch = _state._torch()
    custom = any(type(part)._load_from_state_dict is not torch.nn.Module._load_from_state_dict
                 and not type(part).__module__.startswith("torch.nn.modules.") for part in module.modules())
    state = module.state_dict()
    return not hooked and not custom and all(
        isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.layout == torch.strided
        and not value.is_quantized for value in state.values())
