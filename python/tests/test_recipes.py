# SPDX-License-Identifier: BSD-3-Clause
"""Every program of docs/python/recipes.md, killed and resumed, ends with the bits of the program that never stopped."""
import ast
import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "python" / "recipes.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## ([^\n]*)\n.*?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
# After so many finished steps (or saves) each process is killed: in the middle of an epoch, and where one ends.
CUTS = {"Lightning": [2, 1], "Hugging Face's Trainer": [2, 1], "Validation, and the best": [5, 3]}


def frameworks(title):
    """What a recipe imports beside PyTorch and torchkeep."""
    imports = [one for one in ast.parse(RECIPES[title]).body if isinstance(one, (ast.Import, ast.ImportFrom))]
    names = [one.module if isinstance(one, ast.ImportFrom) else alias.name for one in imports for alias in one.names]
    return tuple(sorted({name.split(".")[0] for name in names} - {"torch", "torchkeep", *sys.stdlib_module_names}))


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    @functools.cache
    def known(together):
        return lives_of(together, tmp_path_factory.mktemp("-".join(together) or "torch"))

    return known


def lives_of(together, folder):
    """Of all recipes with these frameworks: a process each, for importing them takes longer than the recipes."""
    titles = [title for title in RECIPES if frameworks(title) == together]
    recipes = folder / f"{'-'.join(together) or 'torch'}.json"
    recipes.write_text(json.dumps([(RECIPES[title], CUTS.get(title, [3, 2])) for title in titles]), encoding="utf-8")
    path = os.pathsep.join([str(ROOT / "tests" / "python"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, str(ROOT / "python" / "tests" / "recipe.py"), str(folder), str(recipes)],
                          cwd=folder, capture_output=True, text=True, timeout=900, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(titles, json.loads(done.stdout.splitlines()[-1]))), done.stderr


def test_the_page_has_a_recipe_for_each_of_these():
    for word in ("EMA", "Mixed", "accumulation", "GAN", "best", "MoCo", "nanoGPT", "Lightning", "Trainer", "Accelerate", "Ignite"):
        assert any(word in title for title in RECIPES), word


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_that_was_killed_ends_with_the_bits_of_one_that_was_not(title, lives):
    together = frameworks(title)
    if absent := [name for name in together if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(absent)} (tools/setup frameworks)")
    found, said = lives(together)
    whole, *killed, last = found[title]["statuses"]
    assert whole == last == 0 and set(killed) == {-signal.SIGKILL}, said[-3000:]
    assert len(found[title]["whole"]["state"]) >= 3
    assert found[title]["cut"]["state"] == found[title]["whole"]["state"]
    if "# prints:" in RECIPES[title]:
        for life in ("whole", "cut"):
            assert found[title][life]["printed"] == "".join(re.findall(r"# prints: (.*\n)", RECIPES[title]))
