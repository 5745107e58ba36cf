# SPDX-License-Identifier: BSD-3-Clause
"""The stubs say what the package has: the same names and the same parameters."""
import ast
import inspect
import pathlib

import torchkeep

FOLDER = pathlib.Path(torchkeep.__file__).parent
STUBS = {node.name: node for node in ast.parse((FOLDER / "__init__.pyi").read_text()).body if hasattr(node, "name")}


def parameters(node):
    """(name, may be left out) of each."""
    arguments = node.args
    plain = arguments.posonlyargs + arguments.args
    optional = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    found = [(a.arg, default is not None) for a, default in zip(plain, optional)]
    found += [(a.arg, default is not None) for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults)]
    return found


def real(function):
    return [(p.name, p.default is not p.empty) for p in inspect.signature(function).parameters.values()
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


def test_the_package_is_typed():
    assert (FOLDER / "py.typed").exists()


def test_every_public_name_has_a_stub_and_no_other():
    assert {name for name in STUBS if not name.startswith("_")} == set(torchkeep.__all__) - {"__version__"}


def test_every_stub_has_the_parameters_of_the_thing_itself():
    for name, node in STUBS.items():
        thing = getattr(torchkeep, name)
        if isinstance(node, ast.FunctionDef):
            assert parameters(node) == real(thing), name
            continue
        for method in [part for part in node.body if isinstance(part, ast.FunctionDef)]:
            own = inspect.getattr_static(thing, method.name)
            if not isinstance(own, property):
                assert parameters(method) == real(own), f"{name}.{method.name}"


def test_every_public_thing_is_documented():
    for name in torchkeep.__all__:
        thing = getattr(torchkeep, name)
        if name != "__version__":
            assert thing.__doc__, name
        if inspect.isclass(thing) and thing.__module__.startswith("torchkeep") and not issubclass(thing, Exception):
            for method, function in vars(thing).items():
                if not method.startswith("_") and callable(function):
                    assert function.__doc__, f"{name}.{method}"
