# SPDX-License-Identifier: BSD-3-Clause
"""One rank of a DistributedDataParallel training whose ranks open one run together: dropout and data noise are each
rank's own, so that a rank with another's generators ends elsewhere."""
import argparse
import datetime
import json
import os
import random
import signal
import sys

import torch

import torchkeep


def model_of():
    torch.manual_seed(0)
    return torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.Dropout(0.3), torch.nn.Tanh(), torch.nn.Linear(16, 1)))


def optimizer_of(model, kind):
    if kind == "zero":
        from torch.distributed.optim import ZeroRedundancyOptimizer

        return ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.01)
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def train(options, rank):
    model = model_of()
    optimizer = optimizer_of(model, options.optimizer)
    torch.manual_seed(100 + rank)
    random.seed(200 + rank)
    with torchkeep.Run(options.directory, save_every=options.save_every, durable=False,
                       peer_timeout=options.peer_timeout) as run:
        run.track(model=model, optimizer=optimizer)
        losses = []
        for step in run.steps(options.steps):
            x = torch.randn(8, 6) + random.random()
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            run.finish_step(loss=loss)
            if step + 1 == options.die_at and rank in options.die:
                os.kill(os.getpid(), signal.SIGKILL)
            if step + 1 == options.stop_at and rank in options.die:
                os.kill(os.getpid(), signal.SIGTERM)
    return {"rank": rank, "step": run.step, "exit": run.exit_code(), "losses": losses,
            "parameters": [parameter.flatten().tolist() for parameter in model.parameters()],
            "random": [random.random(), torch.rand(1).item()]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rank", type=int)
    parser.add_argument("ranks", type=int)
    parser.add_argument("rendezvous")
    parser.add_argument("directory")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--save-every", type=int, default=3)
    parser.add_argument("--die-at", type=int, default=0)
    parser.add_argument("--stop-at", type=int, default=0)
    parser.add_argument("--die", type=int, nargs="*", default=[])
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--peer-timeout", type=float, default=120.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{options.rendezvous}", rank=options.rank,
                                         world_size=options.ranks, timeout=datetime.timedelta(seconds=120))
    try:
        result = train(options, options.rank)
    except torchkeep.Error as error:
        print(json.dumps({"rank": options.rank, "error": str(error), "code": error.code}), flush=True)
        sys.exit(1)
    torch.distributed.barrier()  # gloo ends a process whose peer leaves while it still talks
    torch.distributed.destroy_process_group()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
