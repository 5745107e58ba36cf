# SPDX-License-Identifier: BSD-3-Clause
"""Lives of recipes: `recipe.py FOLDER FILE` runs each program of FILE (JSON: [[code, [cut ...]] ...]) once to the end, and
once in several processes, each killed by SIGKILL after so many finished steps (or saves, of a program without a Run), the last
one not.

The lives are forks of a process that has only done the programs' imports. Prints one line of JSON, for each program: the exit
statuses, and for "whole" and "cut" what the program printed in its last process, and the hashes of all its state at its end.
"""
import ast
import contextlib
import hashlib
import io
import json
import os
import pathlib
import signal
import sys
import traceback

import torch
from canonical import describe

import torchkeep


def kill_after(count, code):
    """SIGKILL right after that many calls; a save under way is done first, so that there is something to resume."""
    owner, name = (torchkeep.Run, "finish_step") if "torchkeep.Run(" in code else (torchkeep, "save")
    if "CrashProof" in code:
        owner, name = sys.modules["torchkeep.transformers"], "_seal"
    plain, calls = getattr(owner, name), []

    def counted(*arguments, **options):
        result = plain(*arguments, **options)
        calls.append(None)
        if len(calls) == count:
            if owner is torchkeep.Run:
                arguments[0].wait()
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def program(code, folder, cut, results):
    """A life: the whole of a forked process."""
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    if cut is not None:
        kill_after(cut, code)
    names, printed = {"__name__": "__main__"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "recipe", "exec"), names)
    state = {name: one.state_dict() for name, one in names.items() if is_state(one)}
    state.update(state_of_a_trainer(names.get("trainer")))
    hashes = {name: hashlib.sha256(repr(describe(one)).encode()).hexdigest() for name, one in state.items()}
    hashes["the generator"] = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
    for metrics in sorted(pathlib.Path("runs").glob("*/metrics.jsonl")):
        hashes[str(metrics)] = hashlib.sha256(metrics.read_bytes()).hexdigest()
    results.write_text(json.dumps({"printed": printed.getvalue(), "state": hashes}))


def is_state(thing):
    """Whether it is one of the objects that a recipe keeps; those of frameworks keep more than the training's state."""
    if isinstance(thing, (torch.nn.Module, torch.optim.Optimizer)):
        return True
    return (hasattr(thing, "state_dict") and not isinstance(thing, type)
            and type(thing).__module__.split(".")[0] not in ("lightning", "accelerate", "transformers"))


def state_of_a_trainer(trainer):
    """A framework's trainer has the optimizer and the scheduler that the program does not see."""
    optimizers = getattr(trainer, "optimizers", None) or [getattr(trainer, "optimizer", None)]
    return {f"trainer's optimizer {i}": one.state_dict() for i, one in enumerate(optimizers) if one is not None}


def life(code, folder, cut, results):
    """Its exit status, as os.waitstatus_to_exitcode gives it."""
    process = os.fork()
    if process == 0:
        try:
            program(code, folder, cut, results)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def lives(folder, code, cuts):
    """The exit statuses of a program's lives, and what the whole one and the last of the others left."""
    folder.mkdir()
    ends = {"whole": folder / "whole.json", "cut": folder / "cut.json"}
    statuses = [life(code, folder / "whole", None, ends["whole"])]
    statuses += [life(code, folder / "cut", cut, ends["cut"]) for cut in [*cuts, None]]
    return {"statuses": statuses, **{name: json.loads(path.read_text()) for name, path in ends.items() if path.exists()}}


def main(folder, recipes):
    recipes = json.loads(pathlib.Path(recipes).read_text(encoding="utf-8"))
    for code, _ in recipes:
        imports = [one for one in ast.parse(code).body if isinstance(one, (ast.Import, ast.ImportFrom))]
        exec(compile(ast.Module(imports, []), "imports", "exec"), {})
    print(json.dumps([lives(pathlib.Path(folder) / str(number), code, cuts) for number, (code, cuts) in enumerate(recipes)]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
