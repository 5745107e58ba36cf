# SPDX-License-Identifier: BSD-3-Clause
"""Objects of classes that torchkeep does not know hide nothing of the file; data classes arrive as data."""
import argparse
import collections
import datetime
import decimal
import enum
import fractions
import os
import pathlib
import pickle
import platform
import socket
import subprocess
import sys
import types
import uuid

import numpy
import pytest
import torch

import torchkeep


class Color(enum.Enum):
    RED = 1


class Config:
    def __init__(self):
        self.width = 3
        self.weight = torch.arange(3.0)


Point = collections.namedtuple("Point", "x y")


def saved(value, path, **options):
    torch.save(value, path, **options)
    return path


BUILTINS = [
    argparse.Namespace(lr=0.1, layers=[1, 2]), argparse.Namespace(), types.SimpleNamespace(a=1), pathlib.Path("/data/train"),
    pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("C:/data"), datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), datetime.date(2024, 2, 29), datetime.time(1, 2, 3),
    datetime.timedelta(days=-1, microseconds=7), datetime.timezone(datetime.timedelta(hours=5, minutes=30)),
    fractions.Fraction(-3, 4), decimal.Decimal("1.50E+3"), decimal.Decimal("NaN"), uuid.UUID(int=7), uuid.uuid1(),
    collections.deque([1, 2], 5), collections.deque(), collections.defaultdict(list, {"a": [1]}), range(0, 10, 3),
    slice(1, None),
]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("value", BUILTINS, ids=repr)
def test_an_object_of_pythons_own_data_classes_arrives_as_it_was(value, protocol, tmp_path):
    path = saved({"value": value, "w": torch.ones(2)}, tmp_path / "a.pt", pickle_protocol=protocol)
    for found in (torchkeep.load(path)["value"], torchkeep.inspect(path)["value"]):
        assert type(found) is type(value)
        assert repr(found) == repr(value)


def test_a_namespace_that_contains_itself_does_so_again(tmp_path):
    namespace = argparse.Namespace()
    namespace.me = namespace
    found = torchkeep.load(saved([namespace], tmp_path / "a.pt"))[0]
    assert found.me is found
    assert "Namespace of 1" in repr(torchkeep.inspect(tmp_path / "a.pt"))


def test_structs_of_the_system_arrive_as_tuples_of_their_fields(tmp_path):
    path = saved({"os": os.uname(), "platform": platform.uname()}, tmp_path / "a.pt")
    assert torchkeep.load(path) == {"os": tuple(os.uname()), "platform": tuple(platform.uname())[:5]}


def test_arrays_of_texts_and_objects_arrive_as_lists(tmp_path):
    value = {"names": numpy.array([["cat", "d\u00f6g"], ["", "x"]]), "columns": numpy.asfortranarray([["a", "b"], ["c", "d"]]),
             "bytes": numpy.array([b"ab", b"c"]), "objects": numpy.array([1, None, "x"], dtype=object),
             "text": numpy.str_("t")}
    for protocol in (2, 5):
        found = torchkeep.load(saved(value, tmp_path / "a.pt", pickle_protocol=protocol))
        assert found == {name: part.tolist() for name, part in value.items()}


def test_dicts_with_a_class_of_their_own_arrive_as_dicts(tmp_path):
    omegaconf = pytest.importorskip("omegaconf")
    data = pytest.importorskip("lightning.fabric.utilities.data")
    value = {"hydra": omegaconf.OmegaConf.create({"lr": 0.1, "layers": [1, {"a": "${lr}"}], "none": None}),
             "hyper_parameters": data.AttributeDict(a=1, b={"c": 2})}
    found = torchkeep.load(saved(value, tmp_path / "a.pt"))
    assert found == {"hydra": {"lr": 0.1, "layers": [1, {"a": "${lr}"}], "none": None},
                     "hyper_parameters": {"a": 1, "b": {"c": 2}}}
    assert type(found["hydra"]) is dict and type(found["hyper_parameters"]) is dict


def test_an_object_of_an_unknown_class_says_what_the_file_says(tmp_path):
    value = {"config": Config(), "color": Color.RED, "point": Point(1, 2), "activation": torch.nn.ReLU,
             "w": torch.ones(2)}
    found = torchkeep.load(saved(value, tmp_path / "a.pt"))
    config = found["config"]
    assert type(config) is torchkeep.Opaque and config.class_name == f"{__name__}.Config"
    assert config.state["width"] == 3 and torch.equal(config.state["weight"], torch.arange(3.0))
    assert found["color"].class_name.endswith(".Color") and found["color"].args == (1,)
    assert found["point"].args == (1, 2)
    assert found["activation"].kind == "name"
    assert "Color made from (1)" in repr(found["color"]) and "with width, weight" in repr(config)
    assert torch.equal(found["w"], torch.ones(2))
    assert type(pickle.loads(pickle.dumps(config))) is torchkeep.Opaque


def test_names_of_classes_are_keys_as_before(tmp_path):
    found = torchkeep.load(saved({torch.nn.ReLU: 1, torch.nn.GELU: 2}, tmp_path / "a.pt"))
    again = torchkeep.load(tmp_path / "a.pt")
    assert len(found) == 2 and list(found) == list(again) and found == again


