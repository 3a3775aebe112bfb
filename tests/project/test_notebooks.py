"""The notebooks of the documentation: executed here, and shown on pages of the site."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_docs import DOCS, generate, page
from test_english import wrong

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
LARGEST = 120_000
"""Bytes of a notebook with the outputs that are stored in it."""


def cells_of(path: Path) -> Iterator[Any]:
    yield from json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own: what a cell warns of stays in its kernel
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(DOCS.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    executed = generate.execute(path, tmp_path)
    printed = [
        (cell.source, output)
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]
    assert not printed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_with_small_outputs(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    for cell in cells_of(path):
        outputs = cell.get("outputs", [])
        assert not any(output["output_type"] == "error" for output in outputs)
        if any("image/png" in output.get("data", {}) for output in outputs):
            assert cell["metadata"]["alternative"], "a figure has no alternative text"
    assert any(cell.get("outputs") for cell in cells_of(path)), "python docs/generate.py notebooks"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_call_what_is_public(path: Path) -> None:
    sources = ["".join(cell["source"]) for cell in cells_of(path) if cell["cell_type"] == "code"]
    assert not [
        line for source in sources for line in re.findall(r".*\bcharlm\.\w+\.\w+.*", source)
    ]
    assert not [line for source in sources for line in re.findall(r"from charlm.*", source)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_a_page_with_their_outputs(path: Path) -> None:
    text = page(f"{path.stem}.md")
    for cell in cells_of(path):
        if cell["cell_type"] == "code":
            assert "".join(cell["source"]) in text
        for output in cell.get("outputs", []):
            assert "".join(output.get("text", "")).rstrip() in text


def test_the_words_of_the_notebooks_are_plain() -> None:
    words = {
        f"{path.stem}: {fault}"
        for path in NOTEBOOKS
        for cell in cells_of(path)
        if cell["cell_type"] == "markdown"
        for fault in wrong("".join(cell["source"]))
    }
    assert len(NOTEBOOKS) == 2
    assert not words
