# SPDX-License-Identifier: BSD-3-Clause
"""File objects: every call takes them, what is written is whole or an error, and nothing else is needed for it."""
import bz2
import contextlib
import errno
import gzip
import io
import os
import tempfile
import zipfile

import pytest
import torch
import torchkeep

STATE = {"a": torch.arange(50_000.0), "b": [1, "two"]}


def whole():
    stream = io.BytesIO()
    torchkeep.save(STATE, stream)
    return stream.getvalue()


def same(loaded):
    return torch.equal(loaded["a"], STATE["a"]) and loaded["b"] == STATE["b"]


class Raw(io.RawIOBase):
    """A raw file that takes what `take` says of each write."""

    def __init__(self, take):
        self.data, self.take = bytearray(), take

    def writable(self):
        return True

    def write(self, block):
        taken = self.take(len(block))
        if isinstance(taken, int) and taken > 0:
            self.data += bytes(block)[:taken]
        return taken


class Silent:
    """Takes everything and says nothing; with `counts`, tell() does."""

    def __init__(self, counts):
        self.data = bytearray()
        if counts:
            self.tell = lambda: len(self.data)

    def write(self, block):
        self.data += bytes(block)


def test_the_bytes_are_those_of_a_file(tmp_path):
    torchkeep.save(STATE, tmp_path / "a.pt")
    assert whole() == (tmp_path / "a.pt").read_bytes()
    assert same(torch.load(io.BytesIO(whole()), weights_only=True))


def test_it_stands_behind_what_was_there_and_is_read_from_where_the_object_stands():
    stream = io.BytesIO(b"before!")
    stream.seek(7)
    torchkeep.save(STATE, stream)
    assert stream.getvalue() == b"before!" + whole()
    stream.seek(7)
    assert same(torchkeep.load(stream))


@pytest.mark.parametrize("open_file", [gzip.open, bz2.open, open], ids=["gzip", "bz2", "open"])
def test_any_object_of_the_standard_library(tmp_path, open_file):
    with open_file(tmp_path / "a", "wb") as file:
        torchkeep.save(STATE, file)
    with open_file(tmp_path / "a", "rb") as file:
        assert same(torchkeep.load(file))
    with open_file(tmp_path / "a", "rb") as file:
        shown = torchkeep.inspect(file)
    assert shown["a"].numpy().tolist() == STATE["a"].tolist()
    shown.verify()
    with open_file(tmp_path / "a", "rb") as file:
        torchkeep.verify(file)


def test_a_member_of_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, archive.open("m.pt", "w") as file:
        torchkeep.save(STATE, file)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("m.pt") as file:
        assert same(torchkeep.load(file))


def test_load_into_reads_them(tmp_path):
    model, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    stream = io.BytesIO()
    torchkeep.save({"model": model.state_dict(), "step": 5}, stream)
    stream.seek(0)
    assert torchkeep.load_into(stream, verify_first=True, model=other) == {"step": 5}
    assert torch.equal(model.weight, other.weight) and torch.equal(model.bias, other.bias)


def test_what_is_saved_is_flushed():
    with tempfile.NamedTemporaryFile() as file:
        torchkeep.save(STATE, file)
        assert os.path.getsize(file.name) == len(whole()) and same(torchkeep.load(file.name))


def test_no_folder_for_temporary_files_is_needed(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent/folder")
    assert same(torchkeep.load(io.BytesIO(whole())))


def test_a_write_of_a_part_is_followed_by_the_rest():
    for take in (lambda size: min(size, 1000), lambda size: (size + 1) // 2, lambda size: size):
        raw = Raw(take)
        torchkeep.save(STATE, raw)
        assert bytes(raw.data) == whole()


def test_a_write_that_does_not_say_how_much_is_believed_only_where_the_position_does():
    file = Silent(counts=True)
    torchkeep.save(STATE, file)
    assert bytes(file.data) == whole()
    with pytest.raises(torchkeep.SystemFailure, match="found None: what was saved is not complete"):
        torchkeep.save(STATE, Silent(counts=False))


@pytest.mark.parametrize("answer", [None, 0, -1, 10 ** 9, "many"])
def test_a_write_that_takes_nothing_is_an_error(answer):
    with pytest.raises(torchkeep.SystemFailure, match="<Raw>: expected write"):
        torchkeep.save(STATE, Raw(lambda size: answer))


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_full_disk_is_an_error(buffering):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    descriptor = os.open("/dev/full", os.O_WRONLY)
    file = open(descriptor, "wb", buffering=buffering, closefd=False)
    with pytest.raises(OSError) as caught:
        torchkeep.save({"a": 1}, file)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) if buffering else contextlib.nullcontext():
        file.close()  # what is in its buffer is still not written
    os.close(descriptor)


def test_what_the_object_raises_comes_out_as_it_is():
    class Mine(Exception):
        pass

    def refuse(size):
        raise Mine("a quota of my own")

    with pytest.raises(Mine, match="a quota of my own"):
        torchkeep.save(STATE, Raw(refuse))


def test_an_object_for_characters_is_refused_before_anything_is_written(tmp_path):
    with open(tmp_path / "a.pt", "w") as file, pytest.raises(torchkeep.InvalidArgumentError, match="mode 'wb'"):
        torchkeep.save(STATE, file)
    with open(tmp_path / "a.pt") as file, pytest.raises(torchkeep.InvalidArgumentError, match="mode 'rb'"):
        torchkeep.load(file)
    assert os.path.getsize(tmp_path / "a.pt") == 0


def test_a_read_of_a_part_is_followed_by_the_rest():
    class Short:
        def __init__(self):
            self.stream = io.BytesIO(whole())

        def read(self, size=-1):
            return self.stream.read(100_000)

    assert same(torchkeep.load(Short()))


def test_a_read_that_would_wait_or_gives_no_bytes_is_an_error():
    class Answer:
        def __init__(self, answer):
            self.answer = answer

        def read(self, size=-1):
            return self.answer

    with pytest.raises(torchkeep.SystemFailure, match="does not wait"):
        torchkeep.load(Answer(None))
    with pytest.raises(torchkeep.InvalidArgumentError, match="found str"):
        torchkeep.load(Answer("text"))


def test_errors_name_the_object(tmp_path):
    with pytest.raises(torchkeep.Error, match="<BytesIO>"):
        torchkeep.load(io.BytesIO(whole()[:-30]))
    (tmp_path / "cut.pt").write_bytes(whole()[:-30])
    for call in (torchkeep.load, torchkeep.inspect, torchkeep.verify):
        with open(tmp_path / "cut.pt", "rb") as file, pytest.raises(torchkeep.Error, match="cut.pt"):
            call(file)


def test_an_index_of_shards_has_none_beside_an_object():
    index = b'{"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}'
    with pytest.raises(torchkeep.Error, match="shards cannot be opened"):
        torchkeep.load(io.BytesIO(index))


def test_a_path_with_methods_called_read_and_write_is_a_path(tmp_path):
    class Local(os.PathLike):
        def __fspath__(self):
            return str(tmp_path / "a.pt")

        def read(self):
            raise AssertionError

        write = read

    torchkeep.save(STATE, Local())
    assert same(torchkeep.load(Local()))


def test_progress_counts_the_bytes_of_an_object():
    seen = []
    torchkeep.save(STATE, io.BytesIO(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(whole()), len(whole()))