def test_an_unknown_class_is_refused_when_that_is_asked_for_and_every_way_out_is_named(tmp_path):
    path = saved({"args": argparse.Namespace(lr=1), "w": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(torchkeep.RefusedError, match="argparse.Namespace") as caught:
        torchkeep.load(path, unknown_classes="refuse")
    for way in ('unknown_classes="opaque"', "drop_objects=True", "only=", "inspect"):
        assert way in str(caught.value)
    assert caught.value.file == str(path)
    with pytest.raises(torchkeep.InvalidArgumentError, match="unknown_classes"):
        torchkeep.load(path, unknown_classes="ignore")


def test_objects_can_be_left_out_and_data_stays(tmp_path):
    value = {"config": Config(), "args": argparse.Namespace(lr=1), "callbacks": {torch.nn.ReLU: {"best": 1.0}, "x": 2},
             "list": [1, Color.RED], "w": torch.ones(2)}
    found = torchkeep.load(saved(value, tmp_path / "a.pt"), drop_objects=True)
    assert list(found) == ["args", "callbacks", "list", "w"]
    assert found["callbacks"] == {"x": 2} and found["list"] == [1, None] and found["args"] == argparse.Namespace(lr=1)
    torchkeep.save({name: part for name, part in found.items() if name != "args"}, tmp_path / "b.pt")


def test_parts_are_loaded_beside_objects_and_nothing_else_is_read(tmp_path):
    path = saved({"config": Config(), "model": {"w": torch.ones(2)}, "big": torch.zeros(50_000)}, tmp_path / "a.pt")
    data = bytearray(path.read_bytes())
    data[-120_000] ^= 1  # a bit of the tensor that nobody asks for
    path.write_bytes(data)
    assert torchkeep.load(path, only="model.w").tolist() == [1, 1]
    assert list(torchkeep.load(path, only=["model"], drop_objects=True)) == ["model"]
    assert list(torchkeep.load(path, only=["model"], mmap=True)) == ["model"]
    with open(path, "rb") as file:
        assert list(torchkeep.load(file, only="model")) == ["w"]
    with pytest.raises(torchkeep.NotFoundError, match="no part called 'optimizer'; at the top there are"):
        torchkeep.load(path, only="optimizer")


def test_load_into_takes_the_plain_parts_beside_objects(tmp_path):
    model = torch.nn.Linear(3, 2)
    path = saved({"model": model.state_dict(), "config": Config(), "args": argparse.Namespace(lr=1)}, tmp_path / "a.pt")
    other = torch.nn.Linear(3, 2)
    rest = torchkeep.load_into(path, model=other)
    assert torch.equal(other.weight, model.weight)
    assert rest["args"].lr == 1 and torch.equal(rest["config"].state["weight"], torch.arange(3.0))


def test_every_way_to_look_agrees_about_the_tensors(tmp_path):
    path = saved({"model": torch.nn.BatchNorm1d(2), "args": argparse.Namespace(w=torch.ones(1)), "config": Config()},
                 tmp_path / "a.pt")
    names = [name for name, _ in torchkeep.inspect(path).tensors()]
    listed = subprocess.run([sys.executable, "-m", "torchkeep", "ls", "-t", "--names", path], capture_output=True,
                            text=True, check=True).stdout.split()
    assert names == listed
    assert {"args.w", "config.state.weight", "model.state._parameters.weight"} <= set(names)


@pytest.mark.parametrize("value", [os.uname(), os.terminal_size((80, 24)), socket.AF_INET, platform.uname(),
                                   subprocess.CompletedProcess(["git"], 0)], ids=lambda value: type(value).__name__)
def test_a_name_that_does_nothing_is_no_attack(value, tmp_path):
    path = saved({"host": value, "w": torch.ones(2)}, tmp_path / "a.pt")
    assert torchkeep.load(path)["w"].tolist() == [1, 1]
    subprocess.run([sys.executable, "-m", "torchkeep", "ls", path], check=True, capture_output=True)


class Attack:
    def __reduce__(self):
        return os.system, ("true",)


def test_an_attack_is_refused_and_can_be_looked_at(tmp_path):
    path = saved({"x": Attack()}, tmp_path / "a.pt")
    with pytest.raises(torchkeep.RefusedError, match="posix.system'; a file that names this is an attack"):
        torchkeep.load(path)
    assert torchkeep.inspect(path)["x"].args == ("true",)



def test_a_key_that_python_cannot_hash_is_an_error_of_the_file(tmp_path):
    namespace = b"cargparse\nNamespace\n)\x81"
    for body in (b"}" + namespace + b"K\1s.", b"c__builtin__\nset\n]" + namespace + b"a\x85R."):
        (tmp_path / "a.pkl").write_bytes(b"\x80\2" + body)
        with pytest.raises(torchkeep.Error, match="cannot be one") as caught:
            torchkeep.load(tmp_path / "a.pkl")
        assert caught.value.code == "corrupt"
