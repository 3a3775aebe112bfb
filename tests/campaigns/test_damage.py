"""Damaged files: every bit flipped, every length, every exchange is refused or changes nothing.

What is read is compared, value by value, with what was written. Checkpoints are refused with
`CheckpointError`; the cache is refused with a `DataError` that says what to delete, or made again.
"""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_plan

from charlm.common.errors import CheckpointError, DataError
from charlm.common.files import cache_folder
from charlm.comparison.cache import FOLDER, cached
from charlm.config.schema import DataConfig, to_toml
from charlm.runs import checkpoint
from charlm.runs.manifest import MANIFEST, MODEL, STATE, TRAINING
from charlm.text import corpus
from charlm.text.corpus import DESCRIBED, Corpus
from charlm.text.files import measuring
from charlm.training import setup

FILES = (MODEL, TRAINING, STATE, MANIFEST)
SYMBOLS, DIGESTS = "symbols-00000.bin", "symbols-00000.sha256"


def flips(content: bytes, stride: int) -> Iterator[tuple[str, bytes]]:
    """Yield the content with every `stride`-th bit flipped, one at a time."""
    for at in range(0, 8 * len(content), stride):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << (at % 8)
        yield f"bit {at}", bytes(flipped)


def cuts(content: bytes, stride: int) -> Iterator[tuple[str, bytes]]:
    """Yield the content cut at every `stride`-th length, and longer than it was."""
    for length in range(0, len(content), stride):
        yield f"cut to {length} bytes", content[:length]
    for more in (b"\0", b"\n", b"x", content):
        yield f"with {more[:4]!r} behind it", content + more


def told(breaches: list[str]) -> str:
    return f"{len(breaches)} breaches, of them:\n" + "\n".join(breaches[:25])


# ---- checkpoints --------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints of a run so small that its files are of a few KB."""
    text = tmp_path / "abc.txt"
    text.write_text("abcab" * 60, encoding="utf-8")
    sizes = ("model.hidden_size=2", "model.embedding_size=2", "train.sample_every=0")
    trainer, directory = setup.begin(tiny_plan(text, *sizes), tmp_path / "run")
    for _ in trainer.train(directory):
        pass
    directory.unlock()
    return directory.checkpoints / "step-00000006", directory.checkpoints / "step-00000012"


def values(folder: Path) -> Any:
    """Read everything that a checkpoint holds."""
    saved = checkpoint.read(folder)
    tensors = [
        (name, str(tensor.dtype), list(tensor.shape), tensor.numpy().tobytes())
        for part in (saved.weights, saved.training())
        for name, tensor in sorted(part.items())
    ]
    state = json.dumps(saved.state.to_json(), sort_keys=True)
    return saved.step, to_toml(saved.config), saved.vocabulary, state, tensors


def accepted(folder: Path, expected: Any) -> str:
    """Describe the defect in how a damaged checkpoint is read; "" where it is refused, or has the
    values that it had before."""
    try:
        found = values(folder)
    except CheckpointError as error:
        return "" if error.what and error.advice else "refused without a word"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    return "" if found == expected else "other values were read"


def damaged_one_by_one(
    folder: Path, name: str, contents: Iterator[tuple[str, bytes]], expected: Any
) -> list[str]:
    before, breaches = (folder / name).read_bytes(), []
    for how, content in contents:
        (folder / name).write_bytes(content)
        if found := accepted(folder, expected):
            breaches.append(f"{name}, {how}: {found}")
    (folder / name).write_bytes(before)
    assert values(folder) == expected
    return breaches


