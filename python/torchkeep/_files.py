# SPDX-License-Identifier: BSD-3-Clause
"""save and load: torch.save and torch.load(weights_only=True) with torchkeep's guarantees."""
import os
import tempfile

from . import _core
from ._errors import InvalidArgumentError
from ._progress import bar


def save(obj, path, *, durable=True, read_back=False, progress=False):
    """Saves plain data and tensors to a file that torch.load(path, weights_only=True) opens.

    The file appears whole or not at all: `path` holds the old file or the complete new one, also after a crash, a full
    disk or Ctrl-C. The GIL is released while bytes are written; tensors must not change meanwhile.

    Args:
        obj: dicts, lists, tuples, sets, numbers, texts, tensors ... : everything PyTorch's safe loader reads. For
            anything else torchkeep.Error names the place and says what to save instead.
        path: where to save, a str or path; or a file object opened for binary writing, without the guarantees.
        durable: wait until the file and its name are on the disk.
        read_back: read the file and check every checksum before its name leads to it.
        progress: show a bar on stderr (or in the notebook); or a function of (bytes done, bytes in all).
    """
    if hasattr(path, "write"):
        _save_to(obj, path)
        return
    with bar(progress, "saving", path) as move:
        _core.save(obj, path, durable, read_back, move)


def _save_to(obj, file):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "archive.pt")
        _core.save(obj, path, False, False, None)
        with open(path, "rb") as saved:
            while block := saved.read(1 << 20):
                file.write(block)


def load(path, map_location=None, *, mmap=False, verify=True, weights_only=True, progress=False):
    """Loads what torch.save or torchkeep saved: the same objects as torch.load(path, weights_only=True).

    Nothing from the file is ever executed. Every byte is checked against its checksum. The GIL is released while bytes
    are read.

    Args:
        path: a str or path, or a file object opened for binary reading.
        map_location: as in torch.load.
        mmap: leave the tensors' bytes in the file and read them when they are used. What is written to them stays in
            this process. With `verify` the file is read once, now, to check it; without, opening takes no time. A
            program that cuts the file short meanwhile kills this one (SIGBUS): for files that nobody changes in place.
        verify: check the checksums.
        weights_only: only True, there is no other way.
        progress: as in save().

    Raises:
        torchkeep.Error: its `code` says why (not_found, corrupt, refused, unsupported, io).
    """
    if not weights_only:
        raise InvalidArgumentError("torchkeep.load never executes what a file says, so weights_only=False is not "
                                   "possible; use torch.load for a file that you trust")
    if hasattr(path, "read"):
        return _core.load_bytes(path.read(), map_location, verify)
    if mmap:
        return _core.load_mapped(path, map_location, verify)
    with bar(progress, "loading", path) as move:
        return _core.load(path, map_location, verify, move)
