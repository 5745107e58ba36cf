# SPDX-License-Identifier: BSD-3-Clause
"""Names of parameters, without what wraps a module or a part of it: torch.compile, activation checkpointing,
DataParallel and DistributedDataParallel."""
import collections
from collections.abc import Mapping

from ._adapter import torch_module

_WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")


def unwrapped(module):
    """The module under what wraps it as a whole."""
    while (inner := _inner_of(module)) is not None:
        module = module._modules[inner]
    return module


def _inner_of(module):
    """The name under which a wrapper has what it wraps; None: it is no wrapper."""
    torch = torch_module()
    for name in _WRAPPED:
        if name in module._modules:
            return name
    if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        return "module"
    return None


class CleanNames:
    """The names of a module's entries as they are without the wrappers inside of it."""

    def __init__(self, module):
        self._paths = {}  # of submodules: with wrappers -> without
        self._walk(module, "", "")
        self.is_plain = all(path == clean for path, clean in self._paths.items())

    def _walk(self, module, path, clean):
        self._paths[path] = clean
        inner = _inner_of(module)
        for name, child in module._modules.items():
            if child is not None:
                below = f"{path}.{name}" if path else name
                self._walk(child, below, clean if name == inner else f"{clean}.{name}" if clean else name)

    def clean(self, key):
        """The name of a parameter, a buffer or another entry."""
        path, dot, leaf = key.rpartition(".")
        clean = self._paths.get(path, path)
        return f"{clean}.{leaf}" if clean else leaf

    def cleaned(self, state):
        """A state dict with clean names; its _metadata too."""
        if self.is_plain:
            return state
        made = type(state)((self.clean(key), value) for key, value in state.items())
        metadata = getattr(state, "_metadata", None)
        if metadata is not None:
            made._metadata = {self._paths.get(path, path): entry for path, entry in metadata.items()}
        return made

    def own(self, state, keys):
        """A state dict of a file with the names that this module has: `keys`, those of its own state_dict()."""
        by_clean = {self.clean(key): key for key in keys}
        known = {**by_clean, **{key: key for key in keys}}
        names = {key: known.get(spelling_in(key, known), key) for key in state}
        if len(set(names.values())) != len(names):  # two entries of the file for one of the module: it is not renamed
            names = {key: key for key in state}
        metadata = getattr(state, "_metadata", None)
        if metadata is None and all(key == name for key, name in names.items()):
            return dict(state)
        made = collections.OrderedDict((names[key], value) for key, value in state.items())
        if metadata is not None:
            paths = {clean: path for path, clean in self._paths.items()}
            made._metadata = {paths.get(spelling_in(path, paths), path): entry for path, entry in metadata.items()}
        return made


def spelling_in(key, known):
    """The key as `known` has it: with or without the names of wrappers in it."""
    if key in known:
        return key
    parts = key.split(".")
    bare = [part for part in parts if part not in _WRAPPED]
    for candidate in (bare, bare[1:] if bare[:1] == ["module"] else bare, [part for part in bare if part != "module"]):
        if ".".join(candidate) in known:
            return ".".join(candidate)
    return key


class Context:
    """What the adapters of one run, or of one call, know of each other."""

    def __init__(self, warn):
        self.warn = warn
        self.modules = []  # [(tracked name, module)]
        self.tensors = []  # [(tracked name, tensor)]
        self.model_keys = {}  # by tracked name: the keys of a module's state in the file, where that is known
        self.recorded = {}  # by tracked name: what the file says of the program that wrote it

    def add(self, name, adapter):
        """Takes note of a tracked module or tensor."""
        if hasattr(adapter, "module"):
            self.modules.append((name, adapter.module))
        elif hasattr(adapter, "tensor"):
            self.tensors.append((name, adapter.tensor))

    def note(self, states, provenance):
        """Takes note of a file that is about to be loaded: the states (tensors may be without memory) by name."""
        self.model_keys = {name: list(states[name]) for name, _ in self.modules
                           if isinstance(states.get(name), Mapping)}
        tracked = provenance.get("tracked") if isinstance(provenance, Mapping) else None
        self.recorded = dict(tracked) if isinstance(tracked, Mapping) else {}

    def parameter_names(self):
        """By the parameter's id: "<tracked module>.<name>", or the name of a tracked tensor. Of several the first."""
        known = {}
        for name, parameter in self._all_names():
            known.setdefault(id(parameter), name)
        return known

    def aliases(self):
        """By every name of a parameter, of all that is tracked: the one of parameter_names()."""
        known = self.parameter_names()
        return {name: known[id(parameter)] for name, parameter in self._all_names()}

    def _all_names(self):
        """(name, parameter), a shared one under each of its names. A name that two parameters have is the first's."""
        found = {}
        for prefix, module in self.modules:
            clean = CleanNames(module)
            for path, part in module.named_modules(remove_duplicate=False):
                for name, parameter in part._parameters.items():
                    if parameter is not None:
                        found.setdefault(f"{prefix}.{clean.clean(f'{path}.{name}' if path else name)}", parameter)
        for name, tensor in self.tensors:
            found.setdefault(name, tensor)
        return found.items()
