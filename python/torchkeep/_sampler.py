# SPDX-License-Identifier: BSD-3-Clause
"""Which samples come next, and how to come back to that point."""
from . import _core
from ._errors import InvalidArgumentError

_GOLDEN = 0x9E3779B97F4A7C15


class ResumableSampler:
    """A sampler for torch.utils.data.DataLoader whose position is part of a checkpoint.

    The order is computed from `seed` and the epoch (docs/sample-order.md), the same as the C++ ResumableSampler's; any
    position is reached at once. It knows which samples the training loop has *used*: loop over
    `torchkeep.batches(loader)`, which tells it, or call `advance(n)`. What workers fetched ahead does not count.

        sampler = torchkeep.ResumableSampler(dataset, seed=1)
        loader = torch.utils.data.DataLoader(dataset, batch_size=32, sampler=sampler, num_workers=2)
        run.track(data=sampler)
        for batch in torchkeep.batches(loader): ...

    Args:
        data: the data set, or the number of its samples.
        shuffle: a new random order every epoch; False: 0, 1, 2 ...
        seed: chooses the orders, 0 to 2**64 - 1.
        shard, shards: this worker's number among those that share every epoch; it gets positions shard,
            shard + shards ...
        drop_uneven: what happens when `shards` does not divide the samples. False: the first samples of the epoch are
            given once more. True: the last ones are left out.
    """

    def __init__(self, data, *, shuffle=True, seed=0, shard=0, shards=1, drop_uneven=False):
        size = data if isinstance(data, int) else len(data)
        self._core = _core.Sampler(size, shuffle, seed, shard, shards, drop_uneven)
        self._length = size // shards + (size % shards != 0 and not drop_uneven)
        self._outstanding = 0  # drawn and not used yet
        self._has_begun = False  # _begin() was called for the iterator to come
        self._rng = None  # the default generator's state, to be put back when a loader begins after a resume

    def __len__(self):
        """Samples of a whole epoch in this shard."""
        return self._length

    def __iter__(self):
        """The rest of the epoch; at its end, the next one."""
        if not self._has_begun:
            self._begin()
        self._has_begun = False
        self._put_rng_back()
        while (sample := self._core.take_one()) is not None:
            self._outstanding += 1
            yield sample

    def _begin(self):
        self._core.reset()
        self._outstanding = 0

    def advance(self, count):
        """The loop used the next `count` samples that were drawn."""
        self._core.advance(count)
        self._outstanding -= count

    def take(self, count):
        """Draws up to `count` samples and counts them as used, for loops without a loader; empty when the epoch is
        over, and then the next call begins the next epoch."""
        samples = self._core.take(count)
        if not samples:
            self._core.reset()
        return samples

    @property
    def epoch(self):
        """Number of the epoch, from 0."""
        return self._core.epoch

    @property
    def remaining(self):
        """Samples of this epoch that this shard has not used yet."""
        return self._core.remaining

    @property
    def is_unattended(self):
        """True when samples were drawn, but none was ever reported as used."""
        return self._core.is_unattended

    def state_dict(self):
        """{"order", "size", "seed", "epoch", "position"}."""
        return self._core.state_dict()

    def load_state_dict(self, state):
        """Continues where `state` was taken, with its seed. Raises torchkeep.Error (mismatch) for another data set."""
        self._core.load_state_dict(state)
        self._outstanding = 0
        self._has_begun = False

    def _put_rng_back(self):
        # Making a DataLoader's iterator draws from the default generator. The run that was not interrupted made it
        # earlier; after a resume that draw must not count.
        if self._rng is not None:
            import torch

            torch.set_rng_state(self._rng)
            self._rng = None


class Batches:
    """See batches()."""

    def __init__(self, loader, sampler=None):
        self.loader = loader
        self.sampler = sampler if sampler is not None else _sampler_of(loader)
        self._batch_size = _batch_size_of(loader)
        if getattr(loader, "in_order", True) is False:
            raise InvalidArgumentError("a loader with in_order=False gives batches in no fixed order, so no position "
                                       "can be saved; leave it True")

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        sampler = self.sampler
        for batch in self._begin():
            # The loop has it now, however many more the loader's workers have fetched.
            sampler.advance(min(self._batch_size, sampler._outstanding))
            yield batch

    def _begin(self):
        """An iterator whose making leaves the generators alone: workers are seeded by the sampler's seed and epoch, so
        that they are seeded alike after a resume."""
        import torch

        generator = getattr(self.loader, "generator", None) or torch.default_generator
        state = generator.get_state()
        self.sampler._begin()
        self.sampler._has_begun = True
        self.sampler._rng = None
        position = self.sampler.state_dict()
        generator.manual_seed((position["seed"] * _GOLDEN + position["epoch"]) % 2**63)
        try:
            return iter(self.loader)
        finally:
            generator.set_state(state)


def batches(loader, sampler=None):
    """The batches of one epoch of a DataLoader that was made with a ResumableSampler:

        for batch in torchkeep.batches(loader):
            ...
            run.finish_step(loss=loss)

    A batch counts as used from the moment the loop has it, however many the workers fetched ahead. After a resume the
    loop continues in the middle of the epoch. Making the loader's iterator draws nothing from the random generators.
    """
    return Batches(loader, sampler)


def _sampler_of(loader):
    for sampler in (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)):
        if isinstance(sampler, ResumableSampler):
            return sampler
    raise InvalidArgumentError("expected a DataLoader made with sampler=torchkeep.ResumableSampler(...)")


def _batch_size_of(loader):
    batch_sampler = getattr(loader, "batch_sampler", None)
    if batch_sampler is None:
        return 1  # no batches: every item is a sample
    size = getattr(batch_sampler, "batch_size", None)
    if size is None:
        raise InvalidArgumentError(f"a {type(batch_sampler).__name__} does not say how large its batches are; loop over "
                                   "the loader itself and call sampler.advance(n)")
    return size
