"""Twenty texts of twenty kinds, used as somebody would who has read nothing.

Each is trained with the presets as they are but for fewer steps, interrupted and resumed, sampled,
scored and compared. What charlm refuses names what to type instead; that is typed, as it stands.
"""

import gzip
import json
import pydoc_data.topics
import random
import re
import shlex
import tokenize
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import charlm, words

SIZE = 30_000
"""Characters of a text, about."""

Files = dict[str, bytes]


def repeated(lines: Callable[[random.Random], str], size: int = SIZE, end: str = "\n") -> str:
    """Draw lines until they have `size` characters."""
    rng, drawn = random.Random(7), []
    while sum(map(len, drawn)) < size:
        drawn.append(lines(rng))
    return end.join(drawn) + end


def sentence(rng: random.Random, bank: str, least: int = 4, most: int = 11) -> str:
    """Draw a sentence from a bank of words."""
    drawn = rng.choices(bank.split(), k=rng.randint(least, most))
    return " ".join(drawn).capitalize() + rng.choice(".....!?")


RUSSIAN = (
    "мы не знаем как долго будет идти дождь но утром снова поедем в город где живут наши старые "
    "друзья и бабушка с кошкой у окна над рекой он сказал что завтра придёт поезд из Москвы она "
    "ответила тихо потому лес стоит тёмный поле белое снег лежит до весны дорога ведёт домой"
)
KOREAN = (
    "오늘은 날씨가 아주 좋아서 우리는 강가를 천천히 걸었다 그는 어제 본 "
    "영화가 정말 재미있었다고 말했다 봄이 오면 꽃이 피고 바람이 불면 나뭇잎이 "
    "흔들린다 할머니는 부엌에서 밥을 짓고 고양이는 창가에서 잔다 "
    "기차는 늦게 도착했지만 아무도 화내지 않았다 별로였다 최고의 연기 다시 보고 싶다"
)
GERMAN = (
    "der Zug fährt über die Brücke und hält am Fluß während die Kinder schöne "
    "Äpfel für das Frühstück pflücken niemand weiß warum der Bäcker heute früher öffnet "
    "als gewöhnlich größer süß müde"
)
EMOJI = "😀 😂 ❤️ 👍🏽 🎉 🙏 🇰🇷 👩‍👩‍👧 🔥"
BANK = " ".join(pydoc_data.topics.topics["assignment"].split()[:400])


def chat(rng: random.Random) -> str:
    text = sentence(rng, BANK, 2, 7).lower()
    clock = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
    return f"[{clock}] {rng.choice(['mia', 'jo', '수진'])}: {text} {rng.choice(EMOJI.split())}"


def tune(rng: random.Random) -> str:
    bars = ["".join(rng.choices("ABcdefgz", k=4)) + rng.choice(["", "2"]) for _ in range(8)]
    return f"X:{rng.randint(1, 99)}\nT:Reel\nM:4/4\nK:{rng.choice('DGA')}\n|{'|'.join(bars)}|\n"


def recipe(rng: random.Random) -> str:
    bank = "flour butter sugar eggs milk salt lemon cream oats honey"
    things = "\n".join(f"- {rng.randint(1, 500)} g {one}" for one in rng.sample(bank.split(), 4))
    return f"{sentence(rng, BANK, 2, 3)}\n{things}\n{sentence(rng, BANK)}\n"


def subtitle(rng: random.Random) -> str:
    at = f"00:{rng.randint(0, 59):02}:{rng.randint(0, 59):02},{rng.randint(0, 999):03}"
    return f"{rng.randint(1, 900)}\n{at} --> {at}\n{sentence(rng, BANK)}\n"


def log(rng: random.Random) -> str:
    level = rng.choice(["INFO", "WARN", "ERROR"])
    clock = f"2026-03-{rng.randint(1, 31):02}T10:{rng.randint(0, 59):02}:00"
    return f"{clock} {level} {sentence(rng, BANK, 2, 5)}"


def table(rng: random.Random) -> str:
    row = [rng.choice(BANK.split()).strip(".,"), *(str(rng.randint(0, 999)) for _ in range(3))]
    return ",".join(row)


def name(rng: random.Random) -> str:
    parts = ["an", "el", "mi", "ro", "sa", "ta", "vi", "lo", "ka", "ri", "no", "be"]
    return "".join(rng.choices(parts, k=rng.randint(2, 4))).capitalize()


def one(file: str, text: str, encoding: str = "utf-8") -> Files:
    return {file: text.encode(encoding)}


