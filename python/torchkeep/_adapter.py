# SPDX-License-Identifier: BSD-3-Clause
"""What an adapter is: how one kind of object is captured and restored.

An adapter has `capture()`, its state now (tensors may look at live memory), and `prepare(state)`, which checks a saved
state without changing anything and returns a Plan. The object's own state_dict() and load_state_dict() decide what fits.

Where `in_place` is true, `prepare()` gets the state with its tensors on the device "meta", and the plan's `change` is
called with the state once it is read. Tensors that the plan names as targets are read where they are: an optimisation for
tensors that load_state_dict() would do nothing with but copy the file's bytes into them.

`watched()` gives the tensors that show a write to them by their version counters and change only behind the gate of an
optimizer, and those that change elsewhere. An optimizer's adapter is `gated`.
"""
import collections
import copy
import dataclasses
import os
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ._errors import Error


def torch_module():
    return sys.modules.get("torch")


def mismatch(message: str) -> Error:
    return Error(message, "mismatch")


def describe(value: Any) -> str:
    torch = torch_module()
    if torch is not None and isinstance(value, torch.Tensor):
        if torch.nn.parameter.is_lazy(value):
            return f"{str(value.dtype).removeprefix('torch.')}, not initialized"
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def class_name(thing: Any) -> str:
    """As a checkpoint has it: "torch.optim.adam:Adam"."""
    return f"{type(thing).__module__}:{type(thing).__qualname__}"


def is_class(recorded: str, thing: Any) -> bool:
    """Whether an object is of a class of this name, whatever module the class is in now."""
    return recorded.rpartition(":")[2].rpartition(".")[2] == type(thing).__name__


def is_of_torch(thing: Any) -> bool:
    """Whether its class is one of torch.optim's own."""
    return f"{type(thing).__module__}.".startswith("torch.optim.")


def outside() -> int:
    """How far up the first frame outside of this package is, so that a warning shows the user's line."""
    here, depth = os.path.dirname(__file__), 1
    frame = sys._getframe(1)
    while frame is not None and os.path.dirname(frame.f_code.co_filename) == here:
        frame, depth = frame.f_back, depth + 1
    return depth


def listed(problems: list[str], limit: int = 20) -> str:
    more = f"; and {len(problems) - limit} more" if len(problems) > limit else ""
    return "; ".join(problems[:limit]) + more


@dataclasses.dataclass
class Plan:
    """How a saved state is put into an object.

    `change` puts it in: with the state that was read where the adapter is `in_place`, else without arguments. `targets`
    are live tensors to read into, in dicts built like the state. `checked`: everything was checked, `change` cannot fail
    but where the file does; otherwise it is made first, and `undo` puts back what the object had.
    """

    change: Callable[..., None]
    targets: dict | None = None
    checked: bool = True
    undo: Callable[[], None] | None = None


class Adapter:
    """What is true of most of them."""

    in_place = False
    gated = False

    def watched(self):
        return (), ()


class Judged:
    """A state_dict() of an object whose own load_state_dict() is the only judge, to be put back when it refuses."""

    def __init__(self, thing: Any):
        self.thing = thing
        self.before = None

    def load(self, state: Any) -> None:
        self.before = (copied(self.thing.state_dict()),)
        call_own(self.thing, state)

    def undo(self) -> None:
        if self.before is None:
            return
        (before,), self.before = self.before, None
        self.thing.load_state_dict(copied(before))
        changed = differences(self.thing.state_dict(), before)
        if changed:
            raise mismatch(f"{type(self.thing).__name__}.load_state_dict() does not put back {listed(changed)}")


def call_own(thing: Any, state: Any) -> None:
    """thing.load_state_dict(state); what it raises becomes a mismatch with that as its cause."""
    try:
        thing.load_state_dict(state)
    except Error:
        raise
    except Exception as error:
        raise mismatch(f"{type(thing).__name__}.load_state_dict() refuses the state: "
                       f"{type(error).__name__}: {error}") from error


