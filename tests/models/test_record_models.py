"""Models of records: they train, resume, score and write records, each from the initial state."""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, WORDS, Command

import charlm
from charlm.api import records
from charlm.backends.choice import computation_of
from charlm.evaluation.surprisal import surprisals
from charlm.inspection.novelty import KnownRecords
from charlm.runs.own_text import corpus_of
from charlm.text.stretch import Stretch

LINES = [
    part
    for change in [*TINY, "data.records=lines", "train.steps=60", "train.learning_rate=0.01"]
    for part in ("--set", change)
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sorted list of made-up names, in lower case."""
    draw = random.Random(0)
    names = sorted({"".join(draw.sample(WORDS, 2)) for _ in range(300)})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def trained(folder: Path, command: Command) -> charlm.Loaded:
    assert command("train", "names.txt", "--run", "names", "-q", *LINES).returncode == 0
    return charlm.load(folder / "names")


def test_a_model_of_lines_writes_whole_lines(
    folder: Path, trained: charlm.Loaded, command: Command
) -> None:
    assert trained.vocabulary.end == len(trained.vocabulary) - 1
    result = command("sample", "names", "--num", "20", "--seed", "1")
    assert len(result.stdout.splitlines()) == 20
    assert "new: not one of the" in result.stderr
    assert command("sample", "names", "--num", "20", "--seed", "1").stdout == result.stdout
    told = json.loads(command("sample", "names", "--num", "3", "--prompt", "fox", "--json").stdout)
    assert all("\n" not in one["text"] for one in told["samples"])
    known = (folder / "names.txt").read_text(encoding="utf-8").splitlines()
    for one in told["samples"]:
        assert one["novel"] == ("fox" + one["text"] not in known)


def records_of(trained: charlm.Loaded) -> list[list[int]]:
    """The records of the train split, by their definition."""
    corpus, result = corpus_of(trained.checkpoint), [[]]
    for index in np.asarray(corpus.symbols[1 : corpus.train.stop]).tolist():
        if index == trained.vocabulary.end:
            result.append([])
        else:
            result[-1].append(index)
    return result[:-1]


def test_novel_records_are_none_of_the_text(
    folder: Path, trained: charlm.Loaded, command: Command
) -> None:
    result = command("sample", "names", "--num", "30", "--novel", "--seed", "2")
    train = {trained.vocabulary.decode(record) for record in records_of(trained)}
    written = result.stdout.splitlines()
    assert len(set(written)) == 30
    assert not set(written) & set((folder / "names.txt").read_text(encoding="utf-8").split())
    corpus, end = corpus_of(trained.checkpoint), trained.vocabulary.end
    known = KnownRecords.of(trained.vocabulary, corpus.symbols[1 : corpus.train.stop])
    assert len(known) == len(train)
    assert not any(known.lacks([*record, end]) for record in records_of(trained))
    assert known.lacks([*trained.vocabulary.encode(written[0]).tolist(), end])
    assert not known.lacks(trained.vocabulary.encode(written[0]).tolist())  # has not ended


def test_what_was_cut_short_is_no_new_record(trained: charlm.Loaded, command: Command) -> None:
    told = json.loads(command("sample", "names", "--num", "9", "--length", "2", "--json").stdout)
    cut = [one for one in told["samples"] if len(one["text"]) == 2]  # the end is a symbol, too
    assert cut
    assert not any(one["novel"] for one in cut)
    result = command("sample", "names", "--num", "1", "--length", "2", "--novel", "--seed", "1")
    assert all(len(line) < 2 for line in result.stdout.splitlines())


def test_records_are_a_list_where_the_text_has_gone(
    folder: Path, trained: charlm.Loaded, command: Command
) -> None:
    (folder / "names.txt").unlink()
    result = command("sample", "names", "--num", "4", "--seed", "1")
    assert len(result.stdout.splitlines()) == 4
    assert "new records are not marked" in result.stderr


def test_new_records_are_not_looked_for_without_the_text_or_unasked_in_a_long_one(
    folder: Path, trained: charlm.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = records.known_records(trained, needed=False)
    assert known is not None
    corpus = corpus_of(trained.checkpoint)
    monkeypatch.setattr(records, "READ_UNASKED", len(corpus.symbols) - 1)
    assert records.known_records(trained, needed=False) is None
    asked = records.known_records(trained, needed=True)
    assert asked is not None
    assert len(asked) == len(known)
    (folder / "names.txt").unlink()
    with pytest.raises(charlm.CharlmError, match=r"names\.txt"):
        charlm.sample(trained, novel=True)


def test_novel_is_for_records(folder: Path, command: Command) -> None:
    running = [part for change in TINY for part in ("--set", change)]
    assert command("train", "names.txt", "--run", "text", "-q", *running).returncode == 0
    result = command("sample", "text", "--novel")
    assert result.returncode == 2
    assert "--set data.records=lines" in result.stderr


def test_greedy_text_that_is_known_ends_the_search(
    trained: charlm.Loaded, command: Command
) -> None:
    result = command("sample", "names", "--novel", "--num", "2", "--temperature", "0")
    assert result.returncode == 1  # one text, again and again, is not two
    assert "raise --temperature" in result.stderr


def test_a_record_costs_the_same_wherever_it_stands(trained: charlm.Loaded) -> None:
    corpus = corpus_of(trained.checkpoint)
    symbols, end = np.asarray(corpus.symbols[:]), trained.vocabulary.end
    computation = computation_of(trained.model)
    assert end is not None
    whole = surprisals(computation, Stretch(symbols, 1, len(symbols)))
    ends = np.flatnonzero(symbols == end)
    for begin, stop in list(itertools.pairwise(ends))[::40]:
        record = Stretch.of(symbols[begin : stop + 1]).with_context()
        alone = surprisals(computation, record)
        torch.testing.assert_close(whole[begin:stop], alone, rtol=1e-4, atol=1e-5)


def test_the_text_itself_scores_as_its_splits_do(
    folder: Path, trained: charlm.Loaded, command: Command
) -> None:
    corpus = corpus_of(trained.checkpoint)
    nats = characters = 0.0
    for split in ("train", "val", "test"):
        found = json.loads(command("score", "names", "--split", split, "--json").stdout)
        nats += found["bits_per_character"] * found["characters"]
        characters += found["characters"]
    whole = json.loads(command("score", "names", "names.txt", "--json").stdout)
    assert whole["characters"] == characters == len((folder / "names.txt").read_text())
    assert whole["bits_per_character"] == pytest.approx(nats / characters, rel=1e-5)
    assert sum(len(split) for split in corpus.splits.values()) == characters + 1
    again = trained.score((folder / "names.txt").read_text())
    assert again.bits_per_character == pytest.approx(whole["bits_per_character"], rel=1e-6)


def test_texts_in_a_field_are_scored_as_the_run_reads_them(folder: Path, command: Command) -> None:
    names = (folder / "names.txt").read_text(encoding="utf-8").splitlines()
    content = "".join(json.dumps({"name": name}) + "\n" for name in names)
    (folder / "names.jsonl").write_text(content, encoding="utf-8")
    field = ["--set", "data.field=name"]
    assert command("train", "names.jsonl", "--run", "names", "-q", *LINES, *field).returncode == 0
    found, expected = (
        json.loads(command("score", "names", name, "--json").stdout)
        for name in ("names.jsonl", "names.txt")
    )
    assert found == expected
    (folder / "other.jsonl").write_text("{}\n", encoding="utf-8")
    result = command("score", "names", "other.jsonl")
    assert result.returncode == 2
    assert "has no field 'name'" in result.stderr


def test_a_run_of_records_resumes_bit_for_bit(folder: Path, command: Command) -> None:
    half = [*LINES, "--set", "train.final_learning_rate=1.0"]
    assert command("train", "names.txt", "--run", "whole", "-q", *half).returncode == 0
    first = [*half, "--set", "train.steps=25"]
    assert command("train", "names.txt", "--run", "parted", "-q", *first).returncode == 0
    rest = ["--resume", "--run", "parted", "-q", "--set", "train.steps=60"]
    assert command("train", *rest).returncode == 0
    expected, found = (
        charlm.load(folder / name, which="latest").checkpoint.weights
        for name in ("whole", "parted")
    )
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_model_of_lines_starts_from_one_of_running_text(folder: Path, command: Command) -> None:
    running = [part for change in TINY for part in ("--set", change)]
    assert command("train", "names.txt", "--run", "text", "-q", *running).returncode == 0
    start = ["--init", "text", "--set", "train.steps=1", "--set", "train.learning_rate=1e-9"]
    assert command("train", "names.txt", "--run", "lines", "-q", *LINES, *start).returncode == 0
    text, lines = charlm.load("text"), charlm.load("lines")
    newline = text.vocabulary.encode("\n")[0]
    assert lines.vocabulary.end is not None
    expected = text.model.head.weight[newline]
    torch.testing.assert_close(lines.model.head.weight[lines.vocabulary.end], expected)