def russian(encoding: str) -> bytes:
    return repeated(lambda rng: sentence(rng, RUSSIAN)).encode(encoding)


TEXTS: dict[str, Files] = {
    "English prose": one("topics.txt", "\n".join(pydoc_data.topics.topics.values())[:SIZE]),
    "Python source": one("code.py", Path(tokenize.__file__).read_text(encoding="utf-8")[:SIZE]),
    "names": one("names.txt", repeated(name, 8_000)),
    "titles": one("titles.txt", "\n".join(unicodedata.name(chr(at)) for at in range(160, 500))),
    "Korean prose": one("prose.txt", repeated(lambda rng: sentence(rng, KOREAN), end=" ")),
    "Korean reviews": one("reviews.txt", repeated(lambda rng: sentence(rng, KOREAN, 2, 6))),
    "Korean, decomposed": one(
        "nfd.txt", unicodedata.normalize("NFD", repeated(lambda rng: sentence(rng, KOREAN)))
    ),
    "Russian": {"russian.txt": russian("utf-8")},
    "Russian, Windows": {"windows.txt": russian("cp1251")},
    "German, Latin-1": one(
        "german.txt", repeated(lambda rng: sentence(rng, GERMAN)).replace("\n", "\r\n"), "latin-1"
    ),
    "UTF-16": one("notepad.txt", repeated(lambda rng: sentence(rng, BANK), end="\r\n"), "utf-16"),
    "chat with emoji": one("chat.txt", repeated(chat)),
    "ABC tunes": one("tunes.abc", repeated(tune)),
    "recipes": one("recipes.txt", repeated(recipe)),
    "a table": one("table.csv", "word,a,b,c\n" + repeated(table)),
    "DNA": one("dna.txt", repeated(lambda rng: "".join(rng.choices("ACGT", k=60)), end="")),
    "subtitles": one("film.srt", repeated(subtitle)),
    "logs, compressed": {"server.log.gz": gzip.compress(repeated(log).encode())},
    "a poem": one("poem.txt", repeated(lambda rng: sentence(rng, BANK, 3, 5), 300)),
    "a folder of chapters": {
        f"book/chapter {number}.txt": words(700, number).encode() for number in range(1, 12)
    },
}
FEWER = [
    "--set",
    "train.steps=60",
    "--set",
    "train.eval_every=30",
    "--set",
    "train.checkpoint_every=30",
]


def advised(said: str) -> list[str]:
    """Return the options that a refusal tells to type."""
    option = re.search(r"--set (?:data\.\S+=\S+|'[^']+'|\"[^\"]+\")", said)
    assert option, said
    return shlex.split(option[0].rstrip(".,;)"))


@pytest.mark.nightly
@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_of_this_kind_needs_nothing_to_be_looked_up(kind: str, tmp_path: Path) -> None:
    for file, content in TEXTS[kind].items():
        tmp_path.joinpath(file).parent.mkdir(exist_ok=True)
        tmp_path.joinpath(file).write_bytes(content)
    text = next(iter(TEXTS[kind])).partition("/")[0]

    def run(*arguments: str) -> str:
        done = charlm(*arguments, cwd=tmp_path)
        assert done.returncode == 0, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout

    more: list[str] = []
    first = charlm("train", text, "--dry-run", cwd=tmp_path)
    if first.returncode:
        assert first.returncode == 2
        more = advised(first.stderr)
    half = [*more, *FEWER[2:], "--set", "train.steps=30"]
    run("train", text, "--run", "mine", *half)
    run("train", "--resume", "--run", "mine", "--set", "train.steps=60", "-q")
    sample = json.loads(run("sample", "mine", "--length", "80", "--seed", "1", "--json"))
    assert sample["samples"][0]["text"]
    state = json.loads(run("score", "mine", "--split", "train", "--json"))
    assert 0 < state["bits_per_character"] < 21
    if len(TEXTS[kind]) == 1:
        scored = json.loads(run("score", "mine", text, "--json"))
        assert scored["characters"] >= state["characters"]
        assert scored["unknown_characters"] <= 0.1 * scored["characters"]
    small = ["--seeds", "1", "--set", "train.steps=20", "--set", "train.eval_every=10"]
    run("compare", "rnn", "gru", "--data", text, *more, *small, "--out", "compared", "-q")
    assert (tmp_path / "compared").is_dir()


def test_there_are_twenty_kinds() -> None:
    assert len(TEXTS) == 20
