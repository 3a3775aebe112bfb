"""Mixtures: a distribution by powers from the past only, better than its parts, kept intact."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, new_cache, words

import charlm
from charlm.__main__ import run
from charlm.common.errors import CheckpointError
from charlm.evaluation import mixture
from charlm.evaluation.mixture import BLOCK, DAMPING, RATE, Mixture, ngram_distributions
from charlm.evaluation.ngram import ngram_of
from charlm.models.ngram import NGram
from charlm.runs import checkpoint, ngram_file
from charlm.runs.finding import find_checkpoint
from charlm.text.stretch import Stretch

SETTINGS = [part for change in [*TINY, "train.steps=60"] for part in ("--set", change)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    (folder / "words.txt").write_text(words(3000), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
        for seed in (0, 1):
            changes = [*SETTINGS, "--set", f"train.seed={seed}", "-q"]
            assert run(["train", "words.txt", *changes, "--run", f"seed-{seed}"]) == 0
        (folder / "other.txt").write_text("xyz" * 400, encoding="utf-8")
        assert run(["train", "other.txt", *SETTINGS, "-q", "--run", "other"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def scored(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    capsys.readouterr()
    assert run(["score", "seed-0", "--split", "val", "--json", *arguments]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


# ---- what is predicted ---------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, 5])
def test_probabilities_of_all_that_might_follow_sum_to_one(folder: Path, window: int) -> None:
    loaded = charlm.load(folder / "seed-0")
    text = loaded.vocabulary.encode(words(40))
    for at in (1, 3, BLOCK, BLOCK + 5, len(text) - 1):
        chances = []
        for symbol in range(len(loaded.vocabulary)):
            mixture = loaded.mixed_with(
                ["seed-1", "ngram"]
            ).mixture()  # anew: what was read is learned from
            given = np.concatenate([text[:at], np.array([symbol], text.dtype)])
            chances.append(math.exp(-mixture(Stretch.of(given), window=window)[-1]))
        assert sum(chances) == pytest.approx(1, abs=1e-5)  # the networks compute in float32


def test_powers_come_from_what_was_read_and_nothing_else(folder: Path) -> None:
    loaded = charlm.load(folder / "seed-0")
    text = loaded.vocabulary.encode(words(60))
    changed = text.copy()
    changed[100:] = text[99]
    before, after = (
        loaded.mixed_with(["ngram"]).mixture()(Stretch.of(t))[:100] for t in (text, changed)
    )
    assert before.equal(after)


def test_powers_follow_the_gradient_of_what_was_read() -> None:
    generator = torch.Generator().manual_seed(0)
    N, V, K = 3 * BLOCK, 7, 2
    logs = [torch.randn(N, V, generator=generator).log_softmax(-1) for _ in range(K)]
    targets = torch.randint(0, V, (N,), generator=generator)
    mixture = Mixture({"a": None, "b": None}, 7)  # type: ignore[dict-item]
    found = mixture.combine(logs, np.zeros(N, np.int64), targets.numpy())

    powers, squares = torch.full((K,), 1 / K, dtype=torch.float64), DAMPING
    stacked, expected = torch.stack(logs, -1).double(), []
    for begin in range(0, N, BLOCK):
        given = powers.clone().requires_grad_(True).expand(BLOCK, K)
        given.retain_grad()
        block = slice(begin, begin + BLOCK)
        chances = (stacked[block] * given[:, None, :]).sum(-1).log_softmax(-1)
        losses = -chances.gather(1, targets[block, None]).squeeze(1)
        losses.sum().backward()
        expected += losses.tolist()
        assert given.grad is not None
        squares = squares + (given.grad**2).sum(0)
        powers = powers - RATE * (given.grad / squares.sqrt()).sum(0)
    assert found == pytest.approx(expected, rel=1e-9)
    assert mixture.powers[0] == pytest.approx(powers.numpy(), rel=1e-9)


def test_ngram_model_in_a_window_sees_only_the_window() -> None:
    rng = np.random.default_rng(1)
    text = rng.integers(0, 3, 400)
    model = NGram.of(text, 3, order=4)
    changed = text.copy()
    changed[:200] = 2 - changed[:200]
    seen = (201, 230)  # the windows begin behind the symbols 200, 210 and 220
    one, other = (
        ngram_distributions(model, Stretch(t, *seen), window=10)[0] for t in (text, changed)
    )
    assert one.equal(other)
    assert not one.equal(ngram_distributions(model, Stretch(changed, *seen))[0])


@pytest.mark.parametrize("window", [0, 10])
def test_ngram_model_of_order_one_knows_no_context(window: int) -> None:
    text = np.random.default_rng(1).integers(0, 3, 60)
    model = NGram.of(text, 3, order=1)
    logs, cases = ngram_distributions(model, Stretch(text, 20, 45), window)
    expected = np.log(model.distributions(np.empty((1, 0), np.int64)))
    np.testing.assert_allclose(logs.numpy(), np.repeat(expected, 25, axis=0), rtol=1e-6)
    assert len(set(cases.tolist())) == 1


# ---- what it is good for ------------------------------------------------------------------------


def test_mixture_is_better_than_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    alone, both = scored(capsys), scored(capsys, "--with", "seed-1", "--with", "ngram")
    assert both["bits_per_character"] < alone["bits_per_character"]  # type: ignore[operator]
    assert alone["mixture"] == {}
    assert isinstance(both["mixture"], dict)
    assert list(both["mixture"]) == ["seed-0", "seed-1", "ngram"]


def test_windows_are_mixed_too_and_predict_less(capsys: pytest.CaptureFixture[str]) -> None:
    found = [scored(capsys, "--with", "ngram", "--window", window) for window in ("0", "8")]
    assert found[0]["loss"] < found[1]["loss"]  # type: ignore[operator]


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "said"), [("other", "other symbols"), ("seed-0", "twice"), ("none", "no run")]
)
def test_what_cannot_be_mixed_is_refused(
    capsys: pytest.CaptureFixture[str], other: str, said: str
) -> None:
    assert run(["score", "seed-0", "--split", "val", "--with", other]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("help: ") == 1


# ---- what is kept -------------------------------------------------------------------------------


def test_counts_are_kept_in_the_run_and_read_again(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    first = scored(capsys, "--with", "ngram")
    kept = (folder / "seed-0" / "ngram" / ngram_file.COUNTS).read_bytes()
    assert scored(capsys, "--with", "ngram") == first
    assert (folder / "seed-0" / "ngram" / ngram_file.COUNTS).read_bytes() == kept


@pytest.mark.parametrize("name", [ngram_file.COUNTS, "manifest.json"])
def test_damaged_counts_are_counted_again(
    capsys: pytest.CaptureFixture[str], folder: Path, name: str
) -> None:
    first = scored(capsys, "--with", "ngram")
    path = folder / "seed-0" / "ngram" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert run(["score", "seed-0", "--split", "val", "--json", "--with", "ngram"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == first
    assert "counted again" in err
    assert path.read_bytes() == content


def test_counts_are_kept_nowhere_for_a_checkpoint_outside_of_a_run(
    folder: Path, tmp_path: Path
) -> None:
    inside = find_checkpoint(folder / "seed-0")
    alone = shutil.copytree(inside, tmp_path / "alone")
    names = sorted(path.name for path in alone.iterdir())
    found, kept = ngram_of(checkpoint.read(alone)), ngram_of(checkpoint.read(inside))
    assert [found.gram_count(n) for n in (1, 4, 8)] == [kept.gram_count(n) for n in (1, 4, 8)]
    assert sorted(path.name for path in alone.iterdir()) == names
    assert [path.name for path in tmp_path.iterdir()] == ["alone"]


def test_counts_that_no_text_has_are_refused(tmp_path: Path) -> None:
    text = np.array([0, 1, 2, 0, 1, 1, 2, 0] * 9)
    for level, part, place, value in (
        (0, "grams", 1, 0),
        (0, "grams", 2, 9),
        (1, "contexts", 0, 3),
        (1, "contexts", 0, -1),
        (1, "counts", 0, 0),
        (1, "counts", 0, 2**62),
        (1, "grams", 1, 2**63 - 1),
        (2, "grams", 0, -5),
    ):
        model = NGram.of(text, 3, order=3)
        getattr(model.counted[level], part)[place] = value
        ngram_file.write(tmp_path, model, "text")
        with pytest.raises(CheckpointError):
            ngram_file.read(tmp_path, "text", 3)
    for level, parts in ((1, ["counts"]), (1, ["grams", "contexts"]), (0, ["grams"])):
        model = NGram.of(text, 3, order=3)
        shorter = {part: getattr(model.counted[level], part)[:-1] for part in parts}
        model.counted[level] = replace(model.counted[level], **shorter)
        ngram_file.write(tmp_path, model, "text")
        with pytest.raises(CheckpointError, match="its tensors are not equally long"):
            ngram_file.read(tmp_path, "text", 3)
    model = NGram.of(text, 3, order=3)
    model.counted[0].grams[-1] = 3  # of the vocabulary 0, 1, 2
    ngram_file.write(tmp_path, model, "text")
    with pytest.raises(CheckpointError, match="outside the vocabulary"):
        ngram_file.read(tmp_path, "text", 3)
    ngram_file.write(tmp_path, NGram.of(text, 3, order=3), "text")
    assert [path.name for path in tmp_path.iterdir()] == [ngram_file.FOLDER]
    assert ngram_file.read(tmp_path, "text", 3).order == 3
    with pytest.raises(CheckpointError, match="another text"):
        ngram_file.read(tmp_path, "other", 3)


# ---- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", ["1", "3"])
def test_sample_of_a_mixture_costs_what_the_mixture_says(
    capsys: pytest.CaptureFixture[str], folder: Path, num: str
) -> None:
    arguments = ["sample", "seed-0", "--with", "seed-1", "--with", "ngram", "--num", num]
    arguments += ["--length", "60", "--seed", "1", "--prompt", "the quick", "--json"]
    assert run(arguments) == 0
    written = json.loads(capsys.readouterr().out)
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out) == written
    assert len(written["samples"]) == int(num)
    mixed = charlm.load(folder / "seed-0").mixed_with(["seed-1", "ngram"])
    powers = mixed.learned().powers
    for sample in written["samples"]:
        engine = mixed.engine(powers, 1, "float32")
        symbols = mixed.vocabulary.encode("the quick" + sample["text"])
        bits = 0.0
        for at, symbol in enumerate(symbols[:-1].tolist()):
            logits = engine.read(torch.tensor([symbol]))
            if at >= len("the quick") - 1:
                bits -= float(logits[0].log_softmax(-1)[symbols[at + 1]]) / math.log(2)
        # The engines may write in bfloat16.
        assert sample["bits_per_character"] == pytest.approx(bits / len(sample["text"]), rel=0.02)


def test_mixture_writes_with_equal_powers_where_the_text_is_gone(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "gone.txt").write_text(words(1000), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run(["train", "gone.txt", *SETTINGS, "-q", "--run", "one"]) == 0
    assert run(["score", "one", "gone.txt", "--with", "ngram", "--json"]) == 0
    (tmp_path / "gone.txt").unlink()
    capsys.readouterr()
    assert run(["sample", "one", "--with", "ngram", "--length", "20"]) == 0
    out, err = capsys.readouterr()
    assert len(out) >= 20
    assert "same power" in err


def test_mixture_has_equal_powers_where_no_text_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "all.txt").write_text(words(1000), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    changes = [*SETTINGS, "-q", "--set", "data.split=[1, 0, 0]"]
    assert run(["train", "all.txt", *changes, "--run", "one"]) == 0
    powers = charlm.load("one").mixed_with(["ngram"]).learned().powers
    assert powers.min() == powers.max()
    assert "the validation split is empty: all models have the same power" in caplog.messages


@pytest.mark.parametrize("window", [0, 5])
def test_text_is_mixed_in_parts_like_the_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    loaded = charlm.load(folder / "seed-0")
    text = loaded.vocabulary.encode(words(200))
    whole = loaded.mixed_with(["ngram"]).mixture()(Stretch.of(text), window=window)
    monkeypatch.setattr(mixture, "PROBABILITIES_AT_ONCE", 16 * 20 * len(loaded.vocabulary))
    parts = loaded.mixed_with(["ngram"]).mixture()(Stretch.of(text), window=window)
    # Where the powers are updated moves by one symbol, and a part is warmed up on 192 symbols.
    assert parts.mean().item() == pytest.approx(whole.mean().item(), abs=0.005)