def copied(value: Any) -> Any:
    """A copy that keeps its values whatever happens to the object it came from."""
    torch = torch_module()
    if torch is not None and isinstance(value, torch.Tensor):
        return value if torch.nn.parameter.is_lazy(value) else value.detach().clone()
    if isinstance(value, dict):
        made = copy.copy(value)  # keeps an OrderedDict's _metadata
        for key, part in value.items():
            made[key] = copied(part)
        return made
    if type(value) in (list, tuple):
        return type(value)(copied(part) for part in value)
    try:
        return copy.deepcopy(value)
    except Exception:  # code, a lock: nothing that a load changes
        return value


# ---- comparing bit for bit

def same(a: Any, b: Any) -> bool:
    """Whether two values are the same to the bit; the device does not matter."""
    return not differences(a, b)


def differences(shown: Any, saved: Any, path: str = "", *, lacking: bool = True) -> list[str]:
    """The places where two values differ. `lacking`: also keys that only one has."""
    torch = torch_module()
    here = path or "the value"
    if shown is saved:
        return []
    if torch is not None and isinstance(shown, torch.Tensor) and isinstance(saved, torch.Tensor):
        return [] if _same_tensor(shown, saved) else [here]
    if isinstance(shown, Mapping) and isinstance(saved, Mapping):
        found = [_joined(path, key) for key in [*shown, *saved] if (key in shown) != (key in saved)] if lacking else []
        for key in shown:
            if key in saved:
                found += differences(shown[key], saved[key], _joined(path, key), lacking=lacking)
        return found
    if isinstance(shown, (list, tuple, collections.deque)) and type(shown) is type(saved):
        if len(shown) != len(saved):
            return [here]
        return [one for i, (a, b) in enumerate(zip(shown, saved))
                for one in differences(a, b, _joined(path, i), lacking=lacking)]
    if type(shown) is type(saved) and type(shown).__eq__ is object.__eq__ and hasattr(shown, "__dict__"):
        return differences(vars(shown), vars(saved), path, lacking=lacking)
    return [] if _same_leaf(shown, saved) else [here]


def _joined(path, key):
    return f"{path}.{key}" if path else str(key)


def _same_leaf(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return _same_leaf(a.real, b.real) and _same_leaf(a.imag, b.imag)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(a, numpy.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    try:
        return bool(a == b)
    except Exception:
        return False


def _same_tensor(a, b):
    if a.layout != b.layout or a.dtype != b.dtype or a.is_quantized != b.is_quantized:
        return False
    torch = torch_module()
    if torch.nn.parameter.is_lazy(a) or torch.nn.parameter.is_lazy(b):
        return False
    if a.shape != b.shape:
        return False
    if a.layout == torch.strided and a.stride() == b.stride() and a.device == b.device and a.is_conj() == b.is_conj():
        if a.data_ptr() == b.data_ptr() and a.is_neg() == b.is_neg():
            return True  # one memory
    if a.is_quantized:
        return a.qscheme() == b.qscheme() and _same_tensor(a.int_repr(), b.int_repr())
    if a.layout == torch.sparse_coo:
        return (a.is_coalesced() == b.is_coalesced() and _same_tensor(a._indices(), b._indices())
                and _same_tensor(a._values(), b._values()))
    if a.layout != torch.strided:
        return bool(torch.equal(a.cpu(), b.cpu()))
    if a.device.type == "meta" or b.device.type == "meta":
        return True
    a, b = _bytes(a), _bytes(b)
    if a.device == b.device:
        return bool(torch.equal(a, b))
    step = 64 << 20  # what a device has to have room for
    return all(torch.equal(a[i:i + step], b[i:i + step].to(a.device)) for i in range(0, a.numel(), step))


def _bytes(tensor):
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return tensor.reshape(-1).view(torch_module().uint8)
