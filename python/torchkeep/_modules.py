# SPDX-License-Identifier: BSD-3-Clause
"""torch.nn.Module: PyTorch's own load_state_dict() decides what fits, tried first on a copy without memory."""
import collections
import types
import warnings
from collections.abc import Mapping

from ._adapter import Adapter, Judged, Plan, call_own, describe, differences, listed, mismatch, torch_module
from ._names import CleanNames, unwrapped
from ._plain import TYPE, plain, restored

# Where PyTorch's own code lives that does nothing in load_state_dict() but rename, add and copy entries.
_TRUSTED = ("torch.nn.", "torch.optim.swa_utils", "torch._dynamo.", "torch.distributed.algorithms._checkpoint.")


class Module(Adapter):
    """Parameters, buffers, and what get_extra_state() adds."""

    in_place = True

    def __init__(self, module, name, context):
        self.module = unwrapped(module)
        self.name = name
        self.context = context

    def capture(self):
        return plain(CleanNames(self.module).cleaned(self.module.state_dict()))

    def watched(self):
        lazy = torch_module().nn.parameter.is_lazy
        return ([one for one in self.module.parameters() if not lazy(one)],
                [one for one in self.module.buffers() if not lazy(one)])

    def prepare(self, state):
        if not isinstance(state, Mapping):
            raise mismatch(f"expected a module's state dict, found a {type(state).__name__}")
        live = self._live()
        self._refuse_meta(live)
        trial = self._trial(self._own(state, live), live)
        if trial is None:
            judged = Judged(self.module)
            return Plan(lambda filled: self._load(filled, judged.load), checked=False, undo=judged.undo)
        targets = {there: trial[here] for there, here in zip(state, self._own(dict.fromkeys(state), live)) if here in trial}
        return Plan(lambda filled: self._load(filled, lambda own: call_own(self.module, own)), targets=targets)

    @staticmethod
    def _refuse_meta(live):
        tensor = torch_module().Tensor
        without_memory = [name for name, value in live.items() if isinstance(value, tensor) and value.is_meta]
        if without_memory:
            raise mismatch("the module is on the device meta, which has no memory to load into; call "
                           f"module.to_empty(device=...) first: {listed(without_memory)}")

    def _own(self, state, live):
        """The file's state under this module's names, tied parameters that it has once under all of theirs."""
        own = CleanNames(self.module).own(state, live)
        by_memory = collections.defaultdict(list)
        for key, value in live.items():
            if isinstance(value, torch_module().Tensor):
                by_memory[id(value)].append(key)
        for keys in by_memory.values():
            present = [key for key in keys if key in own]
            for key in keys:
                if present and key not in own:
                    own[key] = own[present[0]]
        return own

    def _live(self):
        """The entries of state_dict(), tensors as the module has them."""
        module = self.module
        if getattr(module.state_dict, "__func__", None) is torch_module().nn.Module.state_dict:
            return dict(module.state_dict(keep_vars=True))
        return dict(module.state_dict())

    def _load(self, filled, load):
        own = restored(self._own(filled, self._live()))
        load(own)
        live = self._live()
        shown = {key: value.detach() if isinstance(value, torch_module().Tensor) else value for key, value in live.items()}
        changed = [f"{path} ({self._change(shown.get(path), own.get(path))})"
                   for path in differences(shown, own, lacking=False)
                   if not (self._is_tied(path, own, live) or _is_the_number_of(shown.get(path), own.get(path)))]
        if changed:
            self.context.warn(f"'{self.name}': after {type(self.module).__name__}.load_state_dict() the module shows other "
                              f"values than the file: {listed(changed, 5)}")

    @staticmethod
    def _is_tied(path, own, live):
        """Whether it has the file's value of another name of the same parameter."""
        names = [key for key, value in live.items() if value is live.get(path) and key in own]
        return any(not differences(live[key].detach(), own[key]) for key in names
                   if isinstance(live[key], torch_module().Tensor))

    @staticmethod
    def _change(shown, saved):
        ours, theirs = describe(shown), describe(saved)
        return f"{theirs} in the file, {ours} here" if ours != theirs else "other values"

    # ---- the trial

    def _trial(self, state, live):
        """Loads the state's names, shapes and dtypes into a copy of the module without memory. Returns the live tensors
        that load_state_dict() will do nothing with but copy one entry into each, by that entry's key; None: code of the
        user's takes part, so only the real load can tell. Raises Error (mismatch) with all that does not fit."""
        if has_foreign_code(self.module):
            return None
        torch = torch_module()
        try:
            copy = Shadow(self.module)
        except Exception:  # a parameter that has no likeness on the device meta
            return None
        entries = {key: _likeness(value) for key, value in state.items()}
        made = collections.OrderedDict(entries)
        if getattr(state, "_metadata", None) is not None:
            made._metadata = {path: dict(entry) for path, entry in state._metadata.items()}
        copies = _Copies()
        try:
            with copies, torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the real load warns
                copy.module.load_state_dict(made)
        except Exception as error:
            if not (isinstance(error, RuntimeError) and str(error).startswith("Error(s) in loading state_dict")):
                return None
            raise mismatch(f"the state does not fit the module: {listed(self._problems(state, live, error))}") from error
        return copy.targets(entries, copies.made)

    @staticmethod
    def _problems(state, live, error):
        """All that does not fit, in few words; PyTorch's own where ours find nothing."""
        tensor = torch_module().Tensor
        problems = [f"{name}: not in the file" for name in live if name not in state]
        problems += [f"{name}: not in the module" for name in state if name not in live]
        for name, value in live.items():
            saved = state.get(name)
            if name in state and isinstance(value, tensor) and not torch_module().nn.parameter.is_lazy(value):
                if not isinstance(saved, tensor) or saved.shape != value.shape:
                    problems.append(f"{name}: {describe(saved)} in the file, {describe(value)} in the module")
        return problems or [str(error)]


