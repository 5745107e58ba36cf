# SPDX-License-Identifier: BSD-3-Clause
"""Whole pickled modules: their state dicts."""
import collections
import collections.abc
import itertools
import os

from ._errors import Error, NotFoundError
from ._files import load
from ._opaque import Opaque

_MAX_VISITS = 1 << 20  # a file may name one submodule as often as it likes
_MAX_NAME = 4096
_PARTS = ("_parameters", "_buffers", "_modules")


def is_module(thing):
    """Whether it is a whole pickled torch.nn.Module: an Opaque with parameters, buffers and submodules."""
    return (isinstance(thing, Opaque) and isinstance(thing.state, dict)
            and all(isinstance(thing.state.get(part), dict) for part in _PARTS))


def state_dict_of(source, key=None, *, map_location=None):
    """The state dict of a module that was saved whole (`torch.save(model, path)`, as old zoos and ultralytics do).

    Nothing of the module's class is needed, and nothing is run. The names and their order are those of PyTorch's
    Module.state_dict(); buffers that a module does not save are left out.

        model.load_state_dict(torchkeep.state_dict_of("yolo.pt", "model"))

    Args:
        source: a file, as torchkeep.load takes it, or a torchkeep.Opaque out of one.
        key: where the module is in the file ("model"); not needed where there is only one module at the top.
        map_location: as in torch.load.

    Returns:
        An OrderedDict of names and tensors. A state dict in place of the module comes back as it is.

    Raises:
        torchkeep.Error: not_found (no module, several), and what load() raises.
    """
    if isinstance(source, Opaque):
        return _flatten(source, "the object")
    content = load(source, map_location, only=key)
    if key is None and isinstance(content, collections.abc.Mapping):
        content = _only_module(content, source)
    if is_module(content):
        return _flatten(content, source)
    if isinstance(content, collections.abc.Mapping):
        return content
    raise _not_found(source, f"expected a pickled module, found {_describe(content)}", key)


def _describe(content):
    return repr(content) if isinstance(content, Opaque) else f"a {type(content).__name__}"


def _not_found(source, message, key=None):
    file = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    return NotFoundError(message, "not_found", file=file, key=key, text=f"{file}: {message}" if file else message)


def _only_module(content, source):
    """The module that stands at the top of a checkpoint, or the content where that is a state dict."""
    modules = {key: part for key, part in content.items() if is_module(part)}
    if len(modules) == 1:
        return next(iter(modules.values()))
    if modules:
        raise _not_found(source, f"several modules: say which, key= one of {', '.join(map(repr, modules))}")
    return content


def _flatten(module, source):
    state, visits = collections.OrderedDict(), 0
    stack = [("", module)]
    while stack:
        prefix, one = stack.pop()
        if not is_module(one):
            raise Error(f"submodule '{prefix[:-1]}' of {source} is {_describe(one)}, not a module", "unsupported")
        left_out = one.state.get("_non_persistent_buffers_set") or ()
        visits += 1 + sum(len(one.state[part]) for part in _PARTS)
        names = itertools.chain.from_iterable(one.state[part] for part in _PARTS)
        if visits > _MAX_VISITS or any(len(prefix) + len(str(name)) > _MAX_NAME for name in names):
            raise Error(f"{source}: more than {_MAX_VISITS} submodules and tensors, or a name of more than {_MAX_NAME} "
                        "characters", "refused")
        for part, skipped in (("_parameters", ()), ("_buffers", left_out)):
            for name, tensor in one.state[part].items():
                if tensor is not None and name not in skipped:
                    state[f"{prefix}{name}"] = tensor.detach() if hasattr(tensor, "detach") else tensor
        children = [(f"{prefix}{name}.", child) for name, child in one.state["_modules"].items() if child is not None]
        stack.extend(reversed(children))
    return state
