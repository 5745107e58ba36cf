# SPDX-License-Identifier: BSD-3-Clause
"""Folders that ranks of ours write, judged by PyTorch: dcp.load on one to four ranks, dcp_to_torch_save, torch.load of
each file, zipfile; and by `torchkeep verify`."""
import os
import pathlib
import random
import subprocess
import sys
import warnings
import zipfile

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor._utils import _compute_local_shape_and_global_offset

BIN = pathlib.Path(os.environ["TORCHKEEP_BIN"])


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def coordinate_of(rank, mesh):
    parts = []
    for size in reversed(mesh):
        parts.insert(0, rank % size)
        rank //= size
    return parts


def parts_of(shape, mesh, placements):
    """What each rank of a mesh holds, by torch's own rules, and which ranks hold the same."""
    world = torch.Size(mesh).numel()
    held = []
    for rank in range(world):
        size, offset = _compute_local_shape_and_global_offset(
            torch.Size(shape), mesh, coordinate_of(rank, mesh), placements)
        # Whatever is sharded, the ranks that differ only along the mesh's replicated dimensions hold the same.
        same = [c for c, p in zip(coordinate_of(rank, mesh), placements) if isinstance(p, Shard)]
        held.append((list(offset), list(size), same))
    return [[offset, size, [r for r in range(world) if held[r][2] == same]] for offset, size, same in held]


def state_of(world):
    """Tensors of every kind of split, and plain state beside them."""
    torch.manual_seed(3)
    mesh = (2, 2) if world == 4 else (world,)
    last = [Replicate()] * (len(mesh) - 1)
    state = {
        "model": {"rows": torch.randn(7, 6), "columns": torch.randn(5, 9).to(torch.bfloat16), "few": torch.randn(3, 5),
                  "same": torch.randn(4, 4), "large": torch.randn(300, 2500), "bias": torch.randn(6),
                  "none": torch.zeros(0, 4), "count": torch.tensor(5)},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(7, 6)}},
                      "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0]}]},
        "epoch": 7, "name": "a run", "history": [1, 2, 3], "nothing": None,
    }
    placements = {"model.rows": [Shard(0), *last], "model.columns": [*last, Shard(1)], "model.few": [Shard(0), *last],
                  "model.same": [Replicate()] * len(mesh), "model.large": [Shard(0)] * len(mesh),
                  "optimizer.state.0.exp_avg": [Shard(0), *last]}
    if len(mesh) == 2:
        state["grid"] = torch.randn(9, 7, 3)
        placements["grid"] = [Shard(0), Shard(1)]
    state["tied"] = state["model"]["bias"]
    return state, mesh, placements


def tensor_at(state, name):
    for key in name.split("."):
        state = state[int(key) if key.isdigit() else key]
    return state


@pytest.fixture(scope="module", params=[1, 2, 3, 4])
def saved(request, tmp_path_factory):
    world = request.param
    folder = tmp_path_factory.mktemp("ranks")
    state, mesh, placements = state_of(world)
    parts = {name: parts_of(tensor_at(state, name).shape, mesh, p) for name, p in placements.items()}
    own = [{"rng": torch.full((5,), rank, dtype=torch.uint8), "seen": rank} for rank in range(world)]
    torch.save({"world": world, "state": state, "parts": parts, "own": own}, folder / "spec.pt")
    run(BIN / "shard_tool", folder / "step", folder / "spec.pt")
    return folder / "step", state, own


