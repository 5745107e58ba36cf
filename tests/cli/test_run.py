# SPDX-License-Identifier: BSD-3-Clause
"""ls, path, pin, unpin, rm, prune and plot on run directories."""
import fcntl
import os
import re
import struct
import xml.etree.ElementTree as xml

from conftest import run, tool


def steps(folder):
    return sorted(int(path.name[5:13]) for path in folder.glob("step-*.pt"))


def test_ls_says_why_each_checkpoint_is_kept(run_directory):
    found = run("ls", "--json", run_directory).json
    assert [each["step"] for each in found["checkpoints"]] == [210, 220, 230]
    assert [each["kept_by"] for each in found["checkpoints"]] == [
        ["one of the 3 newest"], ["one of the 3 newest", "best loss"], ["newest"]]
    assert [each["last"] for each in found["checkpoints"]] == [False, False, True]
    assert [each["best"] for each in found["checkpoints"]] == [False, True, False]
    assert found["rules"] == {"keep_last": 3, "keep_every": 0, "keep_best": 1, "metric": "loss", "best": "min"}
    assert found["checkpoints"][0]["metrics"].keys() == {"loss", "lr"}
    text = run("ls", run_directory).out
    assert "one of the 3 newest, best loss" in text and re.search(r"20\d\d-\d\d-\d\dT", text)


def test_ls_shows_pinned_broken_and_left_over(own_run):
    run("pin", own_run, 10)
    (own_run / "step-00000020.pt").write_bytes(b"no zip")
    (own_run / "step-00000020.pt.broken").write_bytes(b"set aside")
    (own_run / ".step-00000060.pt.tmp-1-0").write_bytes(b"half")
    (own_run / "pin-00000099").touch()
    (own_run / "finished-00000050").touch()
    found = run("ls", "--json", own_run).json
    by_step = {each["step"]: each for each in found["checkpoints"]}
    assert by_step[10]["pinned"] and "pinned" in by_step[10]["kept_by"]
    assert by_step[20]["problem"] and not by_step[30]["problem"]
    assert len(found["broken"]) == 1 and len(found["leftovers"]) == 1
    assert found["dangling_pins"] == [99] and found["finished"] == 50
    text = run("ls", own_run).out
    for part in ("pinned", "damaged: ", "broken: ", "finished at step 50", "a pin of step 99"):
        assert part in text, part


def test_path_prints_one_path_for_scripts(own_run):
    for which, step in (("last", 50), ("best", 30), ("20", 20)):
        assert run("path", own_run, which).out == f"{own_run}/step-{step:08}.pt\n"
    assert run("path", own_run).out == run("path", own_run, "last").out
    assert run("path", own_run, "best", "--metric", "loss", "--max").out.endswith("step-00000010.pt\n")
    assert "the newest of step 50" in run("path", own_run, "25", status=2).err
    run("path", own_run, "newest", status=2)
    run("path", own_run / "nothing", status=2)


def test_pin_and_unpin(own_run):
    assert "would have pinned step 30" in run("pin", "--dry-run", own_run, "best").out
    assert not (own_run / "pin-00000030").exists()
    assert run("pin", own_run, "best", "10").out == "pinned step 30\npinned step 10\n"
    assert (own_run / "pin-00000030").exists()
    assert run("pin", own_run, "10").out == "step 10 was pinned already\n"
    assert run("unpin", "--json", own_run, "10", "20").json["changed"] == [10]
    assert not (own_run / "pin-00000010").exists()
    run("pin", own_run, "15", status=2)


def test_prune_keeps_what_the_rules_say(own_run):
    run("pin", own_run, 10)
    dry = run("prune", "--json", "-n", "--keep-last", "1", "--keep-best", "1", own_run).json
    assert [each["step"] for each in dry["removed"]] == [20, 40] and dry["dry_run"]
    assert steps(own_run) == [10, 20, 30, 40, 50]
    done = run("prune", "--json", "--keep-last", "1", "--keep-best", "1", own_run).json
    assert done["removed"] == dry["removed"] and not done["dry_run"]
    assert steps(own_run) == [10, 30, 50]
    assert "nothing to remove" in run("prune", "--keep-last", "1", "--keep-best", "1", own_run).out


def test_prune_takes_the_runs_own_rules_and_other_metrics(own_run):
    assert "nothing to remove" in run("prune", own_run).out  # it keeps 9
    run("prune", own_run, "--keep-every", "20", "--keep-best", "1", "--metric", "lr", "--max")
    assert steps(own_run) == [10, 20, 40, 50]


def test_prune_removes_nothing_while_the_newest_is_damaged(own_run):
    data = bytearray((own_run / "step-00000050.pt").read_bytes())
    data[-400] ^= 1
    (own_run / "step-00000050.pt").write_bytes(data[:-200])
    run("prune", own_run, "--keep-last", "1", status=1)
    assert steps(own_run) == [10, 20, 30, 40, 50]


