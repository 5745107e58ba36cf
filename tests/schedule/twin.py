# SPDX-License-Identifier: BSD-3-Clause
"""The Python half of the scheduler tests: runs experiments with PyTorch and prints them as the C++ peer does."""
import collections
import json
import struct
import subprocess
import warnings

import torch
from torch.optim import lr_scheduler, swa_utils



# The numbers of a group that schedulers read or write.
KEYS = ("lr", "momentum", "betas", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr")


def encode(value):
    """See encode() in peer.h."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return "f" + struct.pack(">d", value).hex()
    if isinstance(value, str):
        return "s" + value
    if isinstance(value, collections.Counter):
        return ["c"] + [[encode(k), encode(v)] for k, v in value.items()]
    if type(value) is dict:
        return ["d"] + [[encode(k), encode(v)] for k, v in value.items()]
    if type(value) in (list, tuple):
        return ["l" if type(value) is list else "t"] + [encode(v) for v in value]
    raise TypeError(f"no code for a {type(value)}")


def decode(code):
    if code is None or isinstance(code, (bool, int)):
        return code
    if isinstance(code, str):
        return struct.unpack(">d", bytes.fromhex(code[1:]))[0] if code[0] == "f" else code[1:]
    tag, *rest = code
    if tag in "lt":
        return (list if tag == "l" else tuple)(decode(v) for v in rest)
    mapping = {decode(k): decode(v) for k, v in rest}
    return mapping if tag == "d" else collections.Counter(mapping)


def text(records):
    """One line per record, as the peer prints them."""
    return [json.dumps(record, separators=(",", ":")) for record in records]


class Decaying:
    """A callable object: PyTorch saves its attributes."""

    def __init__(self):
        self.decay = 0.5
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return self.decay**x


FUNCTIONS = {
    "power": lambda x: 0.95**x,
    "thirds": lambda x: x // 3,
    "halves": lambda x: 1 if x % 2 == 0 else 0.5,
    "warmup": lambda x: (x + 1) / 10 if x < 10 else 1.0,
    "constant": lambda x: 0.97,
}


def function(name):
    return Decaying() if name == "decaying" else FUNCTIONS[name]


def make_optimizer(name, groups):
    params = [{"params": [torch.nn.Parameter(torch.zeros(1))], **group} for group in groups]
    extra = {"lr": 0.5} if name == "SGD" else {}
    return getattr(torch.optim, name)(params, **extra)


def make_scheduler(spec, optimizer):
    name, arguments = spec[0], dict(spec[1])
    for key in ("lr_lambda", "scale_fn"):
        if key in arguments:
            names = arguments[key]
            arguments[key] = [function(n) for n in names] if isinstance(names, list) else function(names)
    if "schedulers" in arguments:
        arguments["schedulers"] = [make_scheduler(part, optimizer) for part in arguments["schedulers"]]
    if name == "ChainedScheduler":
        return lr_scheduler.ChainedScheduler(**arguments)
    kind = swa_utils.SWALR if name == "SWALR" else getattr(lr_scheduler, name)
    return kind(optimizer, **arguments)


def encode_spec(spec):
    """A spec as the peer reads it."""
    name, arguments = spec
    coded = {}
    for key, value in arguments.items():
        if key == "schedulers":
            coded[key] = [encode_spec(part) for part in value]
        elif key in ("lr_lambda", "scale_fn"):
            coded[key] = value
        else:
            coded[key] = encode(value)
    return [name, coded]


def encode_command(command):
    verb, *rest = command
    return [verb] + [encode(argument) for argument in rest]


class Experiment:
    """An optimizer with a scheduler, as a table row describes them."""

    def __init__(self, row, before=()):
        self.row = row
        self.optimizer = make_optimizer(row["optimizer"], row["groups"])
        self.scheduler = None
        for command in before:
            self.execute(command)
        self.scheduler = make_scheduler(row["scheduler"], self.optimizer)

    def groups(self):
        return [{k: v for k, v in group.items() if k in KEYS} for group in self.optimizer.param_groups]

    def execute(self, command):
        verb, *rest = command
        if verb == "step":
            self.scheduler.step(*rest)
        elif verb == "set_lr":
            self.optimizer.param_groups[rest[0]]["lr"] = rest[1]
        elif verb == "load_groups":
            self.load_groups(rest[0])
        elif verb == "load_scheduler":
            self.scheduler.load_state_dict(rest[0])
        elif verb == "add_group":
            self.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], **rest[0]})
        else:
            raise ValueError(verb)

    def load_groups(self, groups):
        state = self.optimizer.state_dict()
        for packed, group in zip(state["param_groups"], groups, strict=True):
            for key in KEYS:
                packed.pop(key, None)
            packed.update(group)
        self.optimizer.load_state_dict(state)

    def record(self, compact):
        state = self.scheduler.state_dict()
        if compact:
            groups = [[encode(g["lr"]), encode(g.get("momentum", g.get("betas")))] for g in self.groups()]
            return [groups, encode(state["_last_lr"])]
        last_lr = [float(lr) for lr in self.scheduler.get_last_lr()]
        return [[encode(g) for g in self.groups()], encode(state), encode(last_lr)]

    def run(self, commands, compact):
        records = [self.record(compact)]
        for command in commands:
            self.execute(command)
            records.append(self.record(compact))
        return records + [self.record(False)]


def peer_line(row, commands, compact, before=()):
    """An experiment as a line for the peer."""
    groups = Experiment.groups(type("Groups", (), {"optimizer": make_optimizer(row["optimizer"], row["groups"])}))
    return json.dumps({
        "optimizer": row["optimizer"],
        "groups": [encode(group) for group in groups],
        "scheduler": encode_spec(row["scheduler"]),
        "before": [encode_command(command) for command in before],
        "commands": [encode_command(command) for command in commands],
        "compact": compact,
    })


def run_peer(program, lines):
    """What the peer prints: a list of records for each line."""
    result = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == len(lines), result.stderr
    return answers