def same(a, b):
    """Equal in every bit, type and order."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def quietly(work):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()


def test_torchkeep_gives_back_just_what_was_saved(saved, tmp_path):
    folder, state, own = saved
    assert "good" in run(BIN / "torchkeep", "verify", folder)
    run(BIN / "torchkeep", "convert", folder, tmp_path / "whole.pt")
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert same(whole.pop("rank"), dict(enumerate(own)))
    assert same(whole, state)  # int keys, tuples and all
    assert whole["tied"].data_ptr() == whole["model"]["bias"].data_ptr()


def test_pytorchs_conversion_gives_the_same_tensors(saved, tmp_path):
    folder, state, own = saved
    quietly(lambda: dcp_to_torch_save(folder, tmp_path / "whole.pt"))
    whole = torch.load(tmp_path / "whole.pt", weights_only=False)
    assert same(whole["model"], state["model"]) and whole["epoch"] == 7 and whole["nothing"] is None
    assert same(whole["optimizer"]["state"]["0"], state["optimizer"]["state"][0])
    assert same(whole["optimizer"]["param_groups"], state["optimizer"]["param_groups"])
    assert same([whole["rank"][str(rank)] for rank in range(len(own))], own)


def test_each_file_is_a_checkpoint_of_torch_save_and_a_sound_zip(saved):
    folder, state, own = saved
    seen = 0
    for path in sorted(folder.glob("*.distcp")):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        mapped = torch.load(path, weights_only=True, mmap=True)
        about = mapped.pop("torchkeep")
        for name, value in mapped.items():
            if not isinstance(value, torch.Tensor) or name.startswith("rank."):
                continue
            whole = tensor_at(state, name)
            shape, offset = about["shards"].get(name, [list(whole.shape), [0] * whole.dim()])
            box = tuple(slice(begin, begin + size) for begin, size in zip(offset, value.shape))
            assert shape == list(whole.shape) and same(value, whole[box].clone())
            seen += value.numel()
        assert "good" in run(BIN / "torchkeep", "verify", path)
    assert seen >= sum(tensor.numel() for tensor in state["model"].values())
    assert torch.load(folder / "manifest.pt", weights_only=True)["torchkeep"]["world"] == len(own)


def load_together(rank, world, store, folder):
    """Every rank asks for its own parts, split in another way than they were saved."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    warnings.simplefilter("ignore")
    state = torch.load(folder.parent / "state.pt", weights_only=True)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    wanted = {name: [Shard(1)] for name in ("rows", "few", "large")} | {"columns": [Shard(0)], "same": [Replicate()]}
    model = {name: distribute_tensor(torch.zeros_like(tensor), mesh, wanted[name]) if name in wanted
             else torch.zeros_like(tensor) for name, tensor in state["model"].items()}
    loaded = {"model": model, "epoch": 0, "optimizer": {"state": {0: {"exp_avg": torch.zeros(7, 6)}}}}
    dcp.load(loaded, checkpoint_id=folder)
    for name, tensor in state["model"].items():
        there = model[name].full_tensor() if name in wanted else model[name]
        assert same(there, tensor), name
    assert loaded["epoch"] == 7 and same(loaded["optimizer"]["state"][0]["exp_avg"],
                                         state["optimizer"]["state"][0]["exp_avg"])
    dist.destroy_process_group()


def test_any_number_of_ranks_loads_it_with_dcp(saved):
    folder, state, _ = saved
    torch.save(state, folder.parent / "state.pt")
    # A process of its own: one that has computed before cannot be forked.
    subprocess.run([sys.executable, __file__, folder], check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_random_splits_are_loaded_by_pytorch_as_they_were(tmp_path):
    rng = random.Random(5)
    for case in range(12):
        mesh = tuple(rng.randrange(1, 4) for _ in range(rng.randrange(1, 3)))
        world = torch.Size(mesh).numel()
        state, parts = {}, {}
        for i in range(8):
            shape = [rng.choice([0, 1, 2, 3, 5, 8, 13]) for _ in range(rng.randrange(1, 4))]
            name = f"t{i}"
            state[name] = torch.randint(-100, 100, shape).to(rng.choice([torch.float32, torch.int64, torch.float16]))
            placements = [rng.choice([Replicate()] + [Shard(d) for d in range(len(shape))]) for _ in mesh]
            parts[name] = parts_of(shape, mesh, placements)
        folder = tmp_path / str(case)
        torch.save({"world": world, "state": state, "parts": parts, "own": [None] * world}, tmp_path / "spec.pt")
        run(BIN / "shard_tool", folder, tmp_path / "spec.pt")
        loaded = {name: torch.full_like(tensor, 99) for name, tensor in state.items()}
        quietly(lambda: dcp.load(loaded, checkpoint_id=folder, no_dist=True))
        assert same(loaded, state), (case, mesh, parts)
        run(BIN / "torchkeep", "convert", folder, tmp_path / "whole.pt", "--force")
        assert same(torch.load(tmp_path / "whole.pt", weights_only=True), state)


if __name__ == "__main__":
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    place = pathlib.Path(sys.argv[1])
    for ranks in (1, 2, 3, 4):
        mp.start_processes(load_together, (ranks, place.parent / f"store{ranks}", place), nprocs=ranks,
                           start_method="fork")
