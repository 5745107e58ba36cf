# SPDX-License-Identifier: BSD-3-Clause
"""Example 2, the Python twin: a linear model with Adam and StepLR, ten epochs, saved with its scheduler, re-created,
loaded, two more.

Usage: python 2_scheduler.py [FILE [save|resume]]     (both, one after the other, when not said)
"""
import sys

import torch


def train(model, optimizer, scheduler, first_epoch, epochs):
    """Trains for some epochs on y = 3x + 2 and returns the last loss."""
    x = torch.linspace(-1, 1, 32).unsqueeze(1)
    y = 3 * x + 2
    for epoch in range(first_epoch, first_epoch + epochs):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}: lr {scheduler.get_last_lr()[0]:.6g}, loss {loss.item():.6g}")
        scheduler.step()
    return loss


def save(path):
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    loss = train(model, optimizer, scheduler, 0, 10)
    torch.save(
        {
            "epoch": 10,
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "scheduler_state_dict": scheduler.state_dict(),
            "loss": loss,
        },
        path,
    )
    print(f"saved to {path}")


def resume(path):
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    checkpoint = torch.load(path, weights_only=True)
    model.load_state_dict(checkpoint["model_state_dict"])
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    scheduler.load_state_dict(checkpoint["scheduler_state_dict"])
    epoch = checkpoint["epoch"]
    loss = checkpoint["loss"]
    print(f"resumed after epoch {epoch} with loss {loss.item():.6g}")
    train(model, optimizer, scheduler, epoch, 2)


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "checkpoint.pt"
    part = sys.argv[2] if len(sys.argv) > 2 else "save and resume"
    if part != "resume":
        save(path)
    if part != "save":
        resume(path)
