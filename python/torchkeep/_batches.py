# SPDX-License-Identifier: BSD-3-Clause
"""The batches of a loader: counted when the loop has them, and begun in a way that a resume can repeat."""
import random
import sys
import weakref

from ._adapter import torch_module
from ._errors import InvalidArgumentError
from ._sampler import Place, ResumableSampler, mixed

_END = object()


class HostGenerators:
    """The generators that loaders draw from, as they are now: PyTorch's on the CPU, Python's, NumPy's, and `others`."""

    def __init__(self, *others):
        torch, numpy = torch_module(), sys.modules.get("numpy")
        self._torch = [(one, one.get_state()) for one in dict.fromkeys((torch.default_generator, *others))]
        self._python = random.getstate()
        self._numpy = numpy.random.get_state() if numpy is not None else None

    def put_back(self):
        for generator, state in self._torch:
            generator.set_state(state)
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)

    def moved(self):
        """Whether one of them was drawn from since."""
        return (random.getstate() != self._python
                or any(not one.get_state().equal(state) for one, state in self._torch)
                or self._numpy is not None and _differs(sys.modules["numpy"].random.get_state(), self._numpy))


def _differs(one, other):
    return one[2:] != other[2:] or (one[1] != other[1]).any()


def base_loader(loader):
    """The DataLoader in a loader that wraps one (Accelerate's, or an object that holds one), or None."""
    torch = torch_module()
    seen = set()
    while loader is not None and id(loader) not in seen:
        seen.add(id(loader))
        inner = getattr(loader, "base_dataloader", None)  # Accelerate's also say that they are DataLoaders
        if inner is None and isinstance(loader, torch.utils.data.DataLoader):
            return loader
        if inner is None:
            held = list(getattr(loader, "__dict__", {}).values())
            inner = next((one for one in held if isinstance(one, torch.utils.data.DataLoader)), None)
        if inner is None and hasattr(loader, "batch_sampler"):
            return loader  # not PyTorch's, but like it
        loader = inner
    return None


def restart_quietly(loader):
    """Makes a torchdata StatefulDataLoader that continues somewhere leave the random generators alone: the run that was
    not interrupted began its iterator, which draws from them, before the checkpoint."""
    base = base_loader(loader)
    if not hasattr(base, "next_iter_state") or "_get_iterator" in vars(base):
        return
    holder = weakref.ref(base)  # a cycle would keep its workers until some garbage collection

    def get_iterator():
        base = holder()
        if base.next_iter_state is None:
            return type(base)._get_iterator(base)
        generators = HostGenerators(*_own_generators(base))
        try:
            return type(base)._get_iterator(base)
        finally:
            generators.put_back()

    base._get_iterator = get_iterator


def continued(adapters, generators_are_back, warn):
    """Called by a run that has resumed: what begins a loader from here on leaves the generators alone that it put back."""
    for adapter in adapters:
        sampler = getattr(adapter, "sampler", None)
        if isinstance(sampler, ResumableSampler):
            sampler._warn = warn
            if generators_are_back:
                sampler._keep(HostGenerators())
        elif hasattr(adapter, "thing"):
            restart_quietly(adapter.thing)


def _own_generators(base):
    generator = getattr(base, "generator", None)
    return () if generator is None else (generator,)


