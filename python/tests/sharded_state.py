# SPDX-License-Identifier: BSD-3-Clause
"""One rank with an FSDP2 model: trains a little and saves, or loads what any number of ranks saved."""
import argparse
import datetime
import hashlib
import json
import os

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import torchkeep


def state_of(model, optimizer):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    moments = {names[id(parameter)]: state for parameter, state in optimizer.state.items()}
    return {"model": model.state_dict(), "optimizer": moments, "step": 3}


def build(mesh, seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(7, 13), torch.nn.ReLU(), torch.nn.Linear(13, 5))
    for layer in model:
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for step in range(3):
        torch.manual_seed(1000 * seed + step)
        optimizer.zero_grad()
        model(torch.randn(12, 7)).square().mean().backward()
        optimizer.step()
    return model, optimizer


def digest(state):
    """SHA-256 of the whole of every tensor, by its path."""
    found = {}

    def visit(value, path):
        if isinstance(value, dict):
            for key, one in value.items():
                visit(one, f"{path}.{key}" if path else str(key))
        elif isinstance(value, torch.Tensor):
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            found[path] = hashlib.sha256(whole.detach().contiguous().numpy().tobytes()).hexdigest()
        else:
            found[path] = repr(value)

    visit(state, "")
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["save", "load", "dcp"])
    parser.add_argument("rank", type=int)
    parser.add_argument("ranks", type=int)
    parser.add_argument("rendezvous")
    parser.add_argument("folder")
    parser.add_argument("--mesh", type=int, nargs="*", default=[])
    parser.add_argument("--differ", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{options.rendezvous}", rank=options.rank,
                                         world_size=options.ranks, timeout=datetime.timedelta(seconds=120))
    dims = tuple(options.mesh or [options.ranks])
    mesh = init_device_mesh("cpu", dims, mesh_dim_names=("replicate", "shard")[-len(dims):])
    group = torch.distributed.group.WORLD
    model, optimizer = build(mesh, 1 if options.what == "save" else 2)
    state = state_of(model, optimizer)
    if options.differ:
        state["buffer"] = torch.full((3,), float(options.rank))
    result = {}
    try:
        if options.what == "save":
            torchkeep.save(state, options.folder, group=group)
        elif options.what == "dcp":
            dcp.load(state, checkpoint_id=options.folder)
        else:
            state = torchkeep.load(options.folder, like=state, group=group)
            model.load_state_dict(state["model"])
            assert digest(model.state_dict()) == digest(state["model"])
        result["digest"] = digest(state)
    except torchkeep.Error as error:
        result["error"] = str(error)
    print(json.dumps(result), flush=True)
    torch.distributed.barrier()
    os._exit(0)  # gloo's own threads now and then end a process that takes its group apart while another rank leaves


if __name__ == "__main__":
    main()