def test_rm_removes_what_it_is_told_to(own_run):
    assert "would remove" in run("rm", "-n", own_run, 10, 20).out and len(steps(own_run)) == 5
    assert run("rm", "--json", own_run, 10, 20).json["removed"][0]["step"] == 10
    assert steps(own_run) == [30, 40, 50]
    error = run("rm", own_run, 30, 35, 36, status=2).err
    assert "35" in error and steps(own_run) == [30, 40, 50]


def test_rm_needs_force_for_the_newest_and_for_pinned_ones(own_run):
    run("pin", own_run, 20)
    assert "newest" in run("rm", own_run, "last", status=2).err
    assert "pinned" in run("rm", own_run, 10, 20, status=2).err
    assert steps(own_run) == [10, 20, 30, 40, 50]
    run("rm", "-f", own_run, "last", 20)
    assert steps(own_run) == [10, 30, 40] and not (own_run / "pin-00000020").exists()


def test_rm_broken_removes_what_was_set_aside(own_run):
    (own_run / "step-00000060.pt.broken").write_bytes(b"x" * 7)
    assert "7 B" in run("rm", "--broken", "-n", own_run).out
    run("rm", "--broken", own_run)
    assert not list(own_run.glob("*.broken")) and len(steps(own_run)) == 5
    run("rm", own_run, status=2)
    run("rm", own_run, 10, "--broken", status=2)


def test_a_run_that_is_being_written_is_left_alone(own_run):
    with open(own_run / ".lock", "r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert f"process {os.getpid()}" in run("prune", own_run, "--keep-last", "1", status=3).err
        run("rm", own_run, 10, status=3)
        run("prune", "-n", own_run, "--keep-last", "1")
        run("ls", own_run)
        run("pin", own_run, 10)
    assert steps(own_run) == [10, 20, 30, 40, 50]


def test_file_verbs_take_the_newest_checkpoint_of_a_run(run_directory, tmp_path):
    assert run("show", run_directory, "step").out == "230\n"
    run("diff", run_directory, run_directory / "step-00000230.pt")
    run("extract", run_directory, "model", "-o", tmp_path / "model.npy")


def test_plot_draws_loss_rate_and_resumes(run_directory, tmp_path):
    run("plot", run_directory, "-o", tmp_path / "curves.svg")
    root = xml.parse(tmp_path / "curves.svg").getroot()
    tags = [element.tag.rsplit("}", 1)[1] for element in root.iter()]
    texts = [element.text for element in root.iter() if element.text]
    assert tags.count("path") == 2 and "loss" in texts and "learning rate" in texts
    resumed = [element for element in root.iter() if element.get("class") == "resumed"]
    assert len(resumed) == 2 and "resumed at step 100" in texts
    left, right = 80, 880
    assert abs(float(resumed[0].get("x1")) - (left + (right - left) * 100 / 230)) < 0.1
    run("plot", run_directory, "-o", tmp_path / "curves.svg", status=2)
    run("plot", "-f", run_directory, "-o", tmp_path / "curves.svg")


def test_plot_in_the_terminal(run_directory):
    text = run("plot", run_directory).out
    assert "resumed at step 100" in text and "learning rate: lr" in text
    assert any("\u2801" <= character <= "\u28ff" for character in text)
    axis = next(line for line in text.splitlines() if "^" in line and "-" in line)
    assert abs(axis.split("+")[1].index("^") / len(axis.split("+")[1]) - 100 / 230) < 0.02


def test_plot_json_holds_every_point_and_only_reads_good_lines(own_run):
    log = own_run / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 51, "loss": "NaN"}\nbroken\n{"step": 52, "loss": 0.5')
    found = run("plot", "--json", own_run).json
    loss = next(each for each in found["metrics"] if each["name"] == "loss")
    assert loss["steps"] == list(range(1, 52)) and loss["values"][-1] == "NaN" and found["bad_lines"] == 1
    assert "1 line of metrics.jsonl could not be read" in run("plot", own_run).out
    assert "1 line" in run("verify", own_run, status=1).out


def test_plot_of_one_metric_and_of_none(own_run, tmp_path):
    assert run("plot", own_run, "-m", "lr").out.count("+--") == 1
    assert "there are: loss, lr" in run("plot", own_run, "-m", "accuracy", status=2).err
    (own_run / "metrics.jsonl").unlink()
    assert "lr of adam" in run("plot", own_run).out  # the checkpoints know the learning rate
    (tmp_path / "empty").mkdir()
    run("plot", tmp_path / "empty", status=2)
    run("plot", tmp_path / "nothing", status=3)
