# SPDX-License-Identifier: BSD-3-Clause
"""Names are bytes: paths of any bytes work in every call, a NUL is never a truncation, and whatever a file or a folder
is called, what comes out of torchkeep is a value or a torchkeep.Error that can be printed."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import torch
import torchkeep

STATE = {"a": torch.arange(3.0)}
ODD = [b"caf\xe9", "gew\u00f6hnlich".encode(), b"\xff\xfe", b"line\nend \x1b[2J", b"x" * 200]


class Path(os.PathLike):
    """An os.PathLike of bytes."""

    def __init__(self, name):
        self.name = name

    def __fspath__(self):
        return self.name


def spellings(name):
    return [name, os.fsdecode(name), pathlib.Path(os.fsdecode(name)), Path(name)]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_every_call_takes_a_path_of_any_bytes(tmp_path, name):
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(folder)
    for number, path in enumerate(spellings(os.path.join(folder, name + b".pt"))):
        torchkeep.save(STATE | {"n": number}, path)
        assert torchkeep.load(path)["n"] == torchkeep.load(path, mmap=True)["n"] == number
        torchkeep.verify(path)
        shown = torchkeep.inspect(path)
        assert shown["n"] == number and os.fsencode(shown.path) == os.path.join(folder, name + b".pt")
        repr(shown).encode()
        assert torch.load(os.fsdecode(path), weights_only=True)["n"] == number
    assert os.listdir(folder) == [name + b".pt"]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_run_in_a_folder_of_any_bytes(tmp_path, name):
    folder = os.path.join(os.fsencode(tmp_path), name)
    events = []
    for number, path in enumerate(spellings(folder)):
        with torchkeep.Run(path, save_every=1, signals=False, background=False, on_event=events.append) as run:
            run.track(a=torch.nn.Linear(1, 1))
            assert run.resume() == number
            run.finish_step()
            repr(run).encode()
            assert os.fsencode(run.directory) == folder
        torchkeep.pin(path, number + 1)
        assert torchkeep.checkpoints(path)[-1].pinned and torchkeep.unpin(path, number + 1)
        found = torchkeep.find_checkpoint(path)
        assert os.fsencode(found) == os.path.join(folder, b"step-%08d.pt" % (number + 1))
        torchkeep.verify(found)
    for event in events:
        event.message.encode()
    saved = [event.path for event in events if event.kind == "saved"]
    assert [os.fsencode(path) for path in saved[-1:]] == [os.path.join(folder, b"step-00000004.pt")]


def every_call(path):
    model = torch.nn.Linear(1, 1)
    return [lambda: torchkeep.save(STATE, path), lambda: torchkeep.load(path), lambda: torchkeep.load(path, mmap=True),
            lambda: torchkeep.verify(path), lambda: torchkeep.inspect(path),
            lambda: torchkeep.load_into(path, model=model), lambda: torchkeep.Run(path, signals=False).close(),
            lambda: torchkeep.Run(path, role="reader", signals=False).track(model=model).resume(),
            lambda: torchkeep.checkpoints(path), lambda: torchkeep.find_checkpoint(path),
            lambda: torchkeep.pin(path, 1), lambda: torchkeep.unpin(path, 1)]


@pytest.mark.parametrize("bytes_path", [False, True])
def test_a_nul_in_a_path_is_an_error_and_never_a_truncation(tmp_path, bytes_path):
    victim = tmp_path / "victim.pt"
    victim.write_bytes(b"precious")
    os.mkdir(tmp_path / "run")
    for path in (str(victim) + "\0.bak", str(tmp_path / "run") + "\0/other", "\0"):
        for call in every_call(os.fsencode(path) if bytes_path else path):
            with pytest.raises(torchkeep.InvalidArgumentError, match="NUL"):
                call()
    assert victim.read_bytes() == b"precious" and os.listdir(tmp_path / "run") == []
    assert sorted(os.listdir(tmp_path)) == ["run", "victim.pt"]


def test_a_str_that_is_no_path_is_an_error_and_another_type_a_type_error():
    for call in every_call("x\ud800"):
        with pytest.raises(torchkeep.InvalidArgumentError, match="os.fsencode"):
            call()
    for call in every_call(3):
        with pytest.raises(TypeError, match="os.PathLike"):
            call()


def test_the_address_of_a_store_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for role in ("writer", "reader"):
        with pytest.raises(torchkeep.InvalidArgumentError, match="address of a store"):
            torchkeep.Run("s3://bucket/run", role=role)
    assert os.listdir() == []


def test_errors_of_odd_paths_can_be_written_anywhere(tmp_path):
    folder = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff"))
    for call in (lambda: torchkeep.load(folder + "/none"), lambda: torchkeep.load_into(folder + "/none", x=[]),
                 lambda: torchkeep.save(STATE, folder + "/x.pt"), lambda: torchkeep.find_checkpoint(folder)):
        with pytest.raises(torchkeep.Error) as caught:
            call()
        str(caught.value).encode()
        caught.value.message.encode()
        if caught.value.file:
            assert os.fsencode(caught.value.file).startswith(os.fsencode(folder))
    code = "import sys, torchkeep\ntry: torchkeep.load(sys.argv[1])\nexcept torchkeep.Error as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert "\\xff: " in done.stdout


def saved(tmp_path):
    path = tmp_path / "whole.pt"
    torchkeep.save({"weight": torch.arange(4.0), "k\udc80": [1, "t\ud8ff"], "bias": torch.ones(2)}, path)
    return path.read_bytes()


def test_strings_of_a_file_arrive_as_torch_load_gives_them(tmp_path):
    saved(tmp_path)
    wanted = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert list(torchkeep.load(tmp_path / "whole.pt")) == list(wanted) == ["weight", "k\udc80", "bias"]
    assert torchkeep.inspect(tmp_path / "whole.pt")["k\udc80"] == wanted["k\udc80"]
    repr(torchkeep.inspect(tmp_path / "whole.pt")).encode()


def test_every_flipped_top_bit_gives_a_value_or_our_error(tmp_path):
    """A top bit makes a letter of a name into a byte that is no UTF-8."""
    data = saved(tmp_path)
    path = tmp_path / "flipped.pt"
    module = torch.nn.Linear(2, 2)
    for at in range(len(data)):
        if not 0x20 <= data[at] < 0x7f:
            continue
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1:])
        for call in (torchkeep.load, torchkeep.verify, lambda p: repr(torchkeep.inspect(p)),
                     lambda p: torchkeep.load(p, mmap=True), lambda p: torchkeep.load_into(p, module=module)):
            try:
                call(path)
            except torchkeep.Error as error:
                str(error).encode()


def test_a_checkpoint_whose_record_has_an_odd_name_is_passed_over(tmp_path):
    run_folder = tmp_path / "run"

    def start(**options):
        run = torchkeep.Run(run_folder, save_every=1, background=False, signals=False, **options)
        run.track(model=torch.nn.Linear(2, 2))
        return run

    with start() as run:
        for _ in run.steps(3):
            run.finish_step()
    newest = run_folder / "step-00000003.pt"
    data = bytearray(newest.read_bytes())
    data[data.rfind(b"archive/data/0") + 8] ^= 0x80
    newest.write_bytes(data)
    events = []
    with start(on_event=events.append) as run:
        assert run.resume() == 2
    assert [event.kind for event in events if event.is_warning] == ["set_aside"]
    events[0].message.encode()


# ---- the lock


def test_a_copy_of_the_folder_made_by_the_program_keeps_the_lock(tmp_path):
    code = ("import sys, torchkeep\ntry: torchkeep.Run(sys.argv[1], signals=False)\n"
            "except torchkeep.Error as e: print(e.code, e)")

    def other():
        return subprocess.run([sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True,
                              check=True).stdout

    with torchkeep.Run(tmp_path / "run", signals=False) as run:
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        (tmp_path / "run" / ".lock").read_bytes()
        assert other().startswith("busy") and 'role="reader"' in other() and str(os.getpid()) in other()
    run.close()
    assert other() == ""


NO_LOCKS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
static int refuses(int command) {
  return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
}
#define WRAP(name)                                                                   \
  int name(int fd, int command, ...) {                                               \
    va_list list; va_start(list, command); void* argument = va_arg(list, void*); va_end(list); \
    if (refuses(command)) { errno = atoi(getenv("NO_LOCKS")); return -1; }           \
    return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, #name))(fd, command, argument); \
  }
WRAP(fcntl)
WRAP(fcntl64)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="needs Linux and a C compiler")
@pytest.mark.parametrize("error", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_without_locks_a_run_says_what_is_lost_and_goes_on_when_asked(tmp_path, error):
    import errno

    (tmp_path / "n.c").write_text(NO_LOCKS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "n.so", tmp_path / "n.c", "-ldl"], check=True)
    code = """
import sys, warnings, torch, torchkeep
warnings.simplefilter("error")
model = torch.nn.Linear(1, 1)
try:
    torchkeep.Run(sys.argv[1], signals=False)
except torchkeep.Error as e:
    print(e.code, e)
events = []
with torchkeep.Run(sys.argv[1], signals=False, lock="if_available", on_event=events.append) as run:
    run.track(model=model)
    for step in run.steps(2):
        run.finish_step()
print([e.message for e in events if e.is_warning])
print([c.step for c in torchkeep.checkpoints(sys.argv[1])])
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True, check=True,
                          env=os.environ | {"LD_PRELOAD": str(tmp_path / "n.so"), "NO_LOCKS": str(getattr(errno, error))})
    refused, warned, steps = done.stdout.splitlines()
    assert refused.startswith("unsupported") and "two processes could write here at once" in refused
    assert 'set lock="if_available"' in refused
    assert warned.count("file system without locks") == 1 and steps == "[2]"
