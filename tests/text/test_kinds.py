"""Lists, Korean lines and Python code are recognized; running texts are not taken for them.

What the rule looks at, measured on these texts (and the share of lines that it depends on):

    text                  lines  blank  length  variation  unlike  ends like a sentence  one word
    names                    40    0 %       5       0.18   100 %                   0 %     100 %
    full names              240    0 %      11       0.11   100 %                   0 %       0 %
    cities                  503    0 %       7       0.30   100 %                   0 %      86 %
    identifiers           2,000    0 %       9       0.48   100 %                   0 %     100 %
    file names            3,000    0 %      21       0.51    76 %                   0 %     100 %
    words                 2,905    0 %       7       0.35   100 %                   0 %     100 %
    titles                  573    0 %      46       0.40   100 %                   2 %       4 %
    emoji                   500    0 %       3       0.49   100 %                   0 %     100 %
    numbers                 500    0 %       5       0.54    85 %                   0 %     100 %
    DNA                     400    0 %      38       0.32   100 %                   0 %     100 %
    film reviews, Korean  3,000    0 %      27       0.82   100 %                  46 %       8 %

    tinyshakespeare       6,149   19 %      37       0.49    78 %                  74 %      18 %
    its verse alone       4,564    0 %      41       0.31   100 %                  65 %       1 %
    short-lined poems        32   22 %      20       0.46   100 %                  53 %      12 %
    Python source         4,859   16 %      36       0.49    77 %    (90 % are indented)     14 %
    chat                    400    0 %      30       0.53    94 %  14 % (a name, a colon)     0 %
    CSV                     501    0 %      15       0.16   100 %     (two commas a line)    85 %
    subtitles             1,196   20 %       7       0.89    51 %                   8 %      48 %
    Markdown                121   23 %      47       0.73    89 %                  28 %      19 %
    Korean prose             32    0 %     114       0.33    12 %                 100 %       0 %
    Korean prose, wrapped    81    0 %      38       0.06    53 %                  20 %       0 %
    logs                    500    0 %      53       0.24   100 %          (a time first)     0 %
    FASTA                   501    0 %      60       0.04   100 %                   0 %     100 %

Of 3,559 text files of a Debian system, 97 are called lists: 79 are tables of code points, a number
a line, 6 are lists of words, and 12 are none. Ten files of Cython are called Python.
"""

import itertools
import json
import random
import re
import shlex
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import TINY, WORDS, Command, words

from charlm.config.schema import DataConfig
from charlm.text import corpus, kinds
from charlm.text.kinds import CODE, KOREAN, LIST, Kind, recognize

