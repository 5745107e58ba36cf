# SPDX-License-Identifier: BSD-3-Clause
"""Example 1, the Python twin: a linear model with Adam, saved with epoch and loss, re-created, loaded, and trained on.

Usage: python 1_general_checkpoint.py [FILE [save|resume]]     (both, one after the other, when not said)
"""
import sys

import torch


def train(model, optimizer, first_epoch, epochs):
    """Trains for some epochs on y = 3x + 2 and returns the last loss."""
    x = torch.linspace(-1, 1, 32).unsqueeze(1)
    y = 3 * x + 2
    for epoch in range(first_epoch, first_epoch + epochs):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.6g}")
    return loss


def save(path):
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    loss = train(model, optimizer, 0, 5)
    torch.save(
        {
            "epoch": 5,
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "loss": loss,
        },
        path,
    )
    print(f"saved to {path}")


def resume(path):
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    checkpoint = torch.load(path, weights_only=True)
    model.load_state_dict(checkpoint["model_state_dict"])
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    epoch = checkpoint["epoch"]
    loss = checkpoint["loss"]
    print(f"resumed after epoch {epoch} with loss {loss.item():.6g}")
    train(model, optimizer, epoch, 5)


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "checkpoint.pt"
    part = sys.argv[2] if len(sys.argv) > 2 else "save and resume"
    if part != "resume":
        save(path)
    if part != "save":
        resume(path)
