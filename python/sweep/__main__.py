# SPDX-License-Identifier: BSD-3-Clause
"""Whatever PyTorch resumes exactly by state_dict(), torchkeep resumes exactly: asked of every optimizer and scheduler.

    python python/sweep [--package NAME ...] [--only WORDS] [--results FILE] [--jobs N]

Every case is trained once to the end, and once to a cut, where the process is killed right after a save by torchkeep and by
torch.save; then a fresh process resumes it from each, and all is compared bit for bit with the training that never stopped:
model, optimizer state, scheduler, learning rates, losses. Prints a table; ends with 1 where torchkeep does worse than
PyTorch, or says anything where PyTorch says nothing.
"""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

import catalogue
import outcomes

HERE = pathlib.Path(__file__).parent
CHUNK = 250  # cases per process


def listed(package):
    """The names of a package's cases, or why there are none."""
    code = "import sys, json, catalogue; print('\\n' + json.dumps([c.name for c in catalogue.cases(sys.argv[1])]))"
    done = subprocess.run([sys.executable, "-c", code, package], cwd=HERE, capture_output=True, text=True)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["?"])[-1]
        if not why.startswith(("ImportError", "ModuleNotFoundError")):
            raise RuntimeError(f"the cases of {package} cannot be listed: {why}")
        return [], why
    return json.loads(done.stdout.splitlines()[-1]), None


def live(role, jobs, folder, results):
    """Runs the cases in one life, in as many processes as it takes: a case whose process dies is passed over."""
    while jobs:
        before = len(read(results))
        (folder / f"{role}.json").write_text(json.dumps(jobs))
        done = subprocess.run([sys.executable, str(HERE / "worker.py"), role, str(folder), str(folder / f"{role}.json"),
                               str(results)], capture_output=True, text=True, errors="replace")
        lines = read(results)[before:]
        ended = {line["case"] for line in lines if "began" not in line}
        left = [job for job in jobs if job["case"] not in ended]
        if left:
            why = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps({"case": left[0]["case"], "error": f"the process died: {why[0]}"}) + "\n")
            left = left[1:]
        jobs = left
    return {line["case"]: line for line in read(results) if "began" not in line}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def lives(package, names, folder):
    """All that is known of each case, by its name."""
    folder.mkdir()
    jobs = [{"package": package, "case": name, "folder": str(number)} for number, name in enumerate(names)]
    known = {"whole": live("whole", jobs, folder, folder / "whole.jsonl")}
    jobs = [{**job, **{key: known["whole"][job["case"]][key] for key in ("model", "way")}} for job in jobs
            if "end" in known["whole"][job["case"]]]
    for role in ("cut", "torch", "keep"):
        known[role] = live(role, jobs, folder, folder / f"{role}.jsonl")
    return {name: outcomes.verdict(*(known[role].get(name, {}) for role in ("whole", "cut", "torch", "keep"))) for name in names}


def table(results, missing):
    rows = [("package", "cases", "exact", "worse than PyTorch", "PyTorch itself cannot", "exact where PyTorch is not", "does not run")]
    for package, verdicts in results.items():
        counts = collections.Counter(outcome for outcome, _ in verdicts.values())
        beyond = sum(outcome == "exact" and bool(words) for outcome, words in verdicts.values())
        cases = len(verdicts) - counts["does not run"]
        rows.append((package, cases, counts["exact"], counts["worse"], counts["PyTorch cannot"], beyond, counts["does not run"]))
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(str(cell).ljust(width) if column == 0 else str(cell).rjust(width)
                       for column, (cell, width) in enumerate(zip(row, widths))) for row in rows]
    return "\n".join(lines + [f"{package}: skipped, {why}" for package, why in missing.items()])


def details(results, outcome):
    return [f"{name}: {words}" for verdicts in results.values() for name, (what, words) in verdicts.items()
            if what == outcome]


def sweep(packages, only="", jobs=1):
    """({package: {case: (outcome, words)}}, {package: why it is not there})."""
    results, missing, waiting = {}, {}, []
    with tempfile.TemporaryDirectory(prefix="torchkeep-sweep-") as folder, \
            concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for number, package in enumerate(packages):
            names, why = listed(package)
            if why:
                missing[package] = why
                continue
            names = [name for name in names if only in name]
            results[package] = {}
            for first in range(0, len(names), CHUNK):
                place = pathlib.Path(folder) / f"{number}-{first}"
                waiting.append((package, pool.submit(lives, package, names[first:first + CHUNK], place)))
        for package, future in waiting:
            results[package].update(future.result())
    return results, missing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", action="append", choices=catalogue.PACKAGES, help="only this one; may be repeated")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--results", help="a file for every case that is not exact")
    parser.add_argument("--json", help="a file for every case's outcome")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    given = parser.parse_args()
    results, missing = sweep(given.package or list(catalogue.PACKAGES), given.only, given.jobs)
    lines = [table(results, missing), "", *details(results, "worse")]
    print("\n".join(lines))
    if given.results:
        rest = [f"\n{outcome}:\n" + "\n".join(details(results, outcome)) for outcome in ("PyTorch cannot", "does not run")]
        beyond = "\nexact where PyTorch is not:\n" + "\n".join(one for one in details(results, "exact") if not one.endswith(": "))
        pathlib.Path(given.results).write_text("\n".join([*lines, *rest, beyond]) + "\n")
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps(results))
    return bool(details(results, "worse"))


if __name__ == "__main__":
    sys.exit(main())
