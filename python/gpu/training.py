# SPDX-License-Identifier: BSD-3-Clause
"""A training on a device that is killed and resumed: `training.py FOLDER STEPS MODE DEVICE [KILL_AT]`.

MODE: amp (float16 and a GradScaler), fused (a fused AdamW in bfloat16), streams (the step on a side stream), graph (the
step as a CUDA graph). Ends by printing a hash of all state; with KILL_AT it ends itself by SIGKILL after that step.
"""
import hashlib
import os
import pathlib
import signal
import sys

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS need not give the same bits twice

import torch

import torchkeep

WIDTH = 256


def network(device: str) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.BatchNorm1d(WIDTH), torch.nn.ReLU(),
                               torch.nn.Dropout(0.2), torch.nn.Linear(WIDTH, WIDTH)).to(device)


class Training:
    def __init__(self, mode: str, device: str):
        torch.manual_seed(7)
        torch.use_deterministic_algorithms(True)
        self.mode, self.device, self.cuda = mode, device, device == "cuda"
        self.model = network(device)
        self.average = network(device).requires_grad_(False)
        # The step of a graph is a tensor on the device; a fused step of a scaler takes the scale there too.
        options = {"fused": self.cuda} if mode != "graph" else {"capturable": self.cuda}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, **options)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 200)
        self.scaler = torch.amp.GradScaler(device, enabled=mode == "amp" and self.cuda)
        self.side = torch.cuda.Stream() if mode == "streams" and self.cuda else None
        self.graph = None
        self.input = torch.zeros(64, WIDTH, device=device)

    def objects(self) -> dict:
        return {"model": self.model, "average": self.average, "optimizer": self.optimizer, "scheduler": self.scheduler,
                "scaler": self.scaler}

    def forward_and_backward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = {"amp": torch.float16 if self.cuda else torch.bfloat16, "fused": torch.bfloat16}.get(self.mode)
        with torch.autocast(self.device, dtype, enabled=dtype is not None):
            loss = torch.nn.functional.mse_loss(self.model(x).float(), x.roll(1, 1))
        self.scaler.scale(loss).backward()
        return loss

    def one(self) -> torch.Tensor:
        self.input.copy_(torch.randn(64, WIDTH, device=self.device))
        if self.mode == "graph" and self.cuda:
            return self.replayed()
        self.optimizer.zero_grad()
        loss = self.forward_and_backward(self.input)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def replayed(self) -> torch.Tensor:
        """Forward and backward as a graph; the optimizer's step stays outside, where the run sees it."""
        if self.graph is None:
            self.optimizer.zero_grad(set_to_none=False)
            before = [tensor.clone() for tensor in self.model.state_dict().values()]
            generators = torch.cuda.get_rng_state()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.forward_and_backward(self.input)
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss = self.forward_and_backward(self.input)
            torch.cuda.set_rng_state(generators)  # what warming up drew and changed
            for tensor, old in zip(self.model.state_dict().values(), before):
                tensor.copy_(old)
        for parameter in self.model.parameters():
            parameter.grad.zero_()
        self.graph.replay()
        self.optimizer.step()
        return self.loss

    def step(self) -> torch.Tensor:
        if self.side is None:
            loss = self.one()
        else:  # the run's save must wait for what the side stream still does
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):
                loss = self.one()
            torch.cuda.current_stream().wait_stream(self.side)
        self.scheduler.step()
        with torch.no_grad():
            for average, parameter in zip(self.average.parameters(), self.model.parameters()):
                average.data.lerp_(parameter.data, 0.1)
        return loss


def digest(state) -> str:
    """SHA-256 of the bits of every tensor and the repr of the rest, in order."""
    sha = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            for key, inner in value.items():
                sha.update(repr(key).encode())
                add(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                add(inner)
        else:
            sha.update(repr(value).encode())

    add(state)
    return sha.hexdigest()


def main(folder: str, steps: int, mode: str, device: str, kill_at: int = 0) -> None:
    training = Training(mode, device)
    with torchkeep.Run(folder, save_every=7, keep_last=2, on_event=lambda event: print("event", event.kind, event.message)) as run:
        run.track(**training.objects())
        run.resume()
        for step in run.steps(steps):
            loss = training.step()
            run.finish_step(loss=loss.item())
            if step + 1 == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    state = {name: thing.state_dict() for name, thing in training.objects().items()}
    print("digest", digest([state, torchkeep.rng_state()["torch"], torchkeep.rng_state().get("cuda")]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], *map(int, sys.argv[5:]))
