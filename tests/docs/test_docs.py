# SPDX-License-Identifier: BSD-3-Clause
"""The documents tell the truth: their code compiles, runs and prints what they say, and what they point to exists."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

import snippets

ROOT = pathlib.Path(os.environ["TORCHKEEP_ROOT"])
PROGRAM = pathlib.Path(os.environ["TORCHKEEP_BIN"]) / "docs_snippets"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", snippets.pages(ROOT / "docs", "cpp"), ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(page, tmp_path):
    done = subprocess.run([PROGRAM, page.stem], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == snippets.prints(page, "cpp", "//")
    assert done.stdout, "a page shows at least one result"


@pytest.mark.parametrize("page", snippets.pages(ROOT / "docs", "python"), ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page, tmp_path):
    code = "\n".join(text for _, text in snippets.blocks(page, "python"))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == snippets.prints(page, "python", "#")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.stem)
def test_what_a_document_points_to_exists(document):
    text = document.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", prose)
    named = re.findall(r"`((?:cmake|demo|docs|examples|include|src|tests|tools)/[\w./*-]*)`", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [name for name in named if not list(ROOT.glob(name.rstrip("/").replace("LAYER", "*")))]
    assert missing == []


def test_the_readme_leads_to_every_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCUMENTS[3:] if f"(docs/{page.name})" not in readme] == []


def test_the_architecture_names_every_layer():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    layers = [f"src/{folder.name}" for folder in (ROOT / "src").iterdir() if folder.is_dir()]
    assert [layer for layer in layers if f"   {layer}/" not in page or f"| `{layer}` |" not in page] == []
