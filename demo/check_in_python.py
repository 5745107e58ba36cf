# SPDX-License-Identifier: BSD-3-Clause
"""Opens a checkpoint of the C++ demo with PyTorch alone and goes on with it.

usage: check_in_python.py CHECKPOINT TEXT
"""
import sys
from pathlib import Path

import torch
from torch.nn import functional as F

from compare import compare
from gpt import Gpt


def read_tokens(path):
    """The text as the C++ program sees it: a token is the rank of a byte among those that occur."""
    text = Path(path).read_bytes()
    rank = {byte: index for index, byte in enumerate(sorted(set(text)))}
    return torch.tensor([rank[byte] for byte in text])


def restore(checkpoint):
    """A Python model and a Python AdamW with the state of the C++ ones."""
    model = Gpt(**checkpoint["model_options"])
    model.load_state_dict(checkpoint["model"])
    named = list(model.named_parameters())
    optimizer = torch.optim.AdamW([{"params": [(n, p) for n, p in named if p.dim() >= 2]},
                                   {"params": [(n, p) for n, p in named if p.dim() < 2]}])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return model, optimizer


def nameless(state):
    """An optimizer's state without the parameters' names, which C++ and Python have in different places."""
    groups = [{key: value for key, value in group.items() if key != "param_names"} for group in state["param_groups"]]
    return {"state": state["state"], "param_groups": groups}


def held_out_windows(tokens, context, count=32):
    """The windows over which demo_train measures the loss on text that it does not learn from."""
    learnt = len(tokens) // 10 * 9
    apart = (len(tokens) - learnt - context - 1) // count
    windows = torch.stack([tokens[learnt + i * apart:learnt + i * apart + context + 1] for i in range(count)])
    return windows[:, :-1], windows[:, 1:]


def check(checkpoint_path, text_path):
    """Loads, compares what arrived with what the file holds, and takes one step. Returns the numbers."""
    checkpoint = torch.load(checkpoint_path, weights_only=True)
    model, optimizer = restore(checkpoint)
    arrived = compare(checkpoint["model"], model.state_dict())
    moments = compare(nameless(checkpoint["optimizer"]), nameless(optimizer.state_dict()))

    inputs, targets = held_out_windows(read_tokens(text_path), checkpoint["model_options"]["context"])
    model.eval()
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    optimizer.step()
    after = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    steps = {int(state["step"]) for state in optimizer.state_dict()["state"].values()}
    return {"model": arrived, "optimizer": moments, "loss": loss.item(), "loss_after_a_step": after.item(),
            "steps": steps, "expected_steps": {checkpoint["step"] + 1}}


if __name__ == "__main__":
    for name, value in check(*sys.argv[1:]).items():
        print(f"{name}: {value}")
