# SPDX-License-Identifier: BSD-3-Clause
"""The code in docs/run.md is code that runs: the C++ in tests/torch/run_complete_test.cpp, the shell here."""
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(os.environ["TORCHKEEP_ROOT"])
PAGE = (ROOT / "docs" / "run.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def without_layout(code):
    return "".join(code.split())


def test_its_cpp_is_tested():
    tested = without_layout((ROOT / "tests" / "torch" / "run_complete_test.cpp").read_text())
    assert len(blocks("cpp")) == 3
    for block in blocks("cpp"):
        assert without_layout(block) in tested, block


def test_its_loop_runs_a_program_until_it_says_done(tmp_path):
    train = tmp_path / "train"
    train.write_text("#!/bin/sh\necho >>starts\n[ $(wc -l <starts) -ge 3 ] || exit 75\nexit $LAST\n")
    train.chmod(0o755)
    loop = next(block for block in blocks("sh") if block.startswith("until"))
    for last in (0, 74):
        (tmp_path / "starts").unlink(missing_ok=True)
        done = subprocess.run(["sh", "-c", loop], cwd=tmp_path, env={**os.environ, "LAST": str(last)}, timeout=60)
        assert done.returncode == last
        assert len((tmp_path / "starts").read_text().splitlines()) == 3
