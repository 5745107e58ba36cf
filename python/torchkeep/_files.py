# SPDX-License-Identifier: BSD-3-Clause
"""save and load: torch.save and torch.load(weights_only=True) with torchkeep's guarantees."""
import os

from . import _core, _sharded
from ._errors import InvalidArgumentError, RefusedError
from ._stand_in import stand_in
from ._progress import bar
from ._streams import Writer, is_path, name_of, source


def save(obj, path, *, default=None, numpy="plain", opaque="refuse", durable=True, read_back=False, progress=False,
         group=None):
    """Saves plain data and tensors to a file that torch.load(path, weights_only=True) opens.

    The file appears whole or not at all: `path` holds the old file or the complete new one, also after a crash, a full
    disk or Ctrl-C. The GIL is released while bytes are written; tensors must not change meanwhile.

    Args:
        obj: dicts, lists, tuples, sets, numbers, strings, tensors ... : everything PyTorch's safe loader reads, and
            NumPy's arrays and scalars. For anything else torchkeep.Error names the place and says what to save instead.
        default: called with an object that cannot be saved; gives what to save in its place, as json.dumps does:
            `default=str`, `default=vars`.
        numpy: what NumPy's scalars become: "plain", Python's numbers; "tensors", tensors without dimensions, which keep
            their dtype. Arrays of numbers become tensors, arrays of str, bytes or objects lists.
        opaque: what becomes of a torchkeep.Opaque, an object of an unknown class out of another file. "refuse": an error;
            "drop": it is left out as in load(drop_objects=True), and so is an entry that has it as key; "keep": a dict of what it says (class, kind, args,
            kwargs, state, list_items, dict_items) stands in its place. The object itself no file of save() holds.
        path: where to save, a str, bytes or path; or a file object opened for binary writing, without the guarantees:
            what its write() takes is written front to back and flushed, and bytes that it does not take are an error.
        durable: wait until the file and its name are on the disk.
        read_back: read the file and check every checksum before its name leads to it.
        progress: show a bar on stderr (or in the notebook); or a function of (bytes done, bytes in all).
        group: a process group of torch.distributed, whose ranks all make this call: `path` becomes a folder, which
            dcp.load reads and to which every rank writes the parts of DTensors that it holds (docs/distributed.md). All
            else in `obj` must be the same on every rank. The folder appears whole or not at all, and must not exist.
    """
    if numpy not in ("plain", "tensors"):
        raise InvalidArgumentError(f'numpy: expected "plain" or "tensors", found {numpy!r}')
    if opaque not in ("refuse", "drop", "keep"):
        raise InvalidArgumentError(f'opaque: expected "refuse", "drop" or "keep", found {opaque!r}')
    replace = stand_in(numpy == "tensors", default, opaque)
    if group is not None:
        _sharded.save(obj, path, group, durable, replace)
        return
    if not is_path(path) and hasattr(path, "write"):
        writer = Writer(path)
        with bar(progress, "saving", path) as move:
            _core.save_to(obj, writer, name_of(path), move, replace)
            writer.flush()
        return
    with bar(progress, "saving", path) as move:
        _core.save(obj, path, durable, read_back, move, replace)


_UNKNOWN_CLASSES = ("opaque", "refuse")


def load(path, map_location=None, *, only=None, drop_objects=False, unknown_classes="opaque", mmap=False, verify=True,
         weights_only=True, progress=False, like=None, group=None):
    """Loads what torch.save or torchkeep saved: the same objects as torch.load(path, weights_only=True), and what that
    refuses as data.

    Nothing from the file is ever executed. Every byte is checked against its checksum. The GIL is released while bytes
    are read.

    Args:
        path: a str, bytes or path, or a file object opened for binary reading (read to its end).
        map_location: as in torch.load.
        only: a part, by its path ("model", "optimizer.state"): the part is returned, and the other tensors are not
            read. A list of such paths: a checkpoint that holds these parts and nothing else.
        drop_objects: leave out objects of classes that torchkeep does not know, and entries with such a key.
        unknown_classes: what becomes of them otherwise. "opaque": a torchkeep.Opaque each, to look at. "refuse": an
            error, which is PyTorch's rule. Python's own data classes (argparse.Namespace, pathlib.Path, datetime ...)
            are not among them unless refused.
        mmap: leave the tensors' bytes in the file and read them when they are used. What is written to them stays in
            this process. With `verify` the file is read once, now, to check it; without, opening takes no time. A
            program that cuts the file short meanwhile kills this one (SIGBUS): for files that nobody changes in place.
        verify: check the checksums.
        weights_only: only True, there is no other way.
        progress: as in save().
        like, group: a state like the one that is wanted, and a process group whose ranks all make this call: `path` is a
            folder that a group of any size saved. Where `like` has a DTensor there is one of the same placement, with
            this rank's part; the others are whole. The other arguments have no effect then. What does not fit, or is
            damaged for any rank, is an error on all of them.

    Raises:
        torchkeep.Error: its `code` says why (not_found, corrupt, refused, unsupported, io).
    """
    if not weights_only:
        raise InvalidArgumentError("torchkeep.load never executes what a file says, so weights_only=False is not "
                                   "possible; use torch.load for a file that you trust")
    if group is not None:
        return _sharded.load(path, like, group)
    if unknown_classes not in _UNKNOWN_CLASSES:
        raise InvalidArgumentError(f"unknown_classes: expected one of {_UNKNOWN_CLASSES}, found {unknown_classes!r}")
    is_one = isinstance(only, str)
    paths = [only] if is_one else list(only or ())
    selection = _core.Selection(verify, unknown_classes == "refuse", drop_objects, paths, is_one)
    file = source(path)
    try:
        if mmap and is_path(path):
            return _core.load_mapped(file, map_location, selection)
        with bar(progress, "loading", path) as move:
            if file is path:
                return _core.load(file, map_location, selection, move)
            return _load_from(path, file, map_location, selection, move)
    except RefusedError as error:
        raise _with_ways_out(error, unknown_classes) from None


def _load_from(stream, file, map_location, selection, move):
    """The checkpoint at the stream's position, which then stands behind it: another may follow."""
    content, end = _core.load_stream(file, map_location, selection, move)
    behind = len(file[1]) - end
    if behind > 0 and hasattr(stream, "seekable") and stream.seekable():
        stream.seek(-behind, os.SEEK_CUR)
    return content


def _with_ways_out(error, unknown_classes):
    """The refusal of a class, with what a program can do about it."""
    if not error.message.startswith("refused global"):
        return error
    ways = ('unknown_classes="opaque" (the default) keeps such objects to look at, drop_objects=True leaves them out, '
            "only=... loads other parts, and torchkeep.inspect shows all of the file; none of them runs anything")
    if unknown_classes != "refuse":
        ways = "a file that names this is an attack; torchkeep.inspect shows what is in it, and runs nothing"
    return type(error)(f"{error.message}; {ways}", error.code, file=error.file, record=error.record,
                       offset=error.offset, key=error.key, text=f"{error}; {ways}")
