# SPDX-License-Identifier: BSD-3-Clause
"""Copies of device memory: with the driver replaced here; with a GPU in tools/gpu-check."""
import types

import pytest
import torch

from torchkeep import _device_copies

MIB = 1 << 20


class Stream:
    synchronized = 0

    def synchronize(self):
        Stream.synchronized += 1


class DeviceStorage:
    """A storage that says it is on a GPU."""

    def __init__(self, value, nbytes):
        self.tensor = torch.full((nbytes,), value, dtype=torch.uint8)
        self.device = types.SimpleNamespace(type="cuda", index=0)
        self.fallbacks = 0

    def nbytes(self):
        return self.tensor.numel()

    def cpu(self):
        self.fallbacks += 1
        return self.tensor.clone().untyped_storage()


@pytest.fixture
def pinned(monkeypatch):
    """The memory that is pinned now, by address."""
    memory, stream = {}, Stream()
    monkeypatch.setattr(_device_copies, "_pin", lambda torch, one: memory.update({one.data_ptr(): one.numel()}))
    monkeypatch.setattr(_device_copies, "_unpin", lambda torch, one: memory.pop(one.data_ptr()))
    monkeypatch.setattr(_device_copies, "_bytes_of", lambda torch, storage: storage.tensor)
    monkeypatch.setattr(_device_copies, "_stream_of", lambda torch, storage: stream)
    return memory


def content(copy):
    held = copy._place
    assert held.data_ptr() == copy.data_ptr() and held.numel() == copy.nbytes()
    return set(held.tolist())


def test_each_copy_has_its_own_memory_until_all_of_the_call_are_gone(pinned):
    copies = _device_copies.DeviceCopies(1 << 30)
    first = [copies(DeviceStorage(value, 5000)) for value in range(3)]
    copies.wait()
    later = copies(DeviceStorage(9, 5000))
    copies.wait()
    assert [content(one) for one in [*first, later]] == [{0}, {1}, {2}, {9}]
    places = sorted(one.data_ptr() for one in [*first, later])
    assert all(b - a >= 5000 for a, b in zip(places, places[1:]))
    del first, later
    again = copies(DeviceStorage(4, 5000))
    assert again.data_ptr() == places[0], "memory is used again"


def test_what_is_copied_is_complete_when_wait_returns(pinned):
    copies, before = _device_copies.DeviceCopies(1 << 30), Stream.synchronized
    kept = copies(DeviceStorage(1, 10))
    assert Stream.synchronized == before
    copies.wait()
    assert Stream.synchronized == before + 1 and content(kept) == {1}


def test_few_segments_are_pinned_and_all_are_unpinned(pinned):
    copies = _device_copies.DeviceCopies(1 << 40)
    kept = [copies(DeviceStorage(1, 300_000)) for _ in range(200)]
    copies.wait()
    assert 60 * MIB <= sum(pinned.values()) <= 130 * MIB and len(pinned) <= 8
    del kept, copies
    assert pinned == {}


def test_beyond_the_limit_memory_is_not_pinned(pinned):
    copies = _device_copies.DeviceCopies(2 * MIB)
    inside, beyond = DeviceStorage(1, MIB), DeviceStorage(2, 3 * MIB)
    kept = [copies(inside), copies(beyond)]
    assert (inside.fallbacks, beyond.fallbacks) == (0, 1) and sum(pinned.values()) <= 2 * MIB
    assert set(bytes(kept[1])) == {2}


def test_a_driver_that_pins_nothing_is_not_asked_again(pinned, monkeypatch):
    calls = []

    def refuse(torch, memory):
        calls.append(memory)
        raise MemoryError

    monkeypatch.setattr(_device_copies, "_pin", refuse)
    copies = _device_copies.DeviceCopies(1 << 30)
    storages = [DeviceStorage(1, 1000) for _ in range(3)]
    for storage in storages:
        copies(storage)
    assert [one.fallbacks for one in storages] == [1, 1, 1] and len(calls) == 1
