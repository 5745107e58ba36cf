# SPDX-License-Identifier: BSD-3-Clause
"""Which samples come next, and how to come back to that point."""
import warnings

from . import _core

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def mixed(*numbers):
    """A seed that depends on every bit of these numbers (SplitMix64's finaliser after each)."""
    state = 0
    for number in numbers:
        state = (state ^ number) + _GOLDEN & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


class Place(int):
    """A sample's number that also says with which `seed` a worker fetches the batch that it begins."""


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
        self._shard, self._shards = shard, shards
        self._length = size // shards + (size % shards != 0 and not drop_uneven)
        self._outstanding = 0  # drawn and not used yet
        self._has_begun = False  # _begin() was called for the iterator to come
        self._kept = None  # generators to be put back before the first sample is drawn
        self._begun_at = 0  # the position where the loop over the epoch, or over the rest of it, began
        self._drawn = 0  # since
        self._mark = False  # samples go to workers that seed themselves
        self._in_loop = False  # over batches()
        self._told_end = False  # `remaining` told the loop that the epoch is over
        self._left_rest = False  # the rest of an epoch after a resume was left before its end
        self._said = set()
        self._warn = None  # the run's

    def __len__(self):
        """Samples of a whole epoch in this shard."""
        return self._length

    def __iter__(self):
        """The rest of the epoch; at its end, the next one."""
        if not self._has_begun:
            self._begin()
        self._has_begun = False
        self._put_back()
        while (sample := self._core.take_one()) is not None:
            self._outstanding += 1
            yield self._placed(sample) if self._mark else sample
            self._drawn += 1

    def _placed(self, sample):
        place = Place(sample)
        state = self._core.state_dict()
        position = self._begun_at + self._shard + self._drawn * self._shards
        place.seed = mixed(state["seed"], state["epoch"], position)
        return place

    def _begin(self):
        self._core.reset()
        self._outstanding = self._drawn = 0
        self._told_end = False
        self._begun_at = self._core.state_dict()["position"]

    @property
    def _used_before(self):
        """Samples of this epoch that this shard used before the loop over the rest of it began."""
        return -(-self._begun_at // self._shards)

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
        """Samples of this epoch that this shard has not used yet. Where a loop over batches() sees 0 here, it knows that
        this is the epoch's last batch, and a checkpoint of this step is of the next epoch's beginning."""
        left = self._core.remaining
        self._told_end = self._told_end or (left == 0 and self._in_loop)
        return left

    @property
    def is_unattended(self):
        """True when samples were drawn, but none was ever reported as used."""
        return self._core.is_unattended

    def state_dict(self):
        """{"order", "size", "seed", "epoch", "position"}."""
        state = self._core.state_dict()
        return {**state, "epoch": state["epoch"] + 1, "position": 0} if self._told_end else state

    def load_state_dict(self, state):
        """Continues where `state` was taken, with its seed. Raises torchkeep.Error (mismatch) for another data set."""
        self._core.load_state_dict(state)
        self._outstanding = 0
        self._has_begun = self._told_end = self._left_rest = False

    def _keep(self, generators):
        """Making a DataLoader's iterator draws from generators. The run that was not interrupted made it earlier; after a
        resume that draw must not count: `generators` are put back before the first sample is drawn."""
        self._kept = generators

    def _put_back(self):
        if self._kept is not None:
            self._kept.put_back()
            self._kept = None

    def _say(self, message):
        """Warns of something that will not be exact, once: through the run that tracks this sampler, if there is one."""
        if message not in self._said:
            self._said.add(message)
            (self._warn or warnings.warn)(message)