ROOT = Path(__file__).parents[2]
LIBRARY = Path(random.__file__).parent
rng = random.Random(0)
FIRST = [
    *("Anna", "Bob", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Iris", "Jack", "Kate"),
    *("Liam", "Mia", "Noah", "Olga", "Paul", "Quinn", "Rosa", "Sam", "Tina", "Ute", "Vera", "Yann"),
]
LAST = [
    *("Smith", "Jones", "Brown", "Müller", "Kim", "García", "Rossi", "Novak", "Silva", "Larsen"),
    *("O'Brien", "Dubois"),
]
SAID = [
    *("hey", "hi there", "did you see the game last night?", "no i was asleep lol", "ok", "brb"),
    *("what time are we meeting", "7 at the usual place", "see you", "haha", "thanks!", "yes"),
    "i think we should ask Anna first, she knows",
]
REVIEWS = """정말 재미있게 봤습니다!!
별로
배우들 연기가 너무 좋았어요 다시 보고 싶은 영화
시간이 아깝다... 중간에 나올 뻔했네
최고
음악이 참 좋다. 끝나고도 한참 앉아 있었다
이걸 왜 만들었을까
초반은 지루한데 뒤로 갈수록 빠져든다. 마지막 장면은 오래 기억에 남을 것 같다 추천합니다
감동 ㅠㅠ
기대 안 하고 봤는데 의외로 괜찮음
원작을 읽은 사람이라면 실망할 것이다. 인물들이 왜 그러는지 하나도 설명하지 않고 그냥 넘어간다.
아이들과 함께 보기 좋아요
10점
결말이 이해가 안 간다;;
화면은 예쁜데 이야기가 없다
웃다가 울었습니다. 부모님 모시고 한 번 더 보러 갈 생각입니다 표값이 하나도 아깝지 않아요
굿~
두 번 봐도 새롭네
너무 길다. 삼십 분은 줄여도 됐을 듯
주인공이 답답해서 죽는 줄 알았다
명작은 시간이 지나도 명작이다.
보지 마세요
친구가 추천해서 봤는데 생각보다 훨씬 좋았고 특히 비 오는 장면의 조명과 소리가 기가 막혔다
ㅋㅋㅋ 이게 뭐야
연출이 아쉽다
잔잔하고 따뜻한 이야기.""".splitlines()
NIGHT = (
    "박제가 되어 버린 천재를 아시오? 나는 유쾌하오. 이런 때 연애까지가 유쾌하오. 육신이 "
    "흐느적흐느적하도록 피로했을 때만 정신이 은화처럼 맑소. 니코틴이 내 횟배 앓는 뱃속으로 "
    "스미면 머릿속에 으레 백지가 준비되는 법이오."
)
POEMS = """The fog comes
on little cat feet.

It sits looking
over harbor and city
on silent haunches
and then moves on.

so much depends
upon

a red wheel
barrow

glazed with rain
water

beside the white
chickens

Because I could not stop for Death –
He kindly stopped for me –
The Carriage held but just Ourselves –
And Immortality.

Tyger Tyger, burning bright,
In the forests of the night;
What immortal hand or eye,
Could frame thy fearful symmetry?
"""
VERSE = """First Citizen:
Before we proceed any further, hear me speak.

All:
Speak, speak.

First Citizen:
You are all resolved rather to die than to famish?

All:
Resolved. resolved.

First Citizen:
First, you know Caius Marcius is chief enemy to the people.

All:
We know't, we know't.

First Citizen:
Let us kill him, and we'll have corn at our own price.
Is't a verdict?
"""


def rows(count: int, form: str) -> str:
    """Lines with a name, two things said, a word and numbers."""
    return "\n".join(
        form.format(
            name=rng.choice(FIRST),
            said=f"{rng.choice(SAID)} {rng.choice(SAID)}",
            word=rng.choice(IDENTIFIERS),
            n=[rng.randrange(10, 60) for _ in range(6)],
        )
        for _ in range(count)
    )


def strings(letters: str, least: int, most: int, count: int = 300) -> str:
    sizes = (rng.randint(least, most) for _ in range(count))
    return "\n".join("".join(rng.choices(letters, k=size)) for size in sizes)


IDENTIFIERS = sorted({name for module in [*sys.modules.values()] for name in dir(module)})[:3000]
TITLES = [
    f"The {a.title()} {b} of {c}" for a in WORDS for b, c in itertools.product(LAST, FIRST[:2])
]
SOURCE = "".join(path.read_text() for path in sorted(LIBRARY.glob("a*.py")))[:100_000]
SUBTITLE = "{n[0]}\n00:{n[1]}:{n[2]},000 --> 00:{n[1]}:{n[3]},900\n{said}\n"

LISTS = {
    "names": "\n".join(FIRST),
    "full names": "\n".join(f"{a} {b}" for a in FIRST for b in LAST),
    "cities": "New York\nLos Angeles\nRio de Janeiro\nSão Paulo\n" + "\n".join(FIRST[::-1]),
    "identifiers": "\n".join(IDENTIFIERS),
    "file names": "\n".join(sorted(path.name for path in LIBRARY.glob("*.py"))),
    "words": "\n".join(sorted({w for w in SOURCE.lower().split() if w.isalpha()})),
    "titles": "\n".join(TITLES),
    "emoji": strings("".join(map(chr, range(0x1F300, 0x1F600))), 1, 6),
    "numbers": strings("0123456789", 1, 9),
    "DNA": strings("ACGT", 18, 60),
    "Korean names": "\n".join(
        map("".join, itertools.product("김이박최정", "민서지현", "준연우은"))
    ),
    "Windows line ends": "\r\n".join(FIRST),
}
IN_A_LINE = {
    ", ": ", ".join(FIRST),
    ";": ";".join(FIRST),
    "|": "|".join(FIRST),
    "\t": "\t".join(FIRST),
    " ": " ".join(LISTS["words"].split()[:300]),
}
RUNNING = {
    "plays": VERSE * 20,
    "plays without blank lines": "\n".join(filter(None, VERSE.splitlines())) * 9,
    "poems": POEMS,
    "poems without blank lines": "\n".join(filter(None, POEMS.splitlines())),
    "chat": rows(300, "{name}: {said}"),
    "chat with times": rows(300, "[{n[0]}:{n[1]}] <{name}> {said} {word}"),
    "exported chat": rows(300, "1/{n[0]}/24, {n[1]}:{n[2]} - {name}: {said} {word}"),
    "CSV": rows(300, "{name},{n[0]},{word}"),
    "TSV": rows(300, "{name}\t{n[0]}\t{word}"),
    "subtitles": rows(200, SUBTITLE),
    "log": rows(300, "2024-03-{n[0]} {n[1]}:{n[2]}:{n[3]},123 INFO {word} {said}"),
    "system log": rows(300, "Mar {n[0]} {n[1]}:{n[2]}:{n[3]} host {word}[{n[4]}]: {said}"),
    "Markdown": (ROOT / "README.md").read_text(),
    "TOML": "".join(path.read_text() for path in (ROOT / "configs").glob("*.toml")),
    "C++": "".join(path.read_text() for path in (ROOT / "charlm/native/kernels").glob("*.cpp")),
    "HTML": rows(300, '<li><a href="/{word}">{name}</a></li>'),
    "JSON lines": rows(300, '{{"name": "{word}", "number": {n[0]}}}'),
    "FASTA": ">first\n" + strings("ACGT", 60, 60),
    "tunes": "X:1\nK:G\n" + rows(99, "{n[0]}ABc|{n[1]}def|{n[2]}gab|{n[3]}cde|"),
    "prose in one line": " ".join(VERSE.split()) * 9,
    "prose wrapped": textwrap.fill(" ".join(VERSE.split()) * 30, 72),
    "prose without punctuation": " ".join(re.findall("[a-z]+", SOURCE.lower())),
    "Korean prose": "\n".join([NIGHT] * 25),
    "Korean prose wrapped": textwrap.fill(NIGHT * 25, 40),
    "Korean dialogue": "\n".join(f'"{line.rstrip(".!~; ")}."' for line in REVIEWS),
    "Chinese poem": "床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。\n" * 9,
    "recipe": "Pancakes\n\n2 eggs\n1 cup of milk\na pinch of salt\n\nMix. Fry in butter.\n\n" * 9,
    "certificate": strings("ABCDEFGHabcdefgh012345+/", 64, 64, 25) + "\nABCD",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_recognized(name: str) -> None:
    assert recognize([LISTS[name]]) == LIST


@pytest.mark.parametrize("separator", IN_A_LINE)
def test_a_list_in_one_line_is_recognized_with_its_separator(separator: str) -> None:
    assert recognize([IN_A_LINE[separator]]) == Kind("a list", "names", separator)


@pytest.mark.parametrize("name", RUNNING)
def test_a_running_text_is_not_taken_for_a_list(name: str) -> None:
    assert recognize([RUNNING[name]]) is None


def test_korean_lines_and_python_are_recognized() -> None:
    assert recognize(["\n".join(REVIEWS)]) == KOREAN
    assert recognize([SOURCE]) == CODE
    assert recognize(["\n".join(FIRST[:15])]) is None, "too few lines to know"


# ---- what is said -------------------------------------------------------------------------------

SETTINGS = [part for change in (*TINY, "train.steps=2") for part in ("--set", change)]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hints(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("hint")]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("our names", LISTS["full names"], "a list; to take each line as a text of its own"),
        ("one line", IN_A_LINE[", "], "a list; to take each item as a text of its own"),
        ("films", "\n".join(REVIEWS), "a list of Korean lines; to take each line as a text"),
    ],
)
def test_training_on_a_list_names_the_command_once_and_the_command_works(
    folder: Path, command: Command, name: str, text: str, kind: str
) -> None:
    (folder / name).mkdir()
    (folder / name / "part.txt").write_text(text)
    for given in ([name], ["--data", name]):
        done = command("train", *given, *SETTINGS)
        (hint,) = hints(done.stderr)
        assert f"this looks like {kind}" in hint
        suggested = shlex.split(hint.partition(": ")[2])
        assert suggested[:2] == ["charlm", "train"]
        assert suggested[3:5] == ["--data", name]
        again = command(*suggested[1:])
        assert again.returncode == 0, again.stderr
        assert not hints(again.stderr)
        assert "one for the end of a record" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["default", "--data", "names.txt"],
        ["names", "--data", "names.txt"],
        ["names.txt", "--set", "data.records=lines"],
        ["names.txt", "--set", "data.records=none"],
        ["names.txt", "-q"],
    ],
)
def test_a_user_who_has_chosen_is_given_no_hint(
    folder: Path, command: Command, arguments: list[str]
) -> None:
    (folder / "names.txt").write_text(LISTS["full names"])
    done = command("train", *arguments, *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert not hints(done.stderr)


@pytest.mark.parametrize("unit", ["byte", "jamo"])
def test_the_unit_does_not_hide_a_list(folder: Path, command: Command, unit: str) -> None:
    (folder / "names.txt").write_text("\n".join(REVIEWS))
    done = command("train", "names.txt", *SETTINGS, "--set", f"data.unit={unit}")
    assert f"nsmc --data names.txt {shlex.join(SETTINGS)} --set data.unit={unit}" in done.stderr


def test_a_dry_run_has_the_hint_and_its_json_the_command(folder: Path, command: Command) -> None:
    (folder / "names.txt").write_text(LISTS["full names"])
    assert len(hints(command("train", "names.txt", "--dry-run", *SETTINGS).stderr)) == 1
    report = json.loads(command("train", "names.txt", "--dry-run", "--json", *SETTINGS).stdout)
    assert report["suggestion"] == shlex.join(
        ["charlm", "train", "names", "--data", "names.txt", *SETTINGS]
    )
    (folder / "names.txt").write_text(words(900))
    report = json.loads(command("train", "names.txt", "--dry-run", "--json", *SETTINGS).stdout)
    assert report["suggestion"] == ""


def test_code_is_suggested_its_preset_once_it_is_long_enough(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "code").write_text(SOURCE)
    assert not hints(command("train", "code", *SETTINGS).stderr)
    monkeypatch.setattr(kinds, "FEWEST_OF_CODE", 50_000)
    (hint,) = hints(command("train", "code", *SETTINGS).stderr)
    assert "this looks like Python code" in hint
    assert ": charlm train python --data code" in hint


def test_a_long_text_is_judged_by_stretches_from_all_of_it(folder: Path) -> None:
    lines = "\n".join(f"{a} {b} {n}" for n in range(80) for a in FIRST for b in LAST)
    data = DataConfig(path=str(folder / "long"), split=[1.0, 0.0, 0.0])
    for start, expected in ((lines, LIST), (VERSE * 900, None)):
        (folder / "long").write_text(start + "\n" + lines)
        encoded = corpus.prepare(data, corpus.survey(data))
        stretches = kinds.sample(encoded)
        assert sum(map(len, stretches)) <= kinds.STRETCHES * kinds.STRETCH
        assert kinds.kind_of(encoded) == expected
