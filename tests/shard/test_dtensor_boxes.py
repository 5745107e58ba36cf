# SPDX-License-Identifier: BSD-3-Clause
"""The boxes of placements are those that the installed torch computes for a DTensor."""
import os
import pathlib
import random
import subprocess

import torch
from torch.distributed.tensor import Partial, Replicate, Shard
from torch.distributed.tensor._utils import _compute_local_shape_and_global_offset
from torch.distributed.tensor.placement_types import _StridedShard

TOOL = pathlib.Path(os.environ["TORCHKEEP_BIN"]) / "box_tool"


def ours(cases):
    lines = "".join(" ".join(",".join(map(str, part)) or "-" for part in case) + "\n" for case in cases)
    output = subprocess.run([TOOL], input=lines, capture_output=True, text=True, check=True, timeout=120).stdout
    return output.splitlines()


def as_text(placement):
    if isinstance(placement, _StridedShard):
        return f"T{placement.dim}/{placement.split_factor}"
    return f"S{placement.dim}" if isinstance(placement, Shard) else "P" if isinstance(placement, Partial) else "R"


def torch_indices(shape, mesh, coordinate, placements):
    """The indices of each dimension that a rank holds, by the placements' own splitting of a range."""
    dims = [torch.arange(size) for size in shape]
    for parts, index, placement in zip(mesh, coordinate, placements):
        if isinstance(placement, (Shard, _StridedShard)):
            flat = dims[placement.dim].view([1] * placement.dim + [-1])
            shards, _ = placement._split_tensor(flat, parts, with_padding=False, contiguous=False)
            dims[placement.dim] = shards[index].reshape(-1)
    return dims


def random_case(rng, placement_of):
    dims = rng.randrange(1, 4)
    shape = tuple(rng.choice([0, 1, 2, 3, 5, 7, 8, 11, 12]) if rng.random() < 0.3 else rng.randrange(1, 17)
                  for _ in range(dims))
    mesh = tuple(rng.randrange(1, 5) for _ in range(rng.randrange(1, 4)))
    coordinate = [rng.randrange(size) for size in mesh]
    return shape, mesh, coordinate, [placement_of(rng, dims) for _ in mesh]


def test_shard_and_replicate_give_torchs_boxes():
    rng = random.Random(1)
    cases = [random_case(rng, lambda rng, dims: rng.choice([Replicate()] + [Shard(d) for d in range(dims)]))
             for _ in range(5000)]
    answers = ours([(*case[:3], map(as_text, case[3])) for case in cases])
    for (shape, mesh, coordinate, placements), answer in zip(cases, answers, strict=True):
        size, offset = _compute_local_shape_and_global_offset(torch.Size(shape), mesh, coordinate, placements)
        expected = f"{','.join(map(str, size))} {','.join(map(str, offset))}"
        assert answer == expected, (shape, mesh, coordinate, placements)


def test_strided_shard_gives_torchs_box_or_is_refused_where_it_is_none():
    rng = random.Random(2)

    def placement(rng, dims):
        dim = rng.randrange(dims)
        return rng.choice([Replicate(), Shard(dim), _StridedShard(dim, split_factor=rng.randrange(1, 5))])

    cases = [random_case(rng, placement) for _ in range(5000)]
    answers = ours([(*case[:3], map(as_text, case[3])) for case in cases])
    seen = {"box": 0, "refused": 0}
    for (shape, mesh, coordinate, placements), answer in zip(cases, answers, strict=True):
        if not any(isinstance(one, _StridedShard) for one in placements):
            continue
        indices = torch_indices(shape, mesh, coordinate, placements)
        is_box = all(len(one) == 0 or one.tolist() == list(range(one[0], one[0] + len(one))) for one in indices)
        seen["box" if is_box else "refused"] += 1
        if not is_box:
            assert answer == "refused", (shape, mesh, coordinate, placements)
            continue
        size, offset = _compute_local_shape_and_global_offset(torch.Size(shape), mesh, coordinate, placements)
        expected = f"{','.join(map(str, size))} {','.join(map(str, offset))}"
        assert answer == expected, (shape, mesh, coordinate, placements)
    assert min(seen.values()) > 500, seen


def test_partial_is_refused():
    assert ours([((4, 2), (2,), (0,), [as_text(Partial())])]) == ["refused"]
