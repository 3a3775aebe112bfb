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
from charlm.evaluation import adaptation
from charlm.evaluation.adaptation import DAMPING, AdaptiveReader, Pace, learning_copy, mean_squares
from charlm.evaluation.adaptation import computation_of as computation
from charlm.text.stretch import Stretch

SETTINGS = [
    part
    for change in [*TINY, "train.steps=200", "train.eval_every=100"]
    for part in ("--set", change)
]


@pytest.fixture(scope="module", params=[12, 36], ids=["torch", "kernels"])
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path
) -> Path:
    folder = tmp_path_factory.mktemp("adaptation")
    (folder / "words.txt").write_text(words(500), encoding="utf-8")
    (folder / "other.txt").write_text("the lazy fox; a lazy fox; " * 60, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
        width = ["--set", f"model.hidden_size={request.param}"]
        assert run(["train", "words.txt", *SETTINGS, *width, "-q", "--run", "one"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("longest", [0.5, 100.0])  # every gradient is scaled down, or none
def test_every_window_is_read_and_then_learned_from_by_the_equations(
    folder: Path, monkeypatch: pytest.MonkeyPatch, longest: float
) -> None:
    monkeypatch.setattr(adaptation, "LONGEST", longest)
    loaded = charlm.load(folder / "one")
    text = loaded.vocabulary.encode(words(20)).astype(np.int64)
    pace = Pace(window=4, rate=3e-3, decay=0.2)
    squares = mean_squares(computation(learning_copy(loaded.model)), Stretch.of(text), pace.window)
    found = AdaptiveReader(loaded.model, squares, pace)(Stretch.of(text))

    model = learning_copy(loaded.model)
    roots = {n: s.sqrt() for (n, _), s in zip(model.named_parameters(), squares, strict=True)}
    mean = torch.cat([root.flatten() for root in roots.values()]).mean()
    limit = sum(s.sum().item() for s in squares) ** 0.5
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
        norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        share = min(1.0, longest * limit / norm.item())
        states = [tuple(part.detach() for part in state) for state in states]
        with torch.no_grad():
            for name, p in model.named_parameters():
                assert p.grad is not None
                p -= pace.rate * share * p.grad / (roots[name] + DAMPING * mean)
                pull = (pace.decay * roots[name] / mean).clamp(max=1)
                p += pull * (trained[name] - p)
    assert found[1:].tolist() == pytest.approx(expected, rel=1e-4)  # float32, 30 updates


def test_what_follows_changes_nothing_that_was_read_before(folder: Path) -> None:
    loaded = charlm.load(folder / "one")
    text = loaded.vocabulary.encode(words(60))
    changed = text.copy()
    changed[120:] = text[0]
    squares = mean_squares(computation(learning_copy(loaded.model)), Stretch.of(text), 8)
    one, other = (
        AdaptiveReader(loaded.model, squares, Pace())(Stretch(t, 0, 200)) for t in (text, changed)
    )
    assert one[:120].equal(other[:120])


def test_text_in_pieces_is_adapted_to_like_the_whole(folder: Path) -> None:
    loaded = charlm.load(folder / "one")
    text = loaded.vocabulary.encode(words(60))
    squares = mean_squares(computation(learning_copy(loaded.model)), Stretch.of(text), 8)
    whole = AdaptiveReader(loaded.model, squares, Pace())(Stretch(text, 0, 200))
    reader = AdaptiveReader(loaded.model, squares, Pace())
    first = reader(Stretch(text, 0, 81))  # the first symbol follows nothing
    second = reader(Stretch(text, 81, 200))
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


def test_windows_are_not_adapted_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "one", "--split", "val", "--adapt", "--window", "8"]) == 2
    error = capsys.readouterr().err
    assert "--window" in error
    assert error.count("help: ") == 1


# ---- together with others -----------------------------------------------------------------------


def test_distributions_are_those_that_the_surprisals_come_from(folder: Path) -> None:
    loaded = charlm.load(folder / "one")
    text = loaded.vocabulary.encode(words(60))
    squares = mean_squares(computation(learning_copy(loaded.model)), Stretch.of(text), 8)
    charged = AdaptiveReader(loaded.model, squares, Pace())(Stretch(text, 0, 200))
    logs = AdaptiveReader(loaded.model, squares, Pace()).distributions(Stretch(text, 0, 200))
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(200), rtol=0, atol=1e-5)
    found = -logs[torch.arange(200), torch.from_numpy(text[:200].astype(np.int64))]
    torch.testing.assert_close(found, charged, rtol=1e-5, atol=1e-5)


def test_adapted_networks_are_mixed_too(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for more in ([], ["--adapt"]):
        assert run(["score", "one", "other.txt", "--json", "--with", "ngram", *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [one["adapted"] for one in found] == [False, True]
    assert list(found[1]["mixture"]) == ["one", "ngram"]
    assert found[1]["loss"] < found[0]["loss"] - 0.05
    assert run(["score", "one", "other.txt", "--with", "ngram", "--adapt"]) == 0
    said = capsys.readouterr().out
    assert "one adapted" in said
    assert "no score of the trained weights" in said


# ---- writing ------------------------------------------------------------------------------------


def test_reading_that_is_interrupted_leaves_the_model_as_it_had_learned(folder: Path) -> None:
    loaded = charlm.load(folder / "one")
    text = loaded.vocabulary.encode(words(60))
    squares = mean_squares(computation(learning_copy(loaded.model)), Stretch.of(text), 8)
    readers = [AdaptiveReader(loaded.model, squares, Pace(window=8)) for _ in range(2)]

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        readers[0](Stretch(text, 0, 200), advanced=interrupt)
    readers[1](Stretch(text, 0, 9))  # the window that was read
    for found, expected in zip(*(reader.model.parameters() for reader in readers), strict=True):
        assert found.equal(expected)
    assert not readers[0].model.head.bias.equal(loaded.model.head.bias)


@pytest.mark.parametrize("more", [[], ["--with", "ngram"]])
def test_sample_learns_from_its_prompt(
    capsys: pytest.CaptureFixture[str], folder: Path, more: list[str]
) -> None:
    prompt = (folder / "other.txt").read_text(encoding="utf-8")[:1040]
    written = []
    for adapt in ([], ["--adapt"], ["--adapt"]):
        arguments = ["sample", "one", "--prompt", prompt, "--length", "60", "--num", "20"]
        arguments += ["--seed", "1", "--temperature", "0.5", "--json"]
        assert run([*arguments, *adapt, *more]) == 0
        written.append(json.loads(capsys.readouterr().out))
    assert [one["adapted"] for one in written] == [False, True, True]
    assert written[1] == written[2]
    foxes = [sum(s["text"].count("fox") for s in one["samples"]) for one in written]
    assert foxes[1] > foxes[0] + 5


def test_model_that_was_loaded_stays_as_it_was(folder: Path) -> None:
    loaded = charlm.load(folder / "one")
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    adapted = loaded.adapted_to("the lazy fox; " * 20)
    assert all(value.equal(before[name]) for name, value in loaded.model.state_dict().items())
    assert not adapted.model.head.bias.equal(before["head.bias"])


@pytest.mark.parametrize("prompt", ["", "t"])
def test_prompt_from_which_nothing_is_learned_is_refused(
    capsys: pytest.CaptureFixture[str], prompt: str
) -> None:
    assert run(["sample", "one", "--adapt", "--prompt", prompt]) == 2
    error = capsys.readouterr().err
    assert "nothing to learn from" in error
    assert error.count("help: ") == 1
