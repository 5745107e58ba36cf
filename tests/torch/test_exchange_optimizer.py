# SPDX-License-Identifier: BSD-3-Clause
"""Every optimizer, every setting, every stage of its life: files go from C++ to Python and back, and the other way
round, and not a bit is lost; training goes on as if it had never stopped."""
import copy

import pytest
import torch

from exchange import Case, default_dtype, load, nameless, raw, same, same_form, tool

SETTINGS = {
    "Adam": {
        "plain": {},
        "amsgrad": {"lr": 0.05, "amsgrad": True},
        "all": {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1},
    },
    "AdamW": {"plain": {}, "amsgrad": {"amsgrad": True}, "all": {"lr": 0.02, "betas": (0.5, 0.9), "weight_decay": 0.3}},
    "SGD": {
        "plain": {"lr": 0.1},
        "momentum": {"lr": 0.1, "momentum": 0.9},
        "dampening": {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
        "nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        "weight_decay": {"lr": 0.1, "weight_decay": 0.2, "momentum": 0.5},
    },
    "RMSprop": {
        "plain": {},
        "momentum": {"momentum": 0.9},
        "centered": {"centered": True},
        "all": {"lr": 0.02, "alpha": 0.9, "eps": 1e-6, "weight_decay": 0.1, "momentum": 0.5, "centered": True},
    },
    "Adagrad": {
        "plain": {},
        "all": {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-6},
    },
    "LBFGS": {
        "plain": {"lr": 0.1},
        "one_iteration": {"max_iter": 1},
        "short_history": {"lr": 0.5, "max_iter": 3, "max_eval": 4, "history_size": 2, "tolerance_grad": 1e-12,
                          "tolerance_change": 1e-14},
        "line_search": {"max_iter": 4, "line_search_fn": "strong_wolfe"},
    },
}
ALL = ["unused", "first.weight", "first.bias", "second.weight", "second.bias"]
# A group's own options in a value that differs from every default, and one that equals LibTorch's default, which its
# constructor would replace.
GROUP_OPTIONS = {"Adam": {"lr": 1e-3, "eps": 0.5}, "AdamW": {"weight_decay": 1e-2, "lr": 0.3},
                 "SGD": {"lr": 1e-3, "momentum": 0}, "RMSprop": {"alpha": 0.99, "lr": 0.3},
                 "Adagrad": {"lr_decay": 0.25, "lr": 1e-2}}


def variants(optimizer):
    """name -> changes of a case"""
    yield "before_the_first_step", {"steps": 0}
    yield "after_one_step", {"steps": 1}
    yield "after_four_steps", {}
    yield "without_names", {"names": False}
    yield "frozen", {"frozen": ["second.weight", "first.bias"]}
    yield "part_of_the_model", {"groups": [{"params": ["second.bias", "first.weight"], "options": {}}]}
    yield "float64", {"dtype": "float64"}
    yield "default_float64", {"dtype": "float64", "default_dtype": "float64"}
    if optimizer != "LBFGS":  # which wants one group of contiguous parameters
        yield "strided", {"strided": True}
        yield "bfloat16", {"dtype": "bfloat16"}
        yield "groups", {"groups": [{"params": ALL[3:], "options": GROUP_OPTIONS[optimizer]},
                                    {"params": ALL[:3], "options": {}}]}


def make_cases():
    for optimizer, settings in SETTINGS.items():
        for setting, defaults in settings.items():
            for variant, changes in variants(optimizer):
                yield {"name": f"{optimizer}-{setting}-{variant}", "optimizer": optimizer, "defaults": defaults,
                       "groups": [{"params": ALL, "options": {}}], "names": True, "frozen": [], "strided": False,
                       "dtype": "float32", "default_dtype": "float32", "steps": 4, "more": 3, **changes}


CASES = {case["name"]: case for case in make_cases()}


def plain_lbfgs(entry):
    """LibTorch keeps LBFGS's step length as a double; Python as an int, a float or a 0-d tensor, with the same effect."""
    if "t" in entry:
        entry["t"] = float(entry["t"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every case's files. C++: .cpp and, trained on, .cpp_end; Python's copy of it: .py, trained on in C++: .cpp_went.
    Python: .start and .start_end; C++'s copy of it: .relay."""
    path = tmp_path_factory.mktemp("exchange")
    torch.save(list(CASES.values()), path / "cases.pt")
    tool("write", path / "cases.pt", path)
    for name, spec in CASES.items():
        with default_dtype(spec["default_dtype"]):
            case = Case(spec)
            case.load(load(path / f"{name}.cpp.pt"))
            torch.save(case.state(), path / f"{name}.py.pt")
            case = Case(spec)
            case.train(0, spec["steps"])
            torch.save(case.state(), path / f"{name}.start.pt")
            case.train(spec["steps"], spec["more"])
            torch.save(case.state(), path / f"{name}.start_end.pt")
    tool("read", path / "cases.pt", path, "py", "cpp_again", "cpp_went")
    tool("read", path / "cases.pt", path, "start", "relay", "relay_went")
    return path


@pytest.fixture(params=CASES)
def spec(request):
    with default_dtype(CASES[request.param]["default_dtype"]):
        yield CASES[request.param]


def test_python_reads_every_bit_and_keeps_it(folder, spec):
    written = load(folder / f"{spec['name']}.cpp.pt")
    case = Case(spec)
    case.load(copy.deepcopy(written))
    names = written["optimizer"].get("param_names")
    assert names in (None, [group["params"] for group in spec["groups"]])
    same(case.state(), written)


def test_the_file_has_pythons_form(folder, spec):
    written, own = (load(folder / f"{spec['name']}.{which}.pt") for which in ("cpp", "start"))
    groups = zip(written["optimizer"]["param_groups"], own["optimizer"]["param_groups"])
    for ours, pythons in groups:
        same(ours, pythons, order=False)
        if not any(group["options"] for group in spec["groups"]):  # Python puts a group's own options first
            assert list(nameless(ours)) == list(nameless(pythons))
    for which in (written, own):
        for entry in which["optimizer"]["state"].values():
            plain_lbfgs(entry)
            for key in ("al", "old_dirs", "old_stps", "ro"):  # how many there are depends on the numbers
                if key in entry:
                    entry[key] = [value for value in entry[key] if value is not None][:1]
    state = own["optimizer"]["state"]
    same_form(dict(sorted(written["optimizer"]["state"].items())), dict(sorted(state.items())))
    same_form(dict(sorted(written["model"].items())), dict(sorted(own["model"].items())))


def test_the_way_to_python_and_back_loses_nothing(folder):
    pairs = []
    for name in CASES:
        pairs.append([str(folder / f"{name}.cpp.pt"), str(folder / f"{name}.cpp_again.pt")])
        pairs.append([str(folder / f"{name}.cpp_end.pt"), str(folder / f"{name}.cpp_went.pt")])
    torch.save(pairs, folder / "pairs.pt")
    results = tool("equal", folder / "pairs.pt").split()
    assert len(results) == len(pairs)
    assert [pair for pair, result in zip(pairs, results) if result != "equal"] == []


def test_the_way_to_cpp_and_back_loses_nothing(folder, spec):
    start, relay = (load(folder / f"{spec['name']}.{which}.pt") for which in ("start", "relay"))
    for state in (start, relay):
        for entry in state["optimizer"]["state"].values():
            plain_lbfgs(entry)
        state["optimizer"]["state"] = dict(sorted(state["optimizer"]["state"].items()))
        state["model"] = dict(sorted(state["model"].items()))
    same(relay["model"], start["model"])
    same(relay["optimizer"]["state"], start["optimizer"]["state"])
    same(relay["optimizer"]["param_groups"], start["optimizer"]["param_groups"], order=False)


def test_python_continues_as_if_it_had_never_stopped(folder, spec):
    case = Case(spec)
    case.load(load(folder / f"{spec['name']}.relay.pt"))
    case.train(spec["steps"], spec["more"])
    end = load(folder / f"{spec['name']}.start_end.pt")
    same(case.net.state_dict(), end["model"])
    same(dict(sorted(case.optimizer.state_dict()["state"].items())), dict(sorted(end["optimizer"]["state"].items())))


def test_both_languages_train_alike(folder, spec):
    """A wrong field or option would make another training. Bits are promised where LibTorch's arithmetic is Python's."""
    ends = [load(folder / f"{spec['name']}.{which}.pt")["model"] for which in ("relay_went", "start_end")]
    exact = spec["optimizer"] in ("SGD", "Adagrad") or (spec["optimizer"] == "RMSprop" and "centered" not in spec["defaults"])
    for name in ends[0]:
        if exact and spec["dtype"] != "bfloat16":
            assert raw(ends[0][name]) == raw(ends[1][name]), name
        else:
            tolerance = {"float64": 1e-9, "float32": 2e-5, "bfloat16": 2e-2}[spec["dtype"]]
            torch.testing.assert_close(ends[0][name], ends[1][name], rtol=tolerance, atol=tolerance)
