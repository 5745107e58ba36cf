# SPDX-License-Identifier: BSD-3-Clause
"""The command-line program comes with the package."""
import pathlib
import subprocess
import sys
import sysconfig

import torch

import torchkeep

PROGRAM = pathlib.Path(sysconfig.get_path("scripts")) / "torchkeep"


def test_the_program_shows_and_verifies_what_the_package_saves(tmp_path):
    torchkeep.save({"weight": torch.ones(2, 3), "step": 7}, tmp_path / "a.pt")
    shown = subprocess.run([PROGRAM, "show", tmp_path / "a.pt"], capture_output=True, text=True)
    assert shown.returncode == 0 and "weight" in shown.stdout, shown.stderr
    assert subprocess.run([PROGRAM, "verify", tmp_path / "a.pt"], capture_output=True).returncode == 0


def test_python_m_torchkeep_is_the_program():
    outputs = [subprocess.run([*program, "--version"], capture_output=True, text=True, check=True).stdout
               for program in ([PROGRAM], [sys.executable, "-m", "torchkeep"])]
    assert outputs[0] == outputs[1] and torchkeep.__version__ in outputs[0]
