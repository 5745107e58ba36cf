# SPDX-License-Identifier: BSD-3-Clause
"""Random generators: PyTorch's, NumPy's and Python's."""
import hashlib
import random
import struct
import sys

from ._adapter import Adapter, Plan, describe, mismatch, torch_module


class TorchGenerator(Adapter):
    """A torch.Generator."""

    def __init__(self, generator):
        self.generator = generator

    def capture(self):
        return self.generator.get_state()

    def prepare(self, state):
        checked_generator_state(state, self.generator)
        before = self.generator.get_state()
        return Plan(lambda: self.generator.set_state(state), undo=lambda: self.generator.set_state(before))


def checked_generator_state(state, generator):
    """Only the generator itself knows whether it takes a state: a CUDA generator's is another than the CPU's."""
    torch = torch_module()
    if not isinstance(state, torch.Tensor) or state.dtype != torch.uint8 or state.dim() != 1:
        raise mismatch(f"expected the state of a generator, a uint8 vector; found {describe(state)}")
    before = generator.get_state()
    try:
        generator.set_state(state)
    except RuntimeError as error:
        raise mismatch(f"the generator on {generator.device} refuses this state: {error}") from error
    finally:
        generator.set_state(before)


class Generators(Adapter):
    """The default generators: torch's (CPU and every CUDA device), Python's, and NumPy's where it was imported. Under
    several ranks those of every rank: rank 0's at the top, the others' under "ranks", by rank."""

    def __init__(self, any_devices=False, ranks=None, warn=None):
        self.any_devices = any_devices
        self.ranks = ranks
        self.warn = warn

    def capture(self):
        state = self.own()
        if self.ranks is not None:
            state["world"] = self.ranks.world
            state["ranks"] = self.ranks.gather()
        return state

    def own(self):
        """Those of this process."""
        state = {}
        torch = torch_module()
        if torch is not None:
            state["torch"] = torch.get_rng_state()
            if torch.cuda.is_available():
                state["cuda"] = torch.cuda.get_rng_state_all()
        state["python"] = random.getstate()
        numpy = sys.modules.get("numpy")
        if numpy is not None and torch is not None:
            state["numpy"] = _with_tensors(numpy.random.get_state(legacy=False), numpy, torch)
        return state

    def prepare(self, state):
        torch = torch_module()
        if not isinstance(state, dict) or (torch is not None and "torch" not in state):
            raise mismatch("expected the states of the random generators")
        own = self._of_this_rank(state)
        return self._seeded_anew(state) if own is None else self._prepare_own(own)

    def _of_this_rank(self, state):
        """Nothing where the checkpoint has none for this rank among as many."""
        rank, world = (self.ranks.rank, self.ranks.world) if self.ranks is not None else (0, 1)
        if state.get("world", 1) != world:
            return None
        return state if rank == 0 else state.get("ranks", {}).get(rank)

    def _seeded_anew(self, state):
        rank, world = (self.ranks.rank, self.ranks.world) if self.ranks is not None else (0, 1)
        torch = torch_module()
        of = bytes(state["torch"].numpy()) if torch is not None else repr(state.get("python")).encode()
        seed = int.from_bytes(hashlib.sha256(of + struct.pack("<QQ", rank, world)).digest()[:7], "little")

        def change():
            random.seed(seed)
            numpy = sys.modules.get("numpy")
            if numpy is not None:
                numpy.random.seed(seed % 2**32)
            if torch is not None:
                torch.manual_seed(seed)
            if self.warn is not None:
                self.warn(f"the random generators of rank {rank} are seeded anew, from the checkpoint and the rank: it has "
                          f"none for rank {rank} of {world} (it was saved by {state.get('world', 1)})")

        return Plan(change)

    def _prepare_own(self, state):
        torch = torch_module()
        cuda = state.get("cuda", [])
        devices = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
        if len(cuda) != devices and not self.any_devices:
            raise mismatch(f"states of {len(cuda)} CUDA generators in the file, {devices} devices here; "
                           "Run(any_devices=True) sets those on both sides")
        if torch is not None:
            checked_generator_state(state["torch"], torch.default_generator)
        if "python" in state:
            random.Random().setstate(state["python"])

        def change():
            if "python" in state:
                random.setstate(state["python"])
            if "numpy" in state:
                import numpy

                numpy.random.set_state(_with_arrays(state["numpy"], torch))
            if torch is not None:
                torch.set_rng_state(state["torch"])
            for device in range(min(len(cuda), devices)):
                torch.cuda.set_rng_state(cuda[device], device)

        return Plan(change)


class NumpyGenerator(Adapter):
    """A numpy.random.Generator."""

    def __init__(self, generator):
        self.generator = generator

    def capture(self):
        return _with_tensors(self.generator.bit_generator.state, sys.modules["numpy"], torch_module())

    def prepare(self, state):
        own = _with_arrays(state, torch_module())
        before = self.generator.bit_generator.state
        _tried(lambda: self._put(type(self.generator.bit_generator)(), own), "a numpy.random.Generator")
        return Plan(lambda: self._put(self.generator.bit_generator, own),
                    undo=lambda: self._put(self.generator.bit_generator, before))

    @staticmethod
    def _put(generator, state):
        generator.state = state


class NumpyRandomState(Adapter):
    """A numpy.random.RandomState."""

    def __init__(self, generator):
        self.generator = generator

    def capture(self):
        return _with_tensors(self.generator.get_state(legacy=False), sys.modules["numpy"], torch_module())

    def prepare(self, state):
        own, numpy = _with_arrays(state, torch_module()), sys.modules["numpy"]
        _tried(lambda: numpy.random.RandomState().set_state(own), "a numpy.random.RandomState")
        before = self.generator.get_state(legacy=False)
        return Plan(lambda: self.generator.set_state(own), undo=lambda: self.generator.set_state(before))


class PythonGenerator(Adapter):
    """A random.Random."""

    def __init__(self, generator):
        self.generator = generator

    def capture(self):
        return self.generator.getstate()

    def prepare(self, state):
        _tried(lambda: random.Random().setstate(state), "a random.Random")
        before = self.generator.getstate()
        return Plan(lambda: self.generator.setstate(state), undo=lambda: self.generator.setstate(before))


def _tried(change, what):
    """Makes a change to something of no account first."""
    try:
        change()
    except Exception as error:
        raise mismatch(f"expected the state of {what}: {type(error).__name__}: {error}") from error


def rng_state():
    """The states of all default generators, as a run saves them: {"torch", "cuda", "python", "numpy"}, without those of
    modules that are not imported and of devices that are not there. Plain data and tensors: torchkeep.save() takes it."""
    return Generators().capture()


def load_rng_state(state, *, any_devices=False):
    """Sets all default generators to what rng_state() returned, also from a checkpoint's "rng".

    Args:
        state: of rng_state().
        any_devices: accept the states of another number of CUDA devices: those on both sides are set.

    Raises:
        torchkeep.Error: mismatch, and then nothing is changed.
    """
    Generators(any_devices).prepare(state).change()


def _with_tensors(state, numpy, torch):
    if isinstance(state, dict):
        return {key: _with_tensors(value, numpy, torch) for key, value in state.items()}
    return torch.from_numpy(state.copy()) if isinstance(state, numpy.ndarray) else state


def _with_arrays(state, torch):
    if isinstance(state, dict):
        return {key: _with_arrays(value, torch) for key, value in state.items()}
    return state.numpy() if isinstance(state, torch.Tensor) else state
