# SPDX-License-Identifier: BSD-3-Clause
"""The README tells the truth: its program is the one that is built, and its output is what the program prints."""
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(os.environ["TORCHKEEP_ROOT"])
BIN = pathlib.Path(os.environ["TORCHKEEP_BIN"])
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_program_is_the_quickstart_that_is_built():
    source = (ROOT / "examples" / "quickstart.cpp").read_text()
    program = source[source.index("#include") :]
    assert blocks("cpp")[0] == program


def test_the_output_is_what_the_program_prints_and_python_reads_its_file(tmp_path):
    shell = blocks("console")[0]
    commands = re.split(r"^\$ .*\n", shell, flags=re.MULTILINE)[1:]
    for expected in commands:
        done = subprocess.run([BIN / "example_quickstart"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected
    python = blocks("python")[0]
    done = subprocess.run([sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(re.findall(r"^# prints: (.*\n)", python, re.MULTILINE))
