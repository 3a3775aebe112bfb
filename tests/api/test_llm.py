"""The plugin of the command `llm`."""

import os
import subprocess
import sys
from pathlib import Path

import llm
import pytest
from conftest import train_each, words

from charlm.api import load
from charlm.api.llm_plugin import Charlm


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llm")
    return train_each(folder, words(1500), {"run": []}) / "run"


def test_command_writes_what_charlm_writes(run: Path, tmp_path: Path) -> None:
    options = {"run": str(run), "length": "20", "seed": "3", "temperature": "0.7"}
    words_given = [part for name, value in options.items() for part in ("-o", name, value)]
    done = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "charlm", "the ", *words_given, "--no-log"],
        env={**os.environ, "LLM_USER_PATH": str(tmp_path)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    wanted = load(run).sample("the ", length=20, seed=3, temperature=0.7)
    assert done.stdout.rstrip("\n") == wanted.rstrip("\n")


def test_conversation_continues_the_text(run: Path) -> None:
    conversation = llm.Conversation(Charlm())
    options = {"run": str(run), "length": 10, "seed": 1}
    first = conversation.prompt("the ", **options).text()
    second = conversation.prompt("fox ", **options).text()
    model = load(run)
    assert first == model.sample("the ", length=10, seed=1)
    assert second == model.sample(f"the {first}fox ", length=10, seed=1)