@pytest.mark.parametrize("stride", [97, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", FILES)
def test_checkpoint_with_a_flipped_bit_is_refused_or_the_same(
    folders: tuple[Path, Path], name: str, stride: int
) -> None:
    folder, expected = folders[1], values(folders[1])
    content = (folder / name).read_bytes()
    stride = min(stride, 11) if name == MANIFEST else stride  # the one file without a digest
    breaches = damaged_one_by_one(folder, name, flips(content, stride), expected)
    assert not breaches, told(breaches)


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", FILES)
def test_checkpoint_cut_at_any_length_is_refused(
    folders: tuple[Path, Path], name: str, stride: int
) -> None:
    folder, expected = folders[1], values(folders[1])
    content = (folder / name).read_bytes()
    breaches = damaged_one_by_one(folder, name, cuts(content, stride), expected)
    assert not breaches, told(breaches)


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", FILES)
def test_checkpoint_with_exchanged_bytes_is_refused_or_the_same(
    folders: tuple[Path, Path], name: str, count: int
) -> None:
    folder, expected = folders[1], values(folders[1])
    content, rng = (folder / name).read_bytes(), random.Random(0)

    def exchanges() -> Iterator[tuple[str, bytes]]:
        for _ in range(count):
            one, other = rng.randrange(len(content)), rng.randrange(len(content))
            mixed = bytearray(content)
            mixed[one], mixed[other] = mixed[other], mixed[one]
            yield f"bytes {one} and {other}", bytes(mixed)

    breaches = damaged_one_by_one(folder, name, exchanges(), expected)
    assert not breaches, told(breaches)


def test_checkpoint_of_exchanged_files_is_refused(folders: tuple[Path, Path]) -> None:
    before = {folder: {name: (folder / name).read_bytes() for name in FILES} for folder in folders}
    expected = [values(folder) for folder in folders]
    target = folders[1].with_name("mixed")  # no name that tells which it was
    target.mkdir()
    breaches = []
    # Every mixture of two checkpoints of one run, then every exchange within one.
    for chosen in product(folders, repeat=len(FILES)):
        for name, folder in zip(FILES, chosen, strict=True):
            (target / name).write_bytes(before[folder][name])
        whole = set(chosen) == {chosen[0]}
        if whole:
            assert values(target) == expected[folders.index(chosen[0])]
        elif found := accepted(target, None):
            breaches.append(f"{[folder.name for folder in chosen]}: {found}")
    for one, other in product(FILES, repeat=2):
        for name in FILES:
            (target / name).write_bytes(before[folders[1]][name])
        (target / one).write_bytes(before[folders[1]][other])
        (target / other).write_bytes(before[folders[1]][one])
        if one != other and (found := accepted(target, None)):
            breaches.append(f"{one} and {other}: {found}")
    assert not breaches, told(breaches)


def test_forged_manifest_is_refused_or_changes_nothing(folders: tuple[Path, Path]) -> None:
    folder, expected = folders[1], values(folders[1])
    good = json.loads((folder / MANIFEST).read_bytes())

    def forged() -> Iterator[tuple[str, bytes]]:
        reordered = {"files": dict(reversed(good["files"].items())), "format": good["format"]}
        yield "reordered", json.dumps(reordered, indent=7).encode()
        more = {**good, "x": 1, "files": {**good["files"], "../x": {"size": 0, "sha256": ""}}}
        yield "with more in it", json.dumps(more).encode()
        empty = hashlib.sha256(b"").hexdigest()
        for name in FILES[:3]:
            entry = good["files"][name]
            others: list[Any] = [
                *({}, [], None, "x", 3, {"size": entry["size"]}, {"sha256": entry["sha256"]}),
                *({**entry, "sha256": value} for value in ("", None, 3, [], empty, "0" * 64)),
                *({**entry, "sha256": value} for value in (entry["sha256"].upper(), {}, True)),
                *({**entry, "size": value} for value in (0, -1, None, "x", [], {}, True, 1e999)),
                *({**entry, "size": entry["size"] + by} for by in (-1, 1, 0.5, 2**70)),
                {**entry, "size": str(entry["size"])},
                {"size": 0, "sha256": empty},
            ]
            for other in others:
                files = {**good["files"], name: other}
                yield f"{name} is {other}", json.dumps({**good, "files": files}).encode()
            files = {key: value for key, value in good["files"].items() if key != name}
            yield f"without {name}", json.dumps({**good, "files": files}).encode()
        for value in (None, "", [], 1, "charlm-checkpoint-2", good["format"].upper()):
            yield f"format {value!r}", json.dumps({**good, "format": value}).encode()

    breaches = damaged_one_by_one(folder, MANIFEST, forged(), expected)
    assert not breaches, told(breaches)


def test_checkpoint_without_one_of_its_files_is_refused(folders: tuple[Path, Path]) -> None:
    for name in FILES:
        copied = shutil.copytree(folders[1], folders[1].with_name("copied"))
        (copied / name).unlink()
        assert not accepted(copied, None)
        (copied / name).mkdir()
        assert not accepted(copied, None)
        shutil.rmtree(copied)


# ---- the encoded text in the cache --------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """A tiny text whose held-out splits have characters that the train split lacks."""
    path = tmp_path / "text.txt"
    path.write_text("abcab dbé한" * 12 + "xyz\nabc", encoding="utf-8")
    return DataConfig(path=str(path), split=[0.6, 0.2, 0.2])


def encoded(data: DataConfig) -> Corpus:
    return corpus.prepare(data, corpus.survey(data))


def told_by(found: Corpus) -> Any:
    """Return everything that a corpus holds."""
    return found.vocabulary, found.symbols.tolist(), found.splits, found.fingerprint


def cached_text(data: DataConfig) -> tuple[Path, Any]:
    """Encode a text; return its folder in the cache, and what was encoded."""
    expected = told_by(encoded(data))
    (folder,) = (cache_folder() / "corpora").iterdir()
    return folder, expected


def damage_cached(
    data: DataConfig, name: str, contents: Callable[[bytes], Iterator[tuple[str, bytes]]]
) -> list[str]:
    """Damage a file of the encoded text again and again; return what was read that should not."""
    folder, expected = cached_text(data)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    breaches = []
    for how, content in contents(before[name]):
        folder.mkdir(exist_ok=True)
        for other, kept in before.items():
            (folder / other).write_bytes(content if other == name else kept)
        os.utime(folder / SYMBOLS, (1, 1))  # no time tells that a file is another one
        try:
            found = told_by(encoded(data))
        except DataError as error:
            if str(folder) not in f"{error.what} {error.advice}" or "delete" not in error.advice:
                breaches.append(f"{name}, {how}: not told what to delete: {error.what[:100]}")
        except Exception as error:
            breaches.append(f"{name}, {how}: {type(error).__name__}: {str(error)[:100]}")
        else:
            if found != expected:
                breaches.append(f"{name}, {how}: another text was read")
    return breaches


@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", [SYMBOLS, DESCRIBED, DIGESTS])
def test_encoded_text_with_a_flipped_bit_is_never_another_text(
    data: DataConfig, name: str, stride: int
) -> None:
    breaches = damage_cached(data, name, lambda content: flips(content, stride))
    assert not breaches, told(breaches)


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", [SYMBOLS, DESCRIBED, DIGESTS])
def test_encoded_text_cut_at_any_length_is_never_another_text(
    data: DataConfig, name: str, stride: int
) -> None:
    breaches = damage_cached(data, name, lambda content: cuts(content, stride))
    assert not breaches, told(breaches)


FOREIGN = [
    *(b"", b"null", b"[]", b"{}", b"3", b'"x"', b"\0" * 100, b"\xff\xfe", b"[" * 100_000),
    *(b"[1, 2]", b"NaN", b"1e400", b"9" * 5000, b"x" * 1_000_000, b"\n", b" ", b"-1 x", b"5 zz"),
]
"""Contents that belong to no file of the cache."""


@pytest.mark.parametrize("name", [SYMBOLS, DESCRIBED, DIGESTS])
def test_encoded_text_with_foreign_content_is_never_another_text(
    data: DataConfig, name: str
) -> None:
    breaches = damage_cached(
        data, name, lambda content: ((repr(other[:20]), other) for other in FOREIGN)
    )
    assert not breaches, told(breaches)


# ---- what was measured: of texts, and of a comparison -------------------------------------------


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.nightly)])
def test_damaged_size_of_a_text_is_never_another_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    monkeypatch.setattr(measuring, "RACY", 0)  # or a file of this moment is not remembered
    path = tmp_path / "text.txt"
    path.write_text("abcde fghij\n" * 100_000, encoding="utf-8")  # so large that it is remembered
    data = DataConfig(path=str(path))
    expected = corpus.survey(data)
    (entry,) = (cache_folder() / "files").iterdir()
    before, breaches = entry.read_bytes(), []
    assert corpus.survey(data) == expected
    foreign = ((repr(content[:20]), content) for content in FOREIGN)
    for how, content in (*flips(before, stride), *cuts(before, 1), *foreign):
        entry.write_bytes(content)
        try:
            if corpus.survey(data) != expected:
                breaches.append(f"{how}: another size or digest was read")
        except DataError as error:
            if str(entry) not in f"{error.what} {error.advice}":
                breaches.append(f"{how}: not told what to delete: {error.what[:100]}")
        except Exception as error:
            breaches.append(f"{how}: {type(error).__name__}: {str(error)[:100]}")
    assert not breaches, told(breaches)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.nightly)])
def test_damaged_measurement_of_a_comparison_is_measured_again(tmp_path: Path, stride: int) -> None:
    value, key = [[[0.125, 0.25], 4096], [[0.5, 1.5], None]], ["fingerprint", ["a = 1"], {"x": "1"}]
    assert cached(tmp_path, "steps", key, lambda: value, list) == value
    (entry,) = (tmp_path / FOLDER).iterdir()
    before, breaches = entry.read_bytes(), []
    foreign = ((repr(content[:20]), content) for content in FOREIGN)
    for how, content in (*flips(before, stride), *cuts(before, 1), *foreign):
        entry.write_bytes(content)
        try:
            found = cached(tmp_path, "steps", key, lambda: value, list)
        except Exception as error:
            breaches.append(f"{how}: {type(error).__name__}: {str(error)[:100]}")
        else:
            if found != value:
                breaches.append(f"{how}: another value was read: {found}")
    assert not breaches, told(breaches)
