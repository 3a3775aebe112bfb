"""`score --per-character`: a line a symbol, and the lines add up to the score."""

import json
import math
from pathlib import Path

import pytest
from conftest import TINY, Command, words

TEXT = "the quick brown fox\nna\u00efve \u4e16\u754c, the \U0001f600 lazy dog\nx\n"
"""With five characters that no training text here has."""

KINDS = {
    "characters": [],
    "bytes": ["data.unit=byte"],
    "jamo": ["data.unit=jamo"],
    "records": ["data.records=lines", "data.split=[0.8,0.2,0]"],
    "without a symbol for the unknown": ["data.unknown=false", "data.minimum_count=1"],
    "rare characters": ["data.minimum_count=40"],
}
WAYS = {
    "stateful": [],
    "windows": ["--window", "7"],
    "mixture": ["--with", "ngram"],
    "adapted": ["--adapt"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_lines_add_up_to_the_score(
    kind: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text(words(150), encoding="utf-8")
    Path("other.txt").write_text(TEXT, encoding="utf-8")
    settings = [part for change in (*TINY, *KINDS[kind]) for part in ("--set", change)]
    assert command("train", "words.txt", "--run", "mine", "-q", *settings).returncode == 0
    for way, options in WAYS.items():
        done = command("score", "mine", "other.txt", "--json", *options)
        assert done.returncode == 0, done.stderr
        score = json.loads(done.stdout)
        lines = command("score", "mine", "other.txt", "--per-character", *options).stdout
        pairs = [line.split("\t") for line in lines.splitlines()]
        bits = [float(cost) for cost, _ in pairs]
        expected = score["bits_per_character"] * score["characters"]
        assert math.fsum(bits) == pytest.approx(expected, abs=1e-4 * len(bits) + 1e-4), way
        assert all(json.loads(symbol) for _, symbol in pairs)
        if kind in ("characters", "without a symbol for the unknown"):
            assert score["unknown_characters"] == 5
            unknown = [float(cost) for cost, symbol in pairs if json.loads(symbol) == "\ufffd"]
            assert len(unknown) == 5
            assert min(unknown) > 20
