# SPDX-License-Identifier: BSD-3-Clause
"""Drives the package over hostile files, each in bounded memory and time: python fuzz_package.py [options] FOLDER...

Every function that reads a file must return a value or raise torchkeep.Error, whatever the file is; what load refuses,
verify does not call good, and what verify calls good, load reads, or refuses as a documented rule (refused, unsupported).
Files are read in forked children, so that one that kills or hangs its reader is an outcome and not the end.
"""
import argparse
import io
import os
import pathlib
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import zipfile

import torch

import torchkeep

MEMORY = 3 << 30  # bytes beyond what the process has when it begins
CPU_SECONDS = 30  # of one file; a bound, not a measure: the slowest takes a hundredth of it
MOST_ELEMENTS = 1 << 20


def touch(value, seen):
    """Reads every element of every tensor, once."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, torch.Tensor):
        if value.is_quantized:
            value.int_repr()
        elif value.layout == torch.strided and not value.is_nested and not value.is_meta and value.numel() < MOST_ELEMENTS:
            value.detach().clone()
        elif not value.is_meta and value.layout == torch.sparse_coo and value._nnz() < MOST_ELEMENTS:
            value.detach().clone()
    elif isinstance(value, dict):
        for key in value:
            touch(key, seen)
            touch(value[key], seen)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            touch(part, seen)


def load_into_live(path):
    """Into a module that is like the file's first dict of tensors, where it has one."""
    state = {"w": torch.zeros(4), "v": torch.zeros(2, 2)}
    model = torch.nn.Module()
    for name, tensor in state.items():
        model.register_parameter(name, torch.nn.Parameter(tensor))
    torchkeep.load_into(path, model=model)


READERS = {
    "load": lambda path: touch(torchkeep.load(path), {}),
    "load(mmap)": lambda path: touch(torchkeep.load(path, mmap=True), {}),
    "load(meta)": lambda path: touch(torchkeep.load(path, map_location="meta"), {}),
    "load(BytesIO)": lambda path: touch(torchkeep.load(io.BytesIO(pathlib.Path(path).read_bytes())), {}),
    "inspect": lambda path: repr(torchkeep.inspect(path)),
    "load_into": load_into_live,
    "verify": torchkeep.verify,
}


def outcome(read, path):
    """None; a torchkeep.Error's code; or what is wrong."""
    try:
        read(path)
        return None
    except torchkeep.Error as error:
        return error.code
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def problems(path):
    """What is wrong with how this file is read."""
    codes = {name: outcome(read, path) for name, read in READERS.items()}
    known = {None, "corrupt", "refused", "unsupported", "mismatch", "not_found"}
    found = [f"{name} raised {code}" for name, code in codes.items() if code not in known]
    for name in ("load", "load(mmap)", "load(BytesIO)"):
        if codes["verify"] is None and codes[name] not in (None, "refused", "unsupported"):
            found.append(f"verify calls good what {name} refuses as {codes[name]}")
    if len({codes[name] for name in ("load", "load(mmap)", "load(BytesIO)")}) > 1:
        found.append(f"one file is read in several ways: {codes}")
    return found


