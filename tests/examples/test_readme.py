# SPDX-License-Identifier: BSD-3-Clause
"""The README tells the truth: its program is the one that is built, and its output is what the program prints."""
import os
import pathlib
import re
import signal
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
    shell = re.split(r"^\$ ./example_quickstart(.*)\n", blocks("console")[0], flags=re.MULTILINE)[1:]
    assert len(shell) == 4
    for arguments, expected in zip(shell[::2], shell[1::2]):
        done = subprocess.run([BIN / "example_quickstart", *arguments.split()], cwd=tmp_path, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=300)
        killed = expected.endswith("Killed\n")  # which is what the shell says
        assert done.returncode == (-signal.SIGKILL if killed else 0), done.stdout
        assert done.stdout == expected.removesuffix("Killed\n")
    python = blocks("python")[0]
    done = subprocess.run([sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(re.findall(r"^# prints: (.*\n)", python, re.MULTILINE))
