# SPDX-License-Identifier: BSD-3-Clause
"""Example 3, the Python twin: Adam on part 1 and SGD on part 2 of a model, each optimizer's state under its own key.

Usage: python 3_two_optimizers.py [FILE [save|resume]]     (both, one after the other, when not said)
"""
import sys

import torch


class TwoParts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.part1 = torch.nn.Linear(2, 8)
        self.part2 = torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.part2(torch.tanh(self.part1(x)))


class Training:
    """The model with an optimizer for each part."""

    def __init__(self):
        self.model = TwoParts()
        self.optimizer1 = torch.optim.Adam(self.model.part1.parameters(), lr=0.02)
        self.optimizer2 = torch.optim.SGD(self.model.part2.parameters(), lr=0.1, momentum=0.9)

    def epochs(self, first, count):
        side = torch.linspace(-1, 1, 8)
        x = torch.cartesian_prod(side, side)
        y = (x[:, 0] * x[:, 1]).unsqueeze(1)
        for epoch in range(first, first + count):
            self.optimizer1.zero_grad()
            self.optimizer2.zero_grad()
            loss = torch.nn.functional.mse_loss(self.model(x), y)
            loss.backward()
            self.optimizer1.step()
            self.optimizer2.step()
            print(f"epoch {epoch}: loss {loss.item():.6g}")


def save(path):
    torch.manual_seed(0)
    training = Training()
    training.epochs(0, 5)
    torch.save(
        {
            "epoch": 5,
            "model_state_dict": training.model.state_dict(),
            "optimizer1_state_dict": training.optimizer1.state_dict(),
            "optimizer2_state_dict": training.optimizer2.state_dict(),
        },
        path,
    )
    print(f"saved to {path}")


def resume(path):
    training = Training()
    checkpoint = torch.load(path, weights_only=True)
    training.model.load_state_dict(checkpoint["model_state_dict"])
    training.optimizer1.load_state_dict(checkpoint["optimizer1_state_dict"])
    training.optimizer2.load_state_dict(checkpoint["optimizer2_state_dict"])
    epoch = checkpoint["epoch"]
    print(f"resumed after epoch {epoch}")
    training.epochs(epoch, 5)


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "checkpoint.pt"
    part = sys.argv[2] if len(sys.argv) > 2 else "save and resume"
    if part != "resume":
        save(path)
    if part != "save":
        resume(path)
