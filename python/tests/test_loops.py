# SPDX-License-Identifier: BSD-3-Clause
"""The loops over data that people write: cut anywhere and resumed, they are the loop that never stopped, bit for bit; and
what cannot be is said."""
import itertools
import random
import threading

import numpy
import pytest
import torch
from torch import nn

import torchkeep

SAMPLES, BATCH = 22, 4  # 6 batches an epoch, the last one smaller


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return torch.tensor([float(index)])


class Augmented(Numbers):
    """Draws from all three generators."""

    def __getitem__(self, index):
        return torch.tensor([index + torch.rand(()).item() + random.random() + numpy.random.rand()], dtype=torch.float64)


class Yielding(torch.utils.data.DataLoader):
    """A loader whose iterator is a generator, and that draws numbers of its own first."""

    def __iter__(self):
        random.random(), torch.rand(3)
        yield from super().__iter__()


class Ahead:
    """A loader that wraps one, and is a batch ahead of what it gives, as Accelerate's and prefetchers are."""

    def __init__(self, *arguments, **options):
        self.loader = torch.utils.data.DataLoader(*arguments, **options)

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        earlier = None
        for batch in self.loader:
            if earlier is not None:
                yield earlier
            earlier = batch
        if earlier is not None:
            yield earlier


class Program:
    """Trains with dropout; `loop(program)` is a whole training, and stops where `self.cut` says."""

    def __init__(self, loop, kind=torch.utils.data.DataLoader, dataset=None, tracked=None, **options):
        self.loop, self.kind, self.options, self.tracked = loop, kind, options, tracked
        self.dataset = dataset or Numbers()

    def run(self, directory, cut=None):
        for seed in (random.seed, numpy.random.seed, torch.manual_seed):
            seed(0)
        self.cut, self.log, self.events = cut, [], []
        self.sampler = torchkeep.ResumableSampler(self.dataset, seed=5)
        self.loader = self.kind(self.dataset, batch_size=BATCH, sampler=self.sampler, **self.options)
        self.model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        with torchkeep.Run(directory, save_every=1, durable=False, signals=False, on_event=self.events.append) as self.training:
            self.training.track(model=self.model, optimizer=self.optimizer, scheduler=self.scheduler, data=self.sampler)
            self.training.resume()
            try:
                self.loop(self)
            except Cut:
                self.training.close()
        return self

    def step(self, batch, before_the_end=lambda: None):
        self.optimizer.zero_grad()
        loss = self.model(batch.float()).square().mean()
        loss.backward()
        self.optimizer.step()
        before_the_end()
        self.training.finish_step(loss=loss)
        self.log.append((batch.tolist(), loss.item(), self.scheduler.get_last_lr()[0]))
        if self.training.step == self.cut:
            raise Cut

    def warnings(self):
        return [event.message for event in self.events if event.is_warning]


class Cut(Exception):
    pass


EPOCHS = 3


def by_epochs(program):
    for _ in range(program.sampler.epoch, EPOCHS):
        for batch in torchkeep.batches(program.loader):
            program.step(batch)
        program.scheduler.step()


def by_steps(program):
    while program.training.step < EPOCHS * 6:
        for batch in torchkeep.batches(program.loader):
            program.step(batch)
        program.scheduler.step()


def for_ever(program):
    def cycle():
        while True:
            yield from torchkeep.batches(program.loader)
            program.scheduler.step()

    batches = cycle()
    while program.training.step < EPOCHS * 6 - 1:
        program.step(next(batches))


def end_before_the_save(program):
    def at_the_end():
        if program.sampler.remaining == 0:
            program.scheduler.step()

    for _ in range(program.sampler.epoch, EPOCHS):
        for batch in torchkeep.batches(program.loader):
            program.step(batch, at_the_end)


def limited(program):
    for _ in range(program.sampler.epoch, EPOCHS):
        for batch in torchkeep.batches(program.loader, limit=4):
            program.step(batch)
        program.scheduler.step()


LOOPS = [by_epochs, by_steps, for_ever, end_before_the_save, limited]


@pytest.mark.parametrize("loop, kind", [*((loop, torch.utils.data.DataLoader) for loop in LOOPS),
                                        *((loop, kind) for loop in (by_epochs, for_ever) for kind in (Yielding, Ahead))])
def test_a_loop_that_was_cut_anywhere_is_the_loop_that_never_stopped(loop, kind, tmp_path):
    program = Program(loop, kind)
    whole = program.run(tmp_path / "whole").log
    assert len({rate for _, _, rate in whole}) >= EPOCHS - 1
    for cut in (2, 4, 6, 7, 12):  # 4 ends a limited epoch, 6 and 12 a whole one
        first = program.run(tmp_path / str(cut), cut).log
        rest = program.run(tmp_path / str(cut))
        assert first + rest.log == whole, cut
        assert rest.warnings() == []


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"num_workers": 2, "persistent_workers": True}], ids=str)
@pytest.mark.parametrize("kind", [torch.utils.data.DataLoader, Ahead])
def test_what_workers_draw_depends_on_a_batchs_place_alone(kind, options, tmp_path):
    program = Program(by_epochs, kind, Augmented(), **options)
    whole = program.run(tmp_path / "whole").log
    assert program.run(tmp_path / "cut", 8).log + program.run(tmp_path / "cut").log == whole
    assert len({sample % 1 for batch, _, _ in whole for (sample,) in batch}) == len(whole) * BATCH - EPOCHS * 2


