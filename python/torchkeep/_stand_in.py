# SPDX-License-Identifier: BSD-3-Clause
"""What save() writes in place of objects that no checkpoint can hold: NumPy's, and what the caller's default= gives."""
import sys

from ._opaque import Opaque


def exact(thing):
    """For a run, which has to go on with the same numbers: only what is the same number in Python.

    Gives (True, stand-in), or (False, None) where there is none."""
    numpy = sys.modules.get("numpy")
    is_number = numpy is not None and isinstance(thing, (numpy.float64, numpy.integer, numpy.bool_))
    if is_number and thing.dtype.kind in "biuf":
        return True, thing.item()
    return _string(thing)


def stand_in(as_tensors, default, opaque):
    """For save(): a function like exact(). `as_tensors`: NumPy's scalars become tensors, which keep their dtype. `opaque`:
    what becomes of a torchkeep.Opaque; (None, None) says that it is left out."""
    def of(thing):
        found, value = _of_numpy(thing, as_tensors)
        if not found:
            found, value = _string(thing)
        if not found and opaque != "refuse" and type(thing) is Opaque:
            return (None, None) if opaque == "drop" else (True, as_data(thing))
        if found or default is None:
            return found, value
        return True, default(thing)

    return of


def as_data(thing: Opaque) -> dict:
    """All that an Opaque says, as a dict that PyTorch's safe loader reads."""
    parts = {"args": thing.args, "kwargs": thing.kwargs, "state": thing.state, "list_items": thing.list_items or None,
             "dict_items": thing.dict_items or None}
    return {"class": thing.class_name, "kind": thing.kind} | {name: part for name, part in parts.items() if part is not None}


def _string(thing):
    # torch.__version__, a str with a class of its own
    if type(thing).__name__ == "TorchVersion" and type(thing).__module__ == "torch.torch_version":
        return True, str.__str__(thing)
    return False, None


def _of_numpy(thing, as_tensors):
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(thing, (numpy.ndarray, numpy.generic)):
        return False, None
    if isinstance(thing, (numpy.str_, numpy.bytes_)):
        return True, thing.item()
    if isinstance(thing, numpy.generic) and not as_tensors:
        is_number = isinstance(thing, (numpy.bool_, numpy.number)) and thing.dtype.itemsize <= 8 * (1 + (thing.dtype.kind == "c"))
        return (True, thing.item()) if is_number and thing.dtype.kind != "m" else (False, None)
    return _of_array(numpy, numpy.asarray(thing), type(thing))


def _of_array(numpy, array, kind):
    if kind not in (numpy.ndarray, numpy.memmap) and not issubclass(kind, numpy.generic):
        return False, None  # a masked array, for one, is more than its elements
    if array.dtype.kind in "USO":
        return True, array.tolist()
    if array.dtype.kind not in "biufc":
        return False, None
    import torch

    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not native.flags.writeable or any(stride < 0 for stride in native.strides) or not native.flags.aligned:
        native = native.copy()
    try:
        return True, torch.from_numpy(native)
    except TypeError:  # a dtype that PyTorch lacks: longdouble
        return False, None
