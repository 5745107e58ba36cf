# SPDX-License-Identifier: BSD-3-Clause
"""Whatever PyTorch resumes exactly by state_dict(), torchkeep does: all of torch.optim. `make sweep` asks the other packages."""
import json
import subprocess
import sys

from conftest import ROOT


def test_every_optimizer_of_pytorch_resumes_in_a_fresh_process_as_if_it_had_never_stopped(tmp_path):
    results = tmp_path / "results"
    done = subprocess.run([sys.executable, str(ROOT / "python" / "sweep"), "--package", "torch.optim", "--json", str(results)],
                          capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads(results.read_text())["torch.optim"]
    assert sum(what == "exact" for what, _ in outcomes.values()) > 170, done.stdout


def test_the_sweep_notices_what_is_not_exact():
    """A life that ended with other bits, that was told something, that died, that never began: none of them is exact."""
    whole = {"at_cut": {"model": "a"}, "end": {"model": "b"}}
    good = {"at_cut": {"model": "a"}, "said": []}
    lives = {"other bits": {"at_cut": {"model": "a"}, "end": {"model": "x"}}, "said": {**whole, "said": ["careful"]},
             "died": {"error": "the process died"}, "nothing": {}}
    for name, life in lives.items():
        assert verdict(whole, good, whole, life)[0] == "worse", name
        assert verdict(whole, good, life, {**whole, "said": []})[0] == "exact", name
    assert verdict(whole, {**good, "said": ["a save failed"]}, whole, {**whole, "said": []})[0] == "worse"
    assert verdict(whole, good, whole, {**whole, "said": []})[0] == "exact"


def verdict(*lives):
    sys.path.insert(0, str(ROOT / "python" / "sweep"))
    try:
        import outcomes
    finally:
        sys.path.pop(0)
    return outcomes.verdict(*lives)
