# SPDX-License-Identifier: BSD-3-Clause
"""Memory of devices, copied to the host at the speed of the bus."""
import weakref

from . import _core
from ._adapter import torch_module

_SMALLEST = 1 << 20


class _Segment:
    """Host memory that the CUDA driver has pinned: fresh pageable memory is filled at a fiftieth of the bus's speed."""

    def __init__(self, torch, nbytes):
        self.memory = torch.empty(nbytes, dtype=torch.uint8)
        self.used = 0
        _pin(torch, self.memory)
        weakref.finalize(self, _unpin, torch, self.memory)  # keeps the memory until it is not pinned any more


def _pin(torch, memory):
    portable = 1  # for all devices
    if int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.numel(), portable)) != 0:
        raise MemoryError("the driver does not pin it")


def _unpin(torch, memory):
    torch.cuda.cudart().cudaHostUnregister(memory.data_ptr())


def _bytes_of(torch, storage):
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _stream_of(torch, storage):
    return torch.cuda.current_stream(storage.device)


class _Call:
    """Lives as long as the copies that were made in one conversion."""


class _Copy:
    """As much of a torch.UntypedStorage as the conversion asks for."""

    def __init__(self, place, call):
        self._place, self._call = place, call

    def nbytes(self):
        return self._place.numel()

    def data_ptr(self):
        return self._place.data_ptr()


class DeviceCopies:
    """Called with a storage of a device, it gives a copy on the host. What it was called with is copied when wait() returns.

    The memory is used again when all copies of the calls before are gone, and unpinned with this object.
    """

    def __init__(self, limit):
        #: bytes; what is beyond is copied to memory that is not pinned. None: a quarter of what this process may use
        self.limit = limit
        self._segments = []
        self._calls = []  # weak references to those whose copies may still be read
        self._call = None
        self._streams = set()

    def __call__(self, storage):
        torch = torch_module()
        if storage.device.type != "cuda" or storage.nbytes() == 0:
            return storage.cpu()
        if self._call is None:
            self._begin()
        place = self._place(torch, storage.nbytes())
        if place is None:
            return storage.cpu()
        place.copy_(_bytes_of(torch, storage), non_blocking=True)
        self._streams.add(_stream_of(torch, storage))
        return _Copy(place, self._call)

    def wait(self):
        for stream in self._streams:
            stream.synchronize()
        self._streams.clear()
        self._call = None

    def _begin(self):
        if self.limit is None:
            self.limit = _core.usable_memory() // 4
        self._calls = [call for call in self._calls if call() is not None]
        if not self._calls:
            for segment in self._segments:
                segment.used = 0
        self._call = _Call()
        self._calls.append(weakref.ref(self._call))

    def _place(self, torch, nbytes):
        size = -(-nbytes // 512) * 512
        for segment in self._segments:
            if segment.memory.numel() - segment.used >= size:
                break
        else:
            held = sum(one.memory.numel() for one in self._segments)
            wanted = max(size, min(max(held, _SMALLEST), self.limit - held))  # so there are few of them
            if held + wanted > self.limit:
                return None
            try:
                segment = _Segment(torch, wanted)
            except (MemoryError, RuntimeError):
                self.limit = held
                return None
            self._segments.append(segment)
        place = segment.memory[segment.used:segment.used + nbytes]
        segment.used += size
        return place
