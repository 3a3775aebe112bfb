"""Splits in another language than the train split, and texts that are all of a piece."""

import pydoc_data.topics
import random
import string
from pathlib import Path

import pytest
from conftest import TINY, charlm, words

from charlm.config.schema import DataConfig
from charlm.text import corpus
from charlm.text.files import sources
from charlm.text.likeness import unlike_splits

SETTINGS = [word for setting in TINY for word in ("--set", setting)]
RUSSIAN = "мы не знаем как долго будет идти дождь но утром снова поедем в город где живут друзья"
KOREAN = (
    "오늘은 날씨가 아주 좋아서 우리는 강가를 천천히 걸었다 그는 어제 본 영화가 재미있었다고 말했다"
)
GERMAN = "der Zug fährt über die Brücke und hält am Fluß während die Kinder schöne Äpfel pflücken"
TOPICS = "\n".join(pydoc_data.topics.topics.values())


def drawn(bank: str, size: int, end: str = "\n") -> str:
    """Lines of words from a bank."""
    rng, lines = random.Random(7), []
    while sum(map(len, lines)) < size:
        lines.append(" ".join(rng.choices(bank.split(), k=rng.randint(3, 9))).capitalize())
    return end.join(lines)


def rows(size: int) -> str:
    rng = random.Random(3)
    names = TOPICS.split()[:500]
    return "".join(f"{rng.choice(names)},{rng.randint(0, 999)}\n" for _ in range(size // 10))


def library(count: int) -> str:
    files = sources.standard_library()[:count]
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


ALIKE = {
    "English": lambda: TOPICS,
    "a short text": lambda: TOPICS[:6000],
    "a word": lambda: "hello" * 12,
    "lines of words": lambda: words(4000),
    "Russian": lambda: drawn(RUSSIAN, 30_000),
    "Korean": lambda: drawn(KOREAN, 30_000),
    "German": lambda: drawn(GERMAN, 30_000),
    "a table": lambda: rows(30_000),
    "DNA": lambda: "".join(random.Random(1).choices("ACGT", k=30_000)),
    "code": lambda: library(60),
    "emoji": lambda: drawn("😀 😂 👍🏽 🎉 ok yes no 🇰🇷", 20_000),
    "all that prints": lambda: "".join(random.Random(2).choices(string.printable, k=20_000)),
    "three languages in turn": lambda: "".join(
        drawn(bank, 1500) + "\n" for _ in range(20) for bank in (RUSSIAN, KOREAN, GERMAN)
    ),
}
ENGLISH = TOPICS[:90_000]
UNLIKE = {
    "German after English": (ENGLISH + drawn(GERMAN, 12_000), ["validation", "test"]),
    "Russian after English": (ENGLISH + drawn(RUSSIAN, 12_000), ["validation", "test"]),
    "Korean at the very end": (ENGLISH + drawn(KOREAN, 4_800), ["test"]),
    "numbers after words": (ENGLISH + "".join(f"{n * n} " for n in range(1400)), None),
    "a fourth language after three": (
        drawn(RUSSIAN, 30_000) + drawn(KOREAN, 30_000) + ENGLISH[:30_000] + drawn(GERMAN, 12_000),
        ["validation", "test"],
    ),
}


def unlike(folder: Path, text: str, **options: object) -> list[str]:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    data = DataConfig.model_validate({"path": str(path), **options})
    encoded = corpus.prepare(data, corpus.survey(data))
    return [one.split for one in unlike_splits(encoded)]


@pytest.mark.parametrize("kind", ALIKE)
@pytest.mark.parametrize("unit", ["char", "byte", "jamo"])
def test_a_text_of_one_kind_is_alike_throughout(tmp_path: Path, kind: str, unit: str) -> None:
    assert unlike(tmp_path, ALIKE[kind](), unit=unit) == []


@pytest.mark.parametrize("kind", UNLIKE)
@pytest.mark.parametrize("unit", ["char", "byte"])
def test_another_language_at_the_end_is_noticed(tmp_path: Path, kind: str, unit: str) -> None:
    text, splits = UNLIKE[kind]
    assert unlike(tmp_path, text, unit=unit) == (splits or ["validation", "test"])


def test_records_are_split_by_content_and_not_compared(tmp_path: Path) -> None:
    text, _ = UNLIKE["Russian after English"]
    assert unlike(tmp_path, text, records="lines") == []


def test_splits_too_large_to_compare_are_left_alone(tmp_path: Path) -> None:
    """Fewer than four stretches of the train split are as long as the validation split."""
    text, _ = UNLIKE["Russian after English"]
    assert unlike(tmp_path, text, split=[0.5, 0.5, 0.0]) == []


def test_train_warns_of_another_language_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(1, 46):
        text = drawn(RUSSIAN, 900) if number > 40 else TOPICS[number * 900 : (number + 1) * 900]
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    done = charlm("train", "texts", *SETTINGS, cwd=tmp_path)
    assert done.returncode == 0
    assert "the characters of validation and test are unlike those of train" in done.stderr
    assert "--set data.records=files" in done.stderr
    done = charlm("train", "texts", "--set", "data.records=files", *SETTINGS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "unlike" not in done.stderr
