# SPDX-License-Identifier: BSD-3-Clause
"""The checks for machines with a GPU (tools/gpu-check), tried here on the CPU: the checks themselves work."""
import pathlib
import sys

import pytest

GPU = pathlib.Path(__file__).parents[1] / "gpu"

pytestmark = pytest.mark.skipif(not GPU.exists(), reason="the sources are not here")


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("name", ["dtypes", "provoked_saves", "other_device", "many_threads", "damaged"])
def test_a_check_passes_on_the_cpu(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(GPU)
    import checks

    assert checks.ALL[name](tmp_path, "cpu")


def test_a_failing_check_is_a_line_of_the_table_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(GPU)
    import checks
    import figures  # noqa: F401  (imported by the program)

    def failing(folder, device):
        raise AssertionError("other bits")

    monkeypatch.setattr(checks, "ALL", {"failing": failing, "many_threads": checks.many_threads})
    monkeypatch.setattr(sys, "argv", ["gpu-check", "--device", "cpu", "--only", "failing,many_threads"])
    program = {"__name__": "gpu"}
    exec(compile((GPU / "__main__.py").read_text(), "gpu-check", "exec"), program)
    assert program["main"]() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("FAILED") and "other bits" in lines[1] and lines[2].startswith("ok")
    assert lines[-1] == "1 passed, 1 failed"
