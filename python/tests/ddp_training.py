# SPDX-License-Identifier: BSD-3-Clause
"""One rank of a DistributedDataParallel training: rank 0 writes the run, the others resume as readers."""
import datetime
import json
import sys

import torch
from training import Training

import torchkeep

SAMPLES = 40


class Rank:
    """Each rank has its shard of the samples and its own dropout."""

    def __init__(self, rank, ranks):
        self.rank = rank
        self.training = Training("AdamW")
        self.model = torch.nn.parallel.DistributedDataParallel(self.training.model)
        self.sampler = torchkeep.ResumableSampler(SAMPLES, seed=3, shard=rank, shards=ranks)
        self.data = torch.arange(SAMPLES * 6.0).view(SAMPLES, 6).sin()

    def step(self, number):
        torch.manual_seed(1000 * number + self.rank)
        x = self.data[self.sampler.take(4) or self.sampler.take(4)]
        self.training.optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(self.model(x), x.sum(1, keepdim=True))
        loss.backward()
        self.training.optimizer.step()
        return loss.item()

    def run(self, directory, total, until):
        """The first step made here, the losses, and the parameters in the end."""
        losses = []
        role = "writer" if self.rank == 0 else "reader"
        with torchkeep.Run(directory, save_every=2, durable=False, signals=False, role=role) as run:
            run.track(model=self.model, optimizer=self.training.optimizer, data=self.sampler)
            start = step = run.resume()
            torch.distributed.barrier()  # all have read before rank 0 saves again
            while step < total:
                losses.append(self.step(step))
                step += 1
                run.finish_step(loss=losses[-1])
                if step == until:
                    run.close()
                    break
        return {"start": start, "losses": losses,
                "parameters": [parameter.flatten().tolist() for parameter in self.training.model.parameters()]}


def train(rank, ranks, rendezvous, directory, total, until):
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks,
                                         timeout=datetime.timedelta(seconds=120))
    try:
        result = Rank(rank, ranks).run(directory, total, until)
        torch.distributed.barrier()  # gloo ends a process whose peer leaves while it still talks
        return result
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, ranks, rendezvous, directory, total, until = sys.argv[1:]
    print(json.dumps(train(int(rank), int(ranks), rendezvous, directory, int(total), int(until))))