def limit():
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def child(files, send):
    limit()
    torch.set_num_threads(1)
    for path in files:
        send.write(f"{path}\0")
        send.flush()
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # its signal kills
        found = problems(path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        send.write("\n".join(found) + "\0")
        send.flush()
    os._exit(0)


def run(files):
    """{file: problems} of those that have any. A child that dies is replaced by one for the files that are left."""
    found, files = {}, list(files)
    while files:
        receive, send = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(receive)
            try:
                child(files, os.fdopen(send, "w"))
            finally:
                os._exit(1)
        os.close(send)
        with os.fdopen(receive) as reader:
            told = reader.read().split("\0")[:-1]
        _, status = os.waitpid(pid, 0)
        for path, text in zip(told[::2], told[1::2]):
            if text:
                found[path] = text.split("\n")
        done = len(told) // 2
        if status != 0:
            if done >= len(files) or len(told) % 2 == 0:
                raise RuntimeError(f"the reader ended with status {status} between two files")
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
            found[files[done]] = [f"it ended its reader with {how}"]
            done += 1
        files = files[done:]
    return found


# --- Files to begin with, and changes


def written(save, *args, **kwargs):
    buffer = io.BytesIO()
    save(*args, buffer, **kwargs)
    return buffer.getvalue()


def seeds():
    """Files of torch.save with tensors of every kind, in both its formats."""
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    eye = torch.eye(4)
    kinds = {
        "state": {"model": {"w": torch.zeros(4), "v": torch.ones(2, 2)}, "step": 3, "big": 1 << 80, "text": "é"},
        "views": {"all": base, "row": base[1], "transposed": base.t(), "expanded": base[:, :1].expand(3, 1000)},
        "coo": eye.to_sparse(), "csr": eye.to_sparse_csr(), "csc": eye.to_sparse_csc(),
        "bsr": eye.to_sparse_bsr((2, 2)), "bsc": eye.to_sparse_bsc((2, 2)),
        "nested": torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 2)]),
        "meta": {"w": torch.empty(4, device="meta")},
        "bits": {"conj": torch.ones(2, dtype=torch.complex64).conj(), "neg": torch.ones(2, dtype=torch.complex64).conj().imag},
        "quantized": {"t": torch.quantize_per_tensor(base, 0.1, 3, torch.quint8),
                      "c": torch.quantize_per_channel(base, torch.ones(3), torch.zeros(3), 0, torch.qint8)},
        "parameters": {"p": torch.nn.Parameter(base), "size": base.shape, "dtype": torch.uint16, "u": torch.ones(2, dtype=torch.uint16)},
        "containers": [(1, 2.5, None, True, b"x"), {3, 4}, frozenset({"a"}), torch.device("cpu"), 2j, {(1, ("a",)): []}],
    }
    for name, value in kinds.items():
        yield name, written(torch.save, value)
        if name != "nested":
            yield f"{name}-legacy", written(torch.save, value, _use_new_zipfile_serialization=False)


def change_bytes(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(data))
        what = rng.randrange(4)
        if what == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[place:place] = rng.randbytes(rng.choice((1, 4, 8)))
        elif what == 2:
            del data[place:place + rng.choice((1, 4, 8))]
        else:
            number = rng.choice((0, 1, -1, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63)))
            data[place:place + 8] = struct.pack("<q", number)
        data = data or bytearray(b"x")
    return bytes(data)


def change_zip(data, rng):
    """A record changed, and its checksum right again."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        records = [[info.filename, old.read(info)] for info in old.infolist()]
    record = rng.choice([one for one in records if rng.randrange(3) or one[0].endswith("data.pkl")] or records)
    what = rng.randrange(10)
    if what == 0:
        records.remove(record)
    elif what == 1:
        letters = list(record[0])
        place = rng.randrange(len(letters))
        letters[place] = rng.choice("a0A./é" + letters[place].swapcase())
        record[0] = "".join(letters)
    elif what == 2:
        record[1], other = rng.choice(records)[1], record[1]
    else:
        record[1] = change_bytes(record[1] or b"x", rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        for name, content in records:
            new.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def changed(data, rng):
    if data[:2] == b"PK" and rng.randrange(4):
        try:
            return change_zip(data, rng)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, KeyError, IndexError):
            pass
    return change_bytes(data or b"x", rng)


def fuzz(folders, seconds, rounds, seed, keep):
    """Reads the files of `folders` and changes of them; returns how many files were read, and the problems."""
    rng, begun, count, found = random.Random(seed), time.monotonic(), 0, {}
    files = [path.read_bytes() for folder in folders for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()]
    files += [data for _, data in seeds()]
    batch, step = list(files), 0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            paths = []
            for number, data in enumerate(batch):
                paths.append(os.path.join(folder, f"{step}-{number}.pt"))
                pathlib.Path(paths[-1]).write_bytes(data)
            for path, what in run(paths).items():
                data = pathlib.Path(path).read_bytes()
                found[os.path.basename(path)] = what
                if keep:
                    pathlib.Path(keep, os.path.basename(path)).write_bytes(data)
            for path in paths:
                os.unlink(path)
            count, step = count + len(batch), step + 1
            if step > rounds and time.monotonic() - begun >= seconds:
                return count, found
            batch = [changed(rng.choice(files), rng) for _ in range(300)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", help="files to begin with, beside those of torch.save")
    parser.add_argument("--seconds", type=float, default=0, help="go on with changed files for this long")
    parser.add_argument("--rounds", type=int, default=0, help="at least so often 300 changed files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="a folder for the files with a problem")
    arguments = parser.parse_args()
    if arguments.keep:
        os.makedirs(arguments.keep, exist_ok=True)
    count, found = fuzz(arguments.folders, arguments.seconds, arguments.rounds, arguments.seed, arguments.keep)
    for path, what in found.items():
        print(f"{path}: {'; '.join(what)}")
    print(f"{count} files, {len(found)} with a problem")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
