# SPDX-License-Identifier: BSD-3-Clause
"""The tiny models that the sweep trains: one per kind of parameters an optimizer may want."""
import torch
from torch import nn


class Net(nn.Module):
    """Matrices and vectors, dropout, and the buffers of a norm."""

    inputs = (6,)

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(8, 4)

    def forward(self, x, step):
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


class Conv(nn.Module):
    """4-D, 3-D and 1-D parameters of odd sizes."""

    inputs = (3, 5, 5)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, (3, 1))
        self.line = nn.Conv1d(5, 7, 3)
        self.last = nn.Linear(7, 4)

    def forward(self, x, step):
        return self.last(torch.tanh(self.line(torch.relu(self.conv(x)).flatten(2))).mean(2))


class Odd(Conv):
    """A scalar, a vector of one element and a matrix of one row besides."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(1))
        self.row = nn.Parameter(torch.full((1, 4), 0.5))

    def forward(self, x, step):
        return super().forward(x, step) * self.scale + self.shift + self.row


class Late(Net):
    """A part that is used, and so gets gradients and state, only after a while."""

    begins = 9

    def __init__(self):
        super().__init__()
        self.late = nn.Linear(4, 4)

    def forward(self, x, step):
        out = super().forward(x, step)
        return out + self.late(out) if step >= self.begins else out


class Matrices(nn.Module):
    """For optimizers that take matrices only."""

    inputs = (6,)

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8, bias=False)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(8, 4, bias=False)

    def forward(self, x, step):
        return self.last(self.drop(torch.tanh(self.first(x))))


class Table(nn.Module):
    """For optimizers that take sparse gradients only."""

    inputs = (6,)

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4, sparse=True)

    def forward(self, x, step):
        return self.table((x.float().abs() * 5).long() % 10).sum(1)


class Wide(nn.Module):
    """Parameters large enough for state of 8 bits."""

    inputs = (64,)

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 80)
        self.last = nn.Linear(80, 4)

    def forward(self, x, step):
        return self.last(torch.tanh(self.first(x)))


KINDS = {kind.__name__: kind for kind in (Net, Conv, Odd, Late, Matrices, Table, Wide)}