def test_a_workers_own_beginning_is_called_too():
    sampler = torchkeep.ResumableSampler(4)
    loader = torch.utils.data.DataLoader(Told(4), batch_size=2, sampler=sampler, num_workers=1, worker_init_fn=tell)
    assert torch.cat(list(torchkeep.batches(loader))).tolist() == [7, 7, 7, 7]


class Told(Numbers):
    def __init__(self, size):
        self.size = size
        self.number = 0

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.tensor(self.number)


def tell(worker):
    torch.utils.data.get_worker_info().dataset.number = 7


def test_augmentation_in_this_process_is_continued_unless_the_loader_is_ahead_which_is_said(tmp_path):
    for kind, exact in ((torch.utils.data.DataLoader, True), (Yielding, True), (Ahead, False)):
        program = Program(by_epochs, kind, Augmented())
        whole = program.run(tmp_path / f"{kind.__name__} whole").log
        folder = tmp_path / kind.__name__
        first, said = program.run(folder, 8).log, program.warnings()
        assert (first + program.run(folder).log == whole) is exact
        assert sum("a batch ahead" in message for message in said) == (not exact)


def test_a_loop_that_counts_its_batches_itself_is_told_of_the_limit(tmp_path):
    def counted(program):
        for _ in range(EPOCHS):
            for batch in itertools.islice(torchkeep.batches(program.loader), 3):
                program.step(batch)

    program = Program(counted)
    program.run(tmp_path, 2)
    assert program.warnings() == []
    program.run(tmp_path)
    assert sum("limit=n" in message for message in program.warnings()) == 1


def test_a_loader_without_a_known_batch_size_is_refused():
    sampler = torchkeep.ResumableSampler(8)
    with pytest.raises(torchkeep.InvalidArgumentError, match="no DataLoader was found in a list_iterator"):
        torchkeep.batches(iter([1, 2]), sampler)


class Stateful:
    """A training over torchdata's loader, which has its own position."""

    def __init__(self, module, dropout, **options):
        self.module, self.dropout, self.options = module, dropout, options

    def run(self, directory, cut=None):
        torch.manual_seed(0)
        loader = self.module.StatefulDataLoader(Numbers(), batch_size=BATCH, shuffle=True, **self.options)
        model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(self.dropout), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        log = []
        with torchkeep.Run(directory, save_every=1, durable=False, signals=False) as run:
            run.track(model=model, optimizer=optimizer, data=loader)
            run.resume()
            while run.step < 14 and run.step != cut:
                for batch in loader:
                    optimizer.zero_grad()
                    loss = model(batch).square().mean()
                    loss.backward()
                    optimizer.step()
                    run.finish_step()
                    log.append((batch.tolist(), loss.item()))
                    if run.step in (cut, 14):
                        break
            run.close()
        return log


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}], ids=str)
def test_a_stateful_data_loader_continues_with_the_generators_of_the_run_that_never_stopped(options, tmp_path):
    program = Stateful(pytest.importorskip("torchdata.stateful_dataloader"), 0.5, **options)
    whole = program.run(tmp_path / "whole")
    for cut in (3, 6, 8):
        assert program.run(tmp_path / str(cut), cut) + program.run(tmp_path / str(cut)) == whole, cut


def accumulate(directory, micro_steps, zero, **options):
    """The warnings of a training that steps its optimizer in every `micro_steps`-th finish_step()."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torchkeep.Run(directory, durable=False, signals=False, on_event=(events := []).append, **options) as run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps(6):
            if zero(step):
                optimizer.zero_grad()
            model(torch.randn(4, 3)).square().mean().backward()
            if step % micro_steps == micro_steps - 1:
                optimizer.step()
            run.finish_step()
    return [event.message for event in events if event.is_warning]


def test_gradients_that_cross_a_finish_step_and_are_not_saved_are_said_once(tmp_path):
    said = accumulate(tmp_path / "a", 2, lambda step: step % 2 == 0)
    assert len(said) == 1 and "gradients=True" in said[0]
    assert accumulate(tmp_path / "b", 2, lambda step: step % 2 == 0, gradients=True) == []


def test_gradients_that_are_dropped_before_they_are_used_again_are_no_state(tmp_path):
    assert accumulate(tmp_path / "a", 1, lambda step: True) == []
    assert accumulate(tmp_path / "b", 2, lambda step: True) == []  # a step was skipped, as GradScaler does


def test_the_gradients_of_an_optimizer_that_steps_in_another_thread_are_not_touched(tmp_path):
    class Guarded(nn.Parameter):
        """Knows the threads that looked at its gradient, which PyTorch sets without the GIL."""

        readers = set()

        @property
        def grad(self):
            self.readers.add(threading.get_ident())
            return torch.Tensor.grad.__get__(self)

        @grad.setter
        def grad(self, value):
            torch.Tensor.grad.__set__(self, value)

    model = nn.Module()
    model.weight = Guarded(torch.ones(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def learn():
        model.weight.sum().backward()
        optimizer.step()
        model.weight.sum().backward()  # and another step to come

    with torchkeep.Run(tmp_path, durable=False, signals=False, on_event=lambda event: None) as run:
        run.track(model=model, optimizer=optimizer)
        run.resume()
        run.finish_step()
        learner = threading.Thread(target=learn)
        learner.start()
        learner.join()
        for _ in range(2):
            run.finish_step()
    assert threading.get_ident() not in Guarded.readers and Guarded.readers
