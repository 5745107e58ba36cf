# SPDX-License-Identifier: BSD-3-Clause
"""The position in the data: mid-epoch, with workers that fetch ahead, and in the order the C++ sampler has."""
import re

import pytest
import torch
from conftest import ROOT

import torchkeep


class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 22

    def __getitem__(self, index):
        return torch.tensor(float(index))


def vectors():
    page = (ROOT / "docs" / "sample-order.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d ]+) \|$", page, re.MULTILINE)
    return [(int(size), int(seed), int(epoch), int(first), [int(n) for n in samples.split()])
            for size, seed, epoch, first, samples in rows]


@pytest.mark.parametrize("size, seed, epoch, first, samples", vectors())
def test_the_order_is_the_documented_one(size, seed, epoch, first, samples):
    sampler = torchkeep.ResumableSampler(size, seed=seed)
    sampler.load_state_dict({"order": "feistel-1", "size": size, "seed": seed, "epoch": epoch, "position": first})
    assert sampler.take(len(samples)) == samples


def test_the_documented_vectors_are_many():
    assert len(vectors()) > 10


def trained(directory, total, workers, until=None, plain=False):
    """Batches with dropout in between: the samples used, and a number that depends on every draw."""
    torch.manual_seed(0)
    sampler = torchkeep.ResumableSampler(Squares(), seed=5)
    loader = torch.utils.data.DataLoader(Squares(), batch_size=4, sampler=sampler, num_workers=workers)
    used, mixed = [], torch.zeros(())
    with torchkeep.Run(directory, save_every=3, durable=False, signals=False) as run:
        run.track(data=sampler, mixed=mixed)
        step = run.resume()
        while step < total:
            for batch in loader if plain else torchkeep.batches(loader):
                if plain:
                    sampler.advance(len(batch))
                used.append(batch.tolist())
                mixed += torch.nn.functional.dropout(batch, 0.5).sum()
                step += 1
                run.finish_step(mixed=mixed)
                if step == until:
                    run.close()
                    return used, mixed.item()
                if step == total:
                    break
        return used, mixed.item()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("until", [5, 6, 7, 8])  # an epoch is 6 steps; saves at 3, 6
def test_a_loader_continues_in_the_middle_of_an_epoch(workers, plain, until, tmp_path):
    if workers and until not in (5, 7):
        pytest.skip("the boundaries are tested without workers")
    whole, mixed = trained(tmp_path / "whole", 14, workers, plain=plain)
    assert sorted(sum(whole[:6], [])) == list(range(22))
    trained(tmp_path / "cut", 14, workers, until, plain=plain)
    rest, resumed = trained(tmp_path / "cut", 14, workers, plain=plain)
    assert rest == whole[until // 3 * 3:]
    assert resumed == mixed


def test_what_workers_fetched_ahead_does_not_count():
    sampler = torchkeep.ResumableSampler(Squares(), shuffle=False)
    loader = torch.utils.data.DataLoader(Squares(), batch_size=4, sampler=sampler, num_workers=2, prefetch_factor=2)
    batches = iter(torchkeep.batches(loader))
    next(batches), next(batches)
    assert sampler.state_dict() == {"order": "sequential", "size": 22, "seed": 0, "epoch": 0, "position": 8}


def test_beginning_an_epoch_draws_nothing_from_the_default_generator():
    sampler = torchkeep.ResumableSampler(Squares())
    loader = torch.utils.data.DataLoader(Squares(), batch_size=4, sampler=sampler)
    before = torch.get_rng_state()
    assert len(list(torchkeep.batches(loader))) == len(loader) == len(torchkeep.batches(loader))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_are_seeded_alike_in_a_resumed_epoch_and_differently_in_the_next():
    def seeds(sampler):
        loader = torch.utils.data.DataLoader(Draws(), batch_size=1, sampler=sampler, num_workers=1)
        return [float(batch) for batch in torchkeep.batches(loader)]

    sampler = torchkeep.ResumableSampler(3, seed=1)
    state = sampler.state_dict()
    first, second = seeds(sampler), seeds(sampler)
    assert first != second
    torch.manual_seed(123)
    sampler.load_state_dict(state)
    assert seeds(sampler) == first


class Draws(Squares):
    def __getitem__(self, index):
        return torch.rand(())


def test_shards_share_an_epoch():
    samplers = [torchkeep.ResumableSampler(10, seed=3, shard=i, shards=3) for i in range(3)]
    parts = [list(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [len(sampler) for sampler in samplers] == [4, 4, 4]
    assert set(sum(parts, [])) == set(range(10))
    assert len(torchkeep.ResumableSampler(10, shards=3, drop_uneven=True)) == 3


def test_another_data_set_is_a_mismatch_and_changes_nothing():
    sampler = torchkeep.ResumableSampler(10, seed=3)
    sampler.take(4)
    state = sampler.state_dict()
    with pytest.raises(torchkeep.Error) as caught:
        sampler.load_state_dict({**state, "size": 11, "position": 2})
    assert caught.value.code == "mismatch" and sampler.state_dict() == state


def test_loaders_whose_position_cannot_be_known_are_refused():
    sampler = torchkeep.ResumableSampler(Squares())
    with pytest.raises(ValueError, match="ResumableSampler"):
        torchkeep.batches(torch.utils.data.DataLoader(Squares()))
    with pytest.raises(ValueError, match="in_order"):
        torchkeep.batches(torch.utils.data.DataLoader(Squares(), sampler=sampler, num_workers=2, in_order=False))


def test_a_sampler_nobody_attends_to_is_warned_about(tmp_path):
    sampler = torchkeep.ResumableSampler(Squares())
    loader = torch.utils.data.DataLoader(Squares(), batch_size=4, sampler=sampler)
    with torchkeep.Run(tmp_path, durable=False, signals=False, on_event=(events := []).append) as run:
        run.track(data=sampler)
        run.resume()
        for _ in loader:
            run.finish_step()
    assert sum("'data' drew samples" in event.message for event in events) == 1


def test_a_stateful_data_loader_is_tracked_as_it_is(tmp_path):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def run_to(until):
        torch.manual_seed(0)
        loader = stateful.StatefulDataLoader(Squares(), batch_size=4, shuffle=True)
        used = []
        with torchkeep.Run(tmp_path, save_every=2, durable=False, signals=False) as run:
            run.track(data=loader)
            step = run.resume()
            for batch in loader:
                used.append(batch.tolist())
                step += 1
                run.finish_step()
                if step == until:
                    run.close()
                    break
        return used

    first = run_to(3)
    rest = run_to(None)
    assert rest[0] == first[2] and sorted(sum(first[:2] + rest, [])) == list(range(22))
