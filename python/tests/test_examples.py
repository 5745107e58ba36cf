# SPDX-License-Identifier: BSD-3-Clause
"""The examples, with torchkeep where they say torch.save and torch.load: the same output, and each other's files."""
import contextlib
import io
import runpy
import sys

import pytest
from conftest import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(program, folder, *part):
    """The program's output; in this process, for importing PyTorch takes longer than an example."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr(sys, "argv", [str(program), str(folder / "checkpoint.pt"), *part])
        runpy.run_path(str(program), run_name="__main__")
    return output.getvalue().replace(str(folder), "")


def rewritten(example, folder):
    text = example.read_text()
    for name in ("save", "load"):
        assert f"torch.{name}(" in text
        text = text.replace(f"torch.{name}(", f"torchkeep.{name}(")
    program = folder / example.name
    program.write_text(text.replace("import torch\n", "import torch\nimport torchkeep\n", 1))
    return program


def test_there_are_three():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_well_with_torchkeep(example, tmp_path):
    ours, first, second = rewritten(example, tmp_path), tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    assert run(ours, first) == run(example, second)
    # Each continues from the other's file as from its own.
    assert run(example, first, "resume") == run(example, second, "resume")
    assert run(ours, second, "resume") == run(ours, first, "resume")
