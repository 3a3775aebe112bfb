"""Dynamic evaluation: by its equations, from the past only, better on a text of another kind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, new_cache, words
from torch.nn import functional as F

import charlm
from charlm.__main__ import run
from charlm.evaluation.adaptation import DAMPING, AdaptiveReader, Pace, learning_copy, mean_squares
from charlm.evaluation.adaptation import computation_of as computation

SETTINGS = [
    part
    for change in [*TINY, "train.steps=200", "model.hidden_size=12", "train.eval_every=100"]
    for part in ("--set", change)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("adaptation")
    (folder / "words.txt").write_text(words(2500), encoding="utf-8")
    (folder / "other.txt").write_text("the lazy fox; a lazy fox; " * 60, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
        assert run(["train", "words.txt", *SETTINGS, "-q", "--run", "one"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_every_window_is_read_and_then_learned_from_by_the_equations(folder: Path) -> None:
    loaded = charlm.load(folder / "one")
    text = loaded.vocabulary.encode(words(20)).astype(np.int64)
    pace = Pace(window=4, rate=3e-3, decay=0.2)
    squares = mean_squares(computation(learning_copy(loaded.model)), text, pace.window)
    found = AdaptiveReader(loaded.model, squares, pace)(text, 0, len(text))

    model = learning_copy(loaded.model)
    roots = {n: s.sqrt() for (n, _), s in zip(model.named_parameters(), squares, strict=True)}
    mean = torch.cat([root.flatten() for root in roots.values()]).mean()
    trained = {n: p.detach().clone() for n, p in model.named_parameters()}
    states, expected = model.initial_states(1), []
    for begin in range(1, len(text), pace.window):
        end = min(begin + pace.window, len(text))
        targets = torch.from_numpy(text[begin:end])
        logits, states = model(torch.from_numpy(text[begin - 1 : end - 1])[:, None], states)
        losses = F.cross_entropy(logits.squeeze(1), targets, reduction="none")
        expected += losses.tolist()
        model.zero_grad()
        losses.mean().backward()
        states = [tuple(part.detach() for part in state) for state in states]
        with torch.no_grad():
            for name, p in model.named_parameters():
                assert p.grad is not None
                p -= pace.rate * p.grad / (roots[name] + DAMPING * mean)
                pull = (pace.decay * roots[name] / mean).clamp(max=1)
                p += pull * (trained[name] - p)
    assert found[1:].tolist() == pytest.approx(expected, rel=1e-4)  # float32, 30 updates


def test_what_follows_changes_nothing_that_was_read_before(folder: Path) -> None:
    loaded = charlm.load(folder / "one")
    text = loaded.vocabulary.encode(words(60))
    changed = text.copy()
    changed[120:] = text[0]
    squares = mean_squares(computation(learning_copy(loaded.model)), text, 8)
    one, other = (AdaptiveReader(loaded.model, squares, Pace())(t, 0, 200) for t in (text, changed))
    assert one[:120].equal(other[:120])


def test_text_in_pieces_is_adapted_to_like_the_whole(folder: Path) -> None:
    loaded = charlm.load(folder / "one")
    text = loaded.vocabulary.encode(words(60))
    squares = mean_squares(computation(learning_copy(loaded.model)), text, 8)
    whole = AdaptiveReader(loaded.model, squares, Pace())(text, 0, 200)
    reader = AdaptiveReader(loaded.model, squares, Pace())
    first, second = reader(text, 0, 81), reader(text, 81, 200)  # the first symbol follows nothing
    assert torch.cat([first, second]).equal(whole)


def test_adaptation_is_reported_apart_and_learns_another_text(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for more in ([], ["--adapt"]):
        assert run(["score", "one", "other.txt", "--json", *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [one["adapted"] for one in found] == [False, True]
    assert found[1]["loss"] < found[0]["loss"] - 0.1
    assert found[1]["characters"] == found[0]["characters"]
    assert run(["score", "one", "--split", "val", "--adapt"]) == 0
    assert "no score of the trained weights" in capsys.readouterr().out


def test_the_text_that_the_pace_is_chosen_on_is_not_scored(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["score", "one", "--split", "train", "--adapt"]) == 2
    error = capsys.readouterr().err
    assert "train split" in error
    assert error.count("help: ") == 1


@pytest.mark.parametrize("other", [["--window", "8"], ["--with", "ngram"]])
def test_what_does_not_go_together_is_refused(
    capsys: pytest.CaptureFixture[str], other: list[str]
) -> None:
    assert run(["score", "one", "--split", "val", "--adapt", *other]) == 2
    error = capsys.readouterr().err
    assert other[0] in error
    assert error.count("help: ") == 1
