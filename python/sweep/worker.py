# SPDX-License-Identifier: BSD-3-Clause
"""One process of the sweep: `worker.py ROLE FOLDER JOBS RESULTS` does many cases. The roles are four lives of a case:

whole   trains to the end, and finds out with which model and in which way the case trains at all
cut     trains to the cut, saves with torch.save and with torchkeep, and is killed by SIGKILL before it ends anything
torch   resumes by torch.load and load_state_dict, and trains to the end
keep    resumes by torchkeep, and trains to the end

One line of JSON per case goes to RESULTS, and before it one that says that the case began: if the process dies, its last
line says where.
"""
import json
import os
import pathlib
import signal
import sys
import warnings

import catalogue
import torch
import training


def whole(case, job, folder):
    problems = []
    for model in case.models:
        for way in sorted(training.WAYS, key=lambda way: way != case.way):
            try:
                return {"model": model, "way": way, **_trained(training.Training(case, model, way))}
            except Exception as error:  # of whatever kind, of a stranger's code: the next way may be the right one
                problems.append(f"{type(error).__name__}: {error}")
    return {"does_not_run": problems[0]}


def _trained(one):
    start = training.digest(one.model.state_dict())
    for _ in range(training.CUT):
        one.step()
    at_cut = one.state()
    if at_cut["model"] == start:
        raise RuntimeError("its steps change nothing")
    for _ in range(training.TOTAL - training.CUT):
        one.step()
    return {"at_cut": at_cut, "end": one.state()}


_open_runs = []  # until the process is killed


def cut(case, job, folder):
    one = training.Training(case, job["model"], job["way"])
    said = []
    try:
        run = _tracked(one, folder, said)
    except Exception as error:  # what PyTorch makes of the case is asked all the same
        run, failure = None, f"{type(error).__name__}: {error}"
    for number in range(training.CUT):
        one.step()
        if number + 1 == training.CUT:
            state = {name: thing.state_dict() for name, thing in one.objects().items()}
            torch.save({**state, "losses": one.losses, "generators": training.generators()}, folder / "torch.pt")
        if run:
            run.finish_step()
    if run is None:
        return {"error": failure}
    run.wait()
    return {"at_cut": one.state(), "said": said}


def _tracked(one, folder, said):
    import torchkeep

    run = _run(torchkeep, folder, said)
    _open_runs.append(run)
    run.track(one.objects())
    run.resume()
    return run


def _run(torchkeep, folder, said):
    return torchkeep.Run(folder / "run", save_every=training.CUT, durable=False, signals=False,
                         on_event=lambda event: said.append(event.message) if event.is_warning else None)


def resumed_by_torch(case, job, folder):
    one = training.Training(case, job["model"], job["way"])
    saved = torch.load(folder / "torch.pt", weights_only=False)
    for name, thing in one.objects().items():
        thing.load_state_dict(saved[name])
    return _to_the_end(one, saved)


def resumed_by_torchkeep(case, job, folder):
    import torchkeep

    one = training.Training(case, job["model"], job["way"])
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = _run(torchkeep, folder, said)
        run.track(one.objects())
        step = run.resume()
    said += [str(one.message) for one in caught if issubclass(one.category, torchkeep.RunWarning)]
    if step != training.CUT:
        run.close()
        return {"error": f"resumed at step {step} instead of {training.CUT}"}
    # The losses so far are the sweep's own, the generators those the run put back.
    saved = torch.load(folder / "torch.pt", weights_only=False)
    result = _to_the_end(one, {**saved, "generators": training.generators()})
    run.close()
    return {**result, "said": said}


def _to_the_end(one, saved):
    one.losses = saved["losses"]
    training.set_generators(saved["generators"])
    at_cut = one.state()
    for _ in range(training.TOTAL - training.CUT):
        one.step()
    return {"at_cut": at_cut, "end": one.state()}


ROLES = {"whole": whole, "cut": cut, "torch": resumed_by_torch, "keep": resumed_by_torchkeep}


def main(role, folder, jobs, results):
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    jobs = json.loads(pathlib.Path(jobs).read_text())
    cases = {case.name: case for case in catalogue.cases(jobs[0]["package"])}
    with open(results, "a", encoding="utf-8", buffering=1) as file:
        for number, job in enumerate(jobs):
            file.write(json.dumps({"case": job["case"], "began": True}) + "\n")
            place = pathlib.Path(folder) / job["folder"]
            place.mkdir(parents=True, exist_ok=True)
            try:
                result = ROLES[role](cases[job["case"]], job, place)
            except Exception as error:
                result = {"error": f"{type(error).__name__}: {error}"}
            file.write(json.dumps({"case": job["case"], **result}) + "\n")
    if role == "cut":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