class SeededWorker:
    """A worker_init_fn after which every batch of a worker begins with generators seeded by its place in the epoch: with
    the same ones after a resume, in whichever worker, also in workers that live on from one epoch to the next."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, worker):
        if self.inner is not None:
            self.inner(worker)
        from torch.utils.data._utils import fetch

        plain = fetch._MapDatasetFetcher.fetch

        def seeded(fetcher, index):
            first = index[0] if isinstance(index, (list, tuple)) and index else index
            if isinstance(first, Place):
                _seed(first.seed)
            return plain(fetcher, index)

        fetch._MapDatasetFetcher.fetch = seeded  # in this process only, which is the worker's


def _seed(seed):
    torch_module().default_generator.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


class Batches:
    """See batches()."""

    def __init__(self, loader, sampler=None, *, limit=None):
        self.loader = loader
        self.limit = limit
        self._looks = 0
        self._base = base_loader(loader)
        if self._base is None:
            raise InvalidArgumentError(f"no DataLoader was found in a {type(loader).__name__}, so nothing says how large "
                                       "its batches are; loop over it and call sampler.advance(n)")
        self.sampler = sampler if sampler is not None else _sampler_of(self._base)
        self._batch_size = _batch_size_of(self._base)
        if limit is not None and limit < 1:
            raise InvalidArgumentError(f"expected limit to be at least 1; found {limit}")
        if getattr(self._base, "in_order", True) is False:
            raise InvalidArgumentError("a loader with in_order=False gives batches in no fixed order, so no position "
                                       "can be saved; leave it True")

    def __len__(self):
        """Batches of a whole epoch."""
        return len(self.loader) if self.limit is None else min(self.limit, len(self.loader))

    def state_dict(self):
        """The sampler's."""
        return self.sampler.state_dict()

    def load_state_dict(self, state):
        """The sampler's."""
        self.sampler.load_state_dict(state)

    def __iter__(self):
        sampler = self.sampler
        if sampler._left_rest:
            sampler._say("the loop left an epoch early that a resume had begun in its middle: if it counts its batches "
                        "(itertools.islice), it counted those since the resume only; batches(loader, limit=n) counts all")
        sampler._left_rest = False
        sampler._begin()
        before = -(-sampler._used_before // self._batch_size)
        left = None if self.limit is None else self.limit - before
        try:
            for batch in self._drawn():
                if left is not None and left <= 0:
                    break  # what was drawn for it makes the next loop begin the next epoch
                # The loop has it now, however many more the loader has fetched.
                sampler.advance(min(self._batch_size, sampler._outstanding))
                sampler._in_loop = True
                yield batch
                left = left if left is None else left - 1
                if left == 0:
                    break
        except GeneratorExit:
            sampler._left_rest = before > 0 and self.limit is None and self._batches_remain()
            raise
        finally:
            sampler._in_loop = False

    def _drawn(self):
        """The loader's batches. Making the iterator leaves the generators alone: what it draws before it asks for the first
        sample comes from generators that are seeded by the sampler's seed and epoch, and then put back."""
        sampler = self.sampler
        self._seed_workers()
        own = _own_generators(self._base)
        sampler._keep(HostGenerators(*own))
        sampler._has_begun = True
        seed = mixed(sampler.state_dict()["seed"], sampler.epoch)
        for generator in own or (torch_module().default_generator,):
            generator.manual_seed(seed)
        try:
            iterator = iter(self.loader)
            batch = next(iterator, _END)
        finally:
            sampler._put_back()
        while batch is not _END:
            yield batch
            before = HostGenerators(*own) if self._reads_ahead_here() else None
            batch = next(iterator, _END)
            if before is not None and before.moved():
                sampler._say("the loader fetches a batch ahead in this process, and its samples draw random numbers: a "
                            "resumed run draws them anew. With num_workers=1 or more they depend on their place alone")

    def _reads_ahead_here(self):
        self._looks += 1  # the first batches tell it
        return self._looks < 4 and not getattr(self._base, "num_workers", 0) and self.sampler._outstanding > 0

    def _batches_remain(self):
        least = self._batch_size if getattr(self._base, "drop_last", False) else 1
        return self.sampler._core.remaining >= least

    def _seed_workers(self):
        base = self._base
        if getattr(base, "num_workers", 0) and not isinstance(base.worker_init_fn, SeededWorker):
            base.worker_init_fn = SeededWorker(base.worker_init_fn)
            base._iterator = None  # persistent workers that were made before
        self.sampler._mark = bool(getattr(base, "num_workers", 0))


def batches(loader, sampler=None, *, limit=None):
    """The batches of one epoch of a DataLoader that was made with a ResumableSampler:

        for batch in torchkeep.batches(loader):
            ...
            run.finish_step(loss=loss)

    A batch counts as used from the moment the loop has it, however many the loader fetched ahead. After a resume the loop
    continues in the middle of the epoch; where the checkpoint is of an epoch's last batch, the first loop is over at once,
    so that what the program does at the end of an epoch is done. Making the loader's iterator draws nothing from the random
    generators, and the workers' generators are seeded anew for each batch, by its place.

    Args:
        loader: a torch.utils.data.DataLoader, or what wraps one: Accelerate's, or an object that holds one.
        sampler: the ResumableSampler where the loader does not show it.
        limit: batches of an epoch at most; those before a resume count, which itertools.islice() cannot know.

    Raises:
        torchkeep.Error: invalid_argument, for a loader whose position cannot be known.
    """
    return Batches(loader, sampler, limit=limit)


def _sampler_of(loader):
    if hasattr(loader, "next_iter_state"):
        raise InvalidArgumentError("a StatefulDataLoader has a position of its own: track it, and loop over the loader itself")
    within, seen = [loader], []
    while within:  # batch samplers that wrap others: Accelerate's
        one = within.pop()
        if isinstance(one, ResumableSampler):
            return one
        if one is not None and not any(one is other for other in seen):
            seen.append(one)
            within += [getattr(one, name, None) for name in ("batch_sampler", "sampler")]
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
