# SPDX-License-Identifier: BSD-3-Clause
"""The Python in the documents runs, and prints what the documents say."""
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "python").glob("*.md"))]
PAGES.remove(ROOT / "docs" / "python" / "recipes.md")  # each program by itself: test_recipes.py


def blocks(page):
    """The page's Python; of the README only what is about the package."""
    found = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for text in found if page.name != "README.md" or "torchkeep" in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page, tmp_path):
    code = "\n".join(blocks(page))
    assert "torchkeep" in code
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    if page.name != "README.md":
        assert done.stdout == "".join(re.findall(r"# prints: (.*\n)", code))
