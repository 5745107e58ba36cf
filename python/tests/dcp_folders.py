# SPDX-License-Identifier: BSD-3-Clause
"""Folders that torch.distributed.checkpoint of the installed PyTorch writes, on one rank and on several.

    python dcp_folders.py FOLDER    writes all of them into FOLDER/<name>
"""
import os
import sys
import warnings

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp

RANKS = 4


def numbers(*shape, dtype=torch.float32, start=0):
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float64) + start).reshape(shape).to(dtype)


def training():
    """A model and an optimizer that has stepped, and what a loop keeps beside them."""
    torch.manual_seed(5)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(torch.randn(4, 5)).square().sum().backward()
    optimizer.step()
    return model, optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])


def nested_state():
    model, optimizer, scheduler = training()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
            "step": 7, "loss": 0.25, "name": "a run", "nothing": None, "big": 2**80, "flags": (True, "x", 1.5),
            "history": [1, 2, 3], "parts": [{"a": torch.ones(2)}, {"b": torch.zeros(3, dtype=torch.int64)}],
            "pair": (torch.arange(3), 4), "raw": b"\0\1\xff", "dotted.key": {"x.y": torch.ones(1)}}


def odd_tensors():
    special = torch.tensor([0.0, -0.0, float("nan"), float("inf"), 1e-45])
    return {
        "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "special": special,
        "transposed": numbers(3, 4).t(), "channels_last": numbers(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "slice": numbers(6, 4)[2:5, 1:3], "expanded": torch.ones(1, 3).expand(4, 3),
        **{str(dtype).removeprefix("torch."): numbers(3, 5, dtype=dtype) for dtype in (
            torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8,
            torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16)},
    }


def save_alone(folder):
    """What one process saves without a process group."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    dcp.save(nested_state(), checkpoint_id=folder / "nested", no_dist=True)
    dcp.save(odd_tensors(), checkpoint_id=folder / "odd", no_dist=True)
    dcp.save({}, checkpoint_id=folder / "nothing", no_dist=True)
    many = {f"t{i}": numbers(i + 1, 3, start=i) for i in range(9)} | {"n": 3}
    dcp.save(many, storage_writer=dcp.FileSystemWriter(folder / "threads", thread_count=3), no_dist=True)
    dcp.save(many, storage_writer=dcp.FileSystemWriter(folder / "file_per_item", single_file_per_rank=False), no_dist=True)
    for flat in (False, True):
        model, optimizer, _ = training()
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        state, optimizer_state = get_state_dict(model, optimizer, options=options)
        dcp.save({"model": state, "optimizer": optimizer_state}, no_dist=True,
                 checkpoint_id=folder / ("flat_optimizer" if flat else "named_optimizer"))


def save_together(rank, world, folder):
    """What `world` ranks save, each its own part."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    full = numbers(7, 6)
    line = init_device_mesh("cpu", (world,))
    state = {
        "rows": distribute_tensor(full, line, [Shard(0)]),
        "columns": distribute_tensor(full, line, [Shard(1)]),
        "short": distribute_tensor(numbers(3, 5), line, [Shard(0)]),  # the last rank has nothing
        "same": distribute_tensor(full, line, [Replicate()]),
        "plain": full[:2], "step": 3, "list": [1, {"x": torch.ones(2)}],
    }
    if world == 4:
        square = init_device_mesh("cpu", (2, 2))
        state["grid"] = distribute_tensor(numbers(5, 7, 3), square, [Shard(0), Shard(1)])
        state["twice"] = distribute_tensor(numbers(9, 2), square, [Shard(0), Shard(0)])
        state["copies"] = distribute_tensor(numbers(6, 5), square, [Replicate(), Shard(1)])
        state["halves"] = distribute_tensor(numbers(4, 5, dtype=torch.bfloat16), square, [Shard(1), Replicate()])
    dcp.save(state, checkpoint_id=folder / f"ranks{world}")
    dcp.save({"rows": state["rows"], "plain": state["plain"], "step": 3}, checkpoint_id=folder / f"own_metadata{world}",
             use_collectives=False)


def save_fsdp(folder):
    """A model under FSDP2, its optimizer after a step, by get_state_dict as the documents have it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict
    from torch.distributed.fsdp import fully_shard

    for flat in (False, True):
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 3))
        for layer in model:
            fully_shard(layer)
        fully_shard(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        model(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        state, optimizer_state = get_state_dict(model, optimizer, options=options)
        # torchtitan puts the model's tensors at the top.
        whole = {**state, "optimizer": optimizer_state, "train_state": {"step": 1}} if flat else {
            "model": state, "optimizer": optimizer_state}
        dcp.save(whole, checkpoint_id=folder / ("titan" if flat else "fsdp"))


def run_rank(rank, world, folder):
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    save_together(rank, world, folder)
    if world == 2:
        save_fsdp(folder)
    dist.barrier()
    dist.destroy_process_group()


def write_all(folder):
    save_alone(folder)
    for world in (2, RANKS):
        mp.start_processes(run_rank, (world, folder), nprocs=world, start_method="fork")  # PyTorch is imported once


if __name__ == "__main__":
    import pathlib

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    write_all(pathlib.Path(sys.argv[1]))
