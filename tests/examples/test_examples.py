# SPDX-License-Identifier: BSD-3-Clause
"""Every example and its twin: the same output, and each resumes from the other's file as from its own."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(os.environ["TORCHKEEP_ROOT"])
BIN = pathlib.Path(os.environ["TORCHKEEP_BIN"])
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


def run(language, example, *arguments):
    program = {
        "C++": [BIN / f"example_{example}"],
        "Python": [sys.executable, ROOT / "examples" / f"{example}.py"],
    }[language]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(output):
    """The printed losses, rounded to the five digits on which the two languages' Adam agree."""
    return [f"{float(loss):.4e}" for loss in re.findall(r"loss ([\d.e+-]+)", output)]


def learning_rates(output):
    return re.findall(r"lr ([\d.e+-]+)", output)


def test_every_cpp_example_but_the_quickstart_has_a_python_twin():
    programs = {path.stem for path in (ROOT / "examples").glob("*.cpp")} - {"quickstart"}
    assert programs == set(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_both_languages_print_the_same_losses(example, tmp_path):
    outputs = [run(language, example, tmp_path / f"{i}.pt") for i, language in enumerate(["C++", "Python"])]
    assert losses(outputs[0]) == losses(outputs[1])
    assert len(losses(outputs[0])) >= 10
    assert learning_rates(outputs[0]) == learning_rates(outputs[1])


@pytest.mark.parametrize("reader", ["C++", "Python"])
@pytest.mark.parametrize("writer", ["C++", "Python"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_a_resume_prints_the_same_losses_whoever_wrote_the_file(example, writer, reader, tmp_path):
    path = tmp_path / "checkpoint.pt"
    run(writer, example, path, "save")
    resumed = run(reader, example, path, "resume")
    whole = run(reader, example, tmp_path / "whole.pt")
    assert "resumed after epoch" in resumed
    assert losses(resumed) == losses(whole)[-len(losses(resumed)):]
    assert learning_rates(resumed) == learning_rates(whole)[len(learning_rates(whole)) - len(learning_rates(resumed)):]
