# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark runs from end to end on a tiny state: every candidate keeps it bit for bit, or the run stops."""
import json
import os
import pathlib
import subprocess

BENCH = pathlib.Path(os.environ["TORCHKEEP_BIN"]) / "bench"


def test_writes_a_report_and_a_picture_of_candidates_that_kept_every_bit(tmp_path):
    done = subprocess.run([BENCH, "--size", "tiny", "--workloads", "gpt2", "--conditions", "WARM", "--runs", "1",
                           "--saves", "2", "--train-threads", "1", "--no-growth", "--out", tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    everything = json.loads((tmp_path / "bench.json").read_text())
    results = everything["workloads"]["gpt2"]
    assert {"torchkeep", "torchkeep, durable", "torch.save", "plain write"} <= results["saves"]["WARM"].keys()
    assert {"torchkeep", "torchkeep, mapped", "torch.load"} <= results["loads"]["WARM"].keys()
    assert {"torchkeep", "torch.load + load_state_dict", "DCP load"} <= results["resumes"]["WARM"].keys()
    assert {"torchkeep", "torch.load"} <= results["from_disk"]["WARM"].keys()
    for training in everything["training"].values():
        assert {"torchkeep", "torch.save + fsync", "DCP async_save", "DCP async_save, staged"} <= training["rows"].keys()
        assert all(row["n"] == 2 for row in training["rows"].values())
    report = (tmp_path / "report.md").read_text()
    assert "GPT-2-small and Adam" in report and "## Aims" in report and "## Saving while" in report
    assert (tmp_path / "bench.svg").read_text().startswith("<svg ")
    assert not list(tmp_path.glob("bench-*")), "the states are removed"