def _is_the_number_of(shown, saved):
    """PyTorch takes a vector of one element for a number: files of before 0.4."""
    tensor = torch_module().Tensor
    return (isinstance(shown, tensor) and isinstance(saved, tensor) and shown.dim() == 0 and saved.shape == (1,)
            and not differences(shown, saved[0]))


def has_foreign_code(module):
    """Whether load_state_dict() of the module runs code that is not PyTorch's, or works on tensors of other classes."""
    torch = torch_module()
    base, kinds = torch.nn.Module, _kinds()
    if isinstance(module, torch.jit.ScriptModule) or _function(module.load_state_dict) is not base.load_state_dict:
        return True
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule) or not _is_trusted(part._load_from_state_dict):
            return True
        if type(part).set_extra_state is not base.set_extra_state:
            return True
        hooks = [*part._load_state_dict_pre_hooks.values(), *part._load_state_dict_post_hooks.values()]
        if not all(_is_trusted(getattr(hook, "hook", hook)) for hook in hooks):
            return True
        tensors = [*part._parameters.values(), *part._buffers.values()]
        if any(type(one) not in kinds for one in tensors if one is not None):
            return True
    return bool(torch.__future__.get_swap_module_params_on_conversion())


def _kinds():
    torch = torch_module()
    return {torch.Tensor, *(getattr(torch.nn.parameter, name) for name in
                            ("Parameter", "Buffer", "UninitializedParameter", "UninitializedBuffer")
                            if hasattr(torch.nn.parameter, name))}


def _function(method):
    return getattr(method, "__func__", method)


def _is_trusted(function):
    home = getattr(_function(function), "__module__", None) or type(function).__module__ or ""
    return home.startswith(_TRUSTED)


def _likeness(value):
    """A tensor like another, without memory, and one that no other entry is."""
    if isinstance(value, torch_module().Tensor) and value.layout == torch_module().strided and not value.is_quantized:
        return value.detach().to("meta")[...]
    return restored(value) if isinstance(value, Mapping) and value.get(TYPE) == "uninitialized" else value


class Shadow:
    """A module built like another one, with tensors on the device meta; attributes are shared, and never changed by
    PyTorch's own code."""

    def __init__(self, module):
        self._modules = {}
        self._tensors = {}  # by id: the live tensor and its likeness
        self.module = self._of(module)

    def targets(self, entries, copies):
        """The live tensors that exactly one entry was copied into, by the entry's key. `copies`: (to, from)."""
        keys = {id(value): key for key, value in entries.items()}
        live = {id(likeness): tensor for tensor, likeness in self._tensors.values()}
        count = collections.Counter(id(to) for to, _ in copies)
        return {keys[id(from_)]: live[id(to)] for to, from_ in copies
                if count[id(to)] == 1 and id(from_) in keys and id(to) in live
                and not torch_module().nn.parameter.is_lazy(live[id(to)])}

    def _of(self, module):
        if id(module) in self._modules:
            return self._modules[id(module)]
        shadow = self._modules[id(module)] = object.__new__(type(module))
        shadow.__dict__.update(module.__dict__)
        shadow.__dict__["_parameters"] = {name: self._like(one) for name, one in module._parameters.items()}
        shadow.__dict__["_buffers"] = {name: self._like(one) for name, one in module._buffers.items()}
        shadow.__dict__["_modules"] = {name: None if one is None else self._of(one)
                                       for name, one in module._modules.items()}
        for hooks in ("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"):
            shadow.__dict__[hooks] = collections.OrderedDict(
                (number, _rebound(hook, module, shadow)) for number, hook in getattr(module, hooks).items())
        return shadow

    def _like(self, tensor):
        if tensor is None:
            return None
        if id(tensor) not in self._tensors:
            self._tensors[id(tensor)] = tensor, _empty_like(tensor)
        return self._tensors[id(tensor)][1]


def _empty_like(tensor):
    torch = torch_module()
    if torch.nn.parameter.is_lazy(tensor):
        options = {"requires_grad": tensor.requires_grad} if isinstance(tensor, torch.nn.Parameter) else {}
        return type(tensor)(device="meta", dtype=tensor.dtype, **options)
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made


def _rebound(hook, module, shadow):
    """A hook of the module that acts on its shadow."""
    inner = getattr(hook, "hook", None)
    if inner is None:
        return _method_of(hook, module, shadow)
    return type(hook)(_method_of(inner, module, shadow), shadow if hook.with_module else None)


def _method_of(function, module, shadow):
    if getattr(function, "__self__", None) is module:
        return types.MethodType(function.__func__, shadow)
    return function


def _Copies():
    """Notes every tensor.copy_(other), as a context."""
    torch = torch_module()

    class Copies(torch.overrides.TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.made = []

        def __torch_function__(self, function, types, arguments=(), options=None):
            if function is torch.Tensor.copy_:
                self.made.append((arguments[0], arguments[1]))
            return function(*arguments, **(options or {}))

    return Copies()
