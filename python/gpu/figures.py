# SPDX-License-Identifier: BSD-3-Clause
"""Saving and loading a state of the device beside torch.save and PyTorch's distributed checkpoint, in one process."""
import collections.abc
import os
import pathlib
import shutil
import time

import torch

import torchkeep

COUNT = 64  # tensors


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(device: str, call: collections.abc.Callable[[], object]) -> float:
    begin = now(device)
    call()
    return now(device) - begin


def pinned_copies(state: dict, device: str) -> tuple[float, float]:
    """Seconds of a plain copy of the state to pinned memory, and back: what no save or load can beat."""
    first = next(iter(state.values()))
    buffer = torch.empty(first.shape, dtype=first.dtype, pin_memory=device == "cuda")

    def down():
        for tensor in state.values():
            buffer.copy_(tensor, non_blocking=True)

    def up():
        for tensor in state.values():
            tensor.copy_(buffer, non_blocking=True)

    spare = {name: tensor.clone() for name, tensor in list(state.items())[:1]}
    to_host = timed(device, down)
    kept = {name: tensor.to("cpu", copy=True) for name, tensor in state.items()}
    to_device = timed(device, up)
    for name, tensor in state.items():
        tensor.copy_(kept[name])
    assert all(torch.equal(tensor, state[name]) for name, tensor in spare.items())
    return to_host, to_device


def dcp_async(state: dict, folder: pathlib.Path, device: str) -> tuple[float, float]:
    """Seconds until DCP's async_save lets the training go on, and until the checkpoint is there."""
    import torch.distributed.checkpoint as dcp

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
    begin = now(device)
    future = dcp.async_save(state, checkpoint_id=folder / "dcp")
    blocked = now(device) - begin
    future.result()
    return blocked, now(device) - begin


def run_save(state: dict, folder: pathlib.Path, device: str) -> tuple[float, float]:
    """Seconds that the third save of a run blocks its training, and until the checkpoint is there."""
    module = torch.nn.Module()
    for name, tensor in state.items():
        module.register_parameter(f"p{name}", torch.nn.Parameter(tensor))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
    with torchkeep.Run(folder / "run", save_every=1, keep_last=1, on_event=lambda event: None) as run:
        run.track(model=module, optimizer=optimizer)
        for step in run.steps(4):  # the last one is saved before its finish_step() returns
            optimizer.step()
            if step == 3:
                break
            begin = now(device)
            run.finish_step()
            blocked = now(device) - begin
            run.wait()
            whole = now(device) - begin
    return blocked, whole


def load_module(state: dict, folder: pathlib.Path, device: str) -> tuple[float, float]:
    """Seconds of load_into() of a module, and of torch.load() and load_state_dict()."""
    module = torch.nn.ParameterDict({f"p{name}": torch.nn.Parameter(tensor.clone()) for name, tensor in state.items()})
    torchkeep.save({"model": module.state_dict()}, folder / "module.pt", durable=False)
    ours = timed(device, lambda: torchkeep.load_into(folder / "module.pt", model=module))
    assert all(torch.equal(module[f"p{name}"], tensor) for name, tensor in state.items()), "load_into gave other bits"

    def theirs():
        module.load_state_dict(torch.load(folder / "module.pt", weights_only=True)["model"])

    return ours, timed(device, theirs)


def of(gigabytes: float):
    def figures(folder: pathlib.Path, device: str) -> str:
        each = max(1, int(gigabytes * 1e9 / 4 / COUNT))
        state = {str(i): torch.randn(each, device=device) for i in range(COUNT)}
        total = sum(tensor.nbytes for tensor in state.values())
        free = shutil.disk_usage(folder).free
        assert free > 3 * total, f"{free / 1e9:.0f} GB free on the disk, {3 * total / 1e9:.0f} GB are needed"
        seen = measured(state, folder, device)
        return "; ".join(f"{name} {total / seconds / 1e9:.2f} GB/s" if rate else f"{name} {1000 * seconds:.0f} ms"
                         for name, seconds, rate in seen)

    return figures


def measured(state: dict, folder: pathlib.Path, device: str) -> list[tuple[str, float, bool]]:
    """(what, seconds, whether to say it as bytes a second)."""
    to_host, to_device = pinned_copies(state, device)
    seen = [("pinned D2H", to_host, True), ("pinned H2D", to_device, True)]
    seen.append(("torchkeep.save (durable)", timed(device, lambda: torchkeep.save(state, folder / "ours.pt")), True))

    def theirs():
        torch.save(state, folder / "theirs.pt")
        with open(folder / "theirs.pt", "rb") as file:
            os.fsync(file.fileno())

    seen.append(("torch.save and fsync", timed(device, theirs), True))
    ours, peer = load_module(state, folder, device)
    seen += [("torchkeep.load_into(module)", ours, True), ("torch.load and load_state_dict", peer, True)]
    seen.append(("torchkeep.load", timed(device, lambda: torchkeep.load(folder / "ours.pt")), True))
    seen.append(("torch.load", timed(device, lambda: torch.load(folder / "theirs.pt", weights_only=True)), True))
    for file in ("ours.pt", "theirs.pt"):
        (folder / file).unlink()
    (folder / "module.pt").unlink()
    for name, call in (("run: blocked", run_save), ("DCP async_save: blocked", dcp_async)):
        blocked, whole = call(state, folder, device)
        seen += [(name, blocked, False), ("whole", whole, False)]
    return seen
