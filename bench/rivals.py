# SPDX-License-Identifier: BSD-3-Clause
"""The Python side of `make bench`: the same state in PyTorch, and everybody else's way to keep it."""
import contextlib
import io
import os
import shutil
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

try:
    import safetensors.torch as safetensors
except ImportError:
    safetensors = None

warnings.filterwarnings("ignore", module="torch.distributed")


class State:
    """A module and an optimizer with the state of a file that torchkeep wrote."""

    def __init__(self, path, shapes):
        loaded = torch.load(path, weights_only=True)
        self.module = torch.nn.Module()
        for name, tensor in loaded["model"].items():
            if name.startswith("p"):
                self.module.register_parameter(name, torch.nn.Parameter(tensor))
            else:
                self.module.register_buffer(name, tensor)
        self.optimizer = None
        if shapes["adam"]:
            self.optimizer = torch.optim.Adam(list(self.module.named_parameters()), lr=1e-3)
            self.optimizer.load_state_dict(loaded["optimizer"])

    def value(self):
        value = {"model": self.module.state_dict()}
        if self.optimizer:
            value["optimizer"] = self.optimizer.state_dict()
        return value

    def flat(self):
        """Every tensor under one name, as safetensors wants it."""
        tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for number, moments in (self.optimizer.state_dict()["state"] if self.optimizer else {}).items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in moments.items()}
        return tensors

    def load(self, value):
        self.module.load_state_dict(value["model"])
        if self.optimizer:
            self.optimizer.load_state_dict(value["optimizer"])

    def copy(self, tensors):
        """Into the live tensors, in place."""
        with torch.no_grad():
            for name, tensor in self.flat().items():
                tensor.copy_(tensors[name])

    def tensors_of(self, value):
        return {f"model.{name}": tensor for name, tensor in value["model"].items()} | {
            f"optimizer.{number}.{name}": tensor
            for number, moments in value.get("optimizer", {"state": {}})["state"].items()
            for name, tensor in moments.items()}

    def equals(self, tensors):
        mine = self.flat()
        return mine.keys() == tensors.keys() and all(torch.equal(mine[name], tensors[name]) for name in mine)


def sync(path):
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def without_crc():
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(True)


@contextlib.contextmanager
def quietly():
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


class Rivals:
    """name -> function of a path; each returns what it loaded, or None. `rivals[name].files` tells what it reads."""

    def __init__(self, state):
        self.state = state
        self.savers = {
            "torch.save": self.torch_save,
            "torch.save, CRC off": self.torch_save_without_crc,
            "torch.save + fsync": lambda path: (self.torch_save(path), sync(path)),
            "DCP save (fsync)": lambda path: self.dcp_save(path, True),
            "DCP save, no fsync": lambda path: self.dcp_save(path, False),
        }
        self.loaders = {
            "torch.load": (self.torch_save, lambda path: torch.load(path, weights_only=True)),
            "torch.load(mmap)": (self.torch_save, lambda path: torch.load(path, weights_only=True, mmap=True)),
        }
        self.resumers = {
            "torch.load + load_state_dict": (self.torch_save,
                                             lambda path: state.load(torch.load(path, weights_only=True))),
            "torch.load(mmap) + copy": (self.torch_save, lambda path: state.copy(state.tensors_of(
                torch.load(path, weights_only=True, mmap=True)))),
            "DCP load": (lambda path: self.dcp_save(path, False), self.dcp_load),
        }
        if safetensors:
            self.savers["safetensors"] = self.safetensors_save
            self.savers["safetensors + fsync"] = lambda path: (self.safetensors_save(path), sync(path))
            self.loaders["safetensors load_file"] = (self.safetensors_save, lambda path: safetensors.load_file(path))
            self.resumers["safetensors + copy"] = (self.safetensors_save,
                                                   lambda path: state.copy(safetensors.load_file(path)))

    def torch_save(self, path):
        torch.save(self.state.value(), path)

    def torch_save_without_crc(self, path):
        with without_crc():
            self.torch_save(path)

    def safetensors_save(self, path):
        safetensors.save_file(self.state.flat(), path)

    def dcp_save(self, path, syncs):
        with quietly():
            dcp.save(self.state.value(), storage_writer=dcp.FileSystemWriter(path, sync_files=syncs), no_dist=True)

    def dcp_load(self, path):
        value = self.state.value()
        with quietly():
            dcp.load(value, checkpoint_id=path, no_dist=True)
        self.state.load(value)


def remove(path):
    path = Path(path)
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
