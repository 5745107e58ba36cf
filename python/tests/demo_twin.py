# SPDX-License-Identifier: BSD-3-Clause
"""The Python twin of the C++ demo's training: the same run directory, the same tracked objects."""
import pathlib
import sys
import zlib

import torch
from conftest import ROOT
from torch.nn import functional as F

import torchkeep

sys.path.insert(0, str(ROOT / "demo"))
from gpt import Gpt  # noqa: E402

OPTIONS = {"context": 64, "heads": 4, "layers": 2, "vocabulary": 0, "width": 64}


class Plain:
    """A dict that is tracked and only saved."""

    def __init__(self, content):
        self.content = content

    def state_dict(self):
        return self.content

    def load_state_dict(self, state):
        self.content = state


class Windows:
    """demo/training.cpp's Batches."""

    def __init__(self, text, context):
        data = pathlib.Path(text).read_bytes()
        rank = {byte: number for number, byte in enumerate(sorted(set(data)))}
        self.vocabulary = len(rank)
        self.crc32 = zlib.crc32(data)
        self.tokens = torch.tensor([rank[byte] for byte in data])
        self.context = context
        self.generator = torch.Generator().manual_seed(0)

    def next(self):
        starts = torch.randint(0, len(self.tokens) // 10 * 9 - self.context, (16, 1), generator=self.generator)
        windows = self.tokens[starts + torch.arange(self.context + 1)]
        return windows[:, :-1], windows[:, 1:]

    def state_dict(self):
        return {"generator": self.generator.get_state(), "text_bytes": len(self.tokens), "text_crc32": self.crc32}

    def load_state_dict(self, state):
        assert (state["text_bytes"], state["text_crc32"]) == (len(self.tokens), self.crc32)
        self.generator.set_state(state["generator"])


class Twin:
    """The objects of one process. The seed is another one than C++'s: all must come from the file."""

    def __init__(self, text, steps, options):
        torch.manual_seed(99)
        self.data = Windows(text, options["context"])
        self.options = Plain(options)
        self.model = Gpt(**options)
        matrices = [p for p in self.model.parameters() if p.dim() >= 2]
        vectors = [p for p in self.model.parameters() if p.dim() < 2]
        self.optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                                            {"params": vectors, "weight_decay": 0.0}], lr=3e-3, betas=(0.9, 0.99))
        schedulers = torch.optim.lr_scheduler
        self.scheduler = schedulers.SequentialLR(self.optimizer, [
            schedulers.LinearLR(self.optimizer, 1 / 40, total_iters=40),
            schedulers.CosineAnnealingLR(self.optimizer, max(1, steps - 40), 3e-4)], [40])

    def objects(self):
        return {"model": self.model, "model_options": self.options, "optimizer": self.optimizer,
                "scheduler": self.scheduler, "data": self.data}

    def step(self):
        inputs, targets = self.data.next()
        loss = F.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        return loss.item()

    def run(self, directory, total):
        """Continues to step `total`; the losses, and the state before the first step as it would be saved."""
        losses = []
        with torchkeep.Run(directory, save_every=5, signals=False) as run:
            run.track(**self.objects())
            run.resume()
            arrived = {name: adapter.capture() for name, adapter in run._adapters.items()}
            arrived = torchkeep_copy(arrived), torch.get_rng_state()
            for _ in run.steps(total):
                losses.append(self.step())
                run.finish_step(loss=losses[-1])
        return losses, *arrived


def torchkeep_copy(value):
    import io

    buffer = io.BytesIO()
    torchkeep.save(value, buffer)
    return torchkeep.load(io.BytesIO(buffer.getvalue()))
