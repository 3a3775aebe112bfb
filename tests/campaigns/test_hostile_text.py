"""Texts, prompts and file names of every kind: each either trains, and then everything works on its
run, or is refused with one error and one piece of advice before anything is trained."""

import os
import random
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import TINY, words

from charlm.__main__ import run
from charlm.text.files import compressed

SETTINGS = [
    part
    for change in [*TINY, "train.steps=4", "data.split=[0.8,0.1,0.1]", "train.backend=torch"]
    for part in ("--set", change)
]
LONGER = ("--set", "train.steps=6")

WHOLE_UNICODE = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
FAMILY = (
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466\U0001f3fd\ufe0f\U0001f1f0\U0001f1f7"
)
HANGUL = "한국어 글을 배우는 작은 모형입니다.\n"

TEXTS: dict[str, bytes] = {
    "empty": b"",
    "one character": b"a",
    "two characters": b"ab",
    "only newlines": b"\n" * 500,
    "only carriage returns": b"\r" * 500,
    "one repeated character": b"a" * 500,
    "one repeated wide character": "あ".encode() * 500,
    "NUL bytes": b"ab\0c\0" * 200,
    "only NUL bytes": b"\0" * 500,
    "control characters": bytes(range(32)) * 30 + b"\x7f\x1b[31m" * 20,
    "C1 controls": "".join(map(chr, range(0x80, 0xA0))).encode() * 30,
    "invalid UTF-8": b"good text, then \xff\xfe\x80 " * 60,
    "cut UTF-8": "é".encode() * 300 + b"\xc3",
    "overlong UTF-8": b"abc\xc0\xaf" * 100,
    "encoded surrogates": b"abc\xed\xa0\x80" * 100,
    "UTF-16": words(200).encode("utf-16"),
    "UTF-16 without a mark": words(200).encode("utf-16-le"),
    "byte order mark": b"\xef\xbb\xbf" + words(200).encode(),
    "only a byte order mark": b"\xef\xbb\xbf",
    "many byte order marks": b"\xef\xbb\xbf" * 500,
    "CRLF": words(200).replace("\n", "\r\n").encode(),
    "line separators": "a\u2028b\u2029c\x85d\x0be\x0c".encode() * 60,
    "emoji": FAMILY.encode() * 60,
    "combining marks": ("a" + "\u0301\u0327\u0323" * 30).encode() * 10,
    "only combining marks": ("\u0301\u0327" * 300).encode(),
    "Arabic": ("السلام عليكم ورحمة الله\n" * 40).encode(),
    "Thai": ("ภาษาไทยไม่มีช่องว่าง\n" * 40).encode(),
    "Hangul composed": (HANGUL * 40).encode(),
    "Hangul decomposed": (unicodedata.normalize("NFD", HANGUL) * 40).encode(),
    "right to left overrides": ("a\u202eb\u2066c\u2069\u200f" * 100).encode(),
    "unassigned": ("\u0378\U000e0fff\ufffe\uffff\U0010ffff" * 100).encode(),
    "noncharacters and replacement": ("\ufffd\ufdd0x" * 100).encode(),
    "private use": ("\ue000\uf8ff\U000f0000" * 100).encode(),
    "one line without an end": b"word " * 2000,
    "template and markup": b"{{7*7}} [red]x[/red] %s {0} \\u0041 <b>&amp;</b>\n" * 20,
}
REFUSED = {
    *("empty", "one character", "two characters", "only a byte order mark"),
    *("invalid UTF-8", "cut UTF-8", "overlong UTF-8", "encoded surrogates"),
    "UTF-16 without a mark",
}
UNITS = ["char", "jamo", "byte"]
units = pytest.mark.parametrize(
    "unit", ["char", *(pytest.param(unit, marks=pytest.mark.nightly) for unit in ("jamo", "byte"))]
)


class Shell:
    """Runs commands in this process and holds each to the contract of errors."""

    def __init__(self, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        self.captured = capsysbinary
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        self.captured.readouterr()
        code = run(list(arguments))
        streams = self.captured.readouterr()  # bytes: a model of bytes writes any
        self.out, self.err = (part.decode("utf-8", "surrogateescape") for part in streams)
        failed = int(code != 0)
        assert "Traceback" not in self.err
        lines = self.err.split("\n")
        assert sum(line.startswith("error: ") for line in lines) == failed, (arguments, self.err)
        assert sum(line.startswith("help: ") for line in lines) == failed, (arguments, self.err)
        assert "\x1b" not in self.err
        return code

    def good(self, *arguments: str) -> str:
        assert self(*arguments) == 0, (arguments, self.err)
        return self.out

    def refused(self, *arguments: str) -> str:
        assert self(*arguments) == 2, (arguments, self.err)
        assert self.out == ""
        return self.err

    def trained_or_refused(self, data: str, *options: str, name: str = "run") -> bool:
        """Train on a text; then every command must work on the run. False where it is refused."""
        code = self("train", "--data", data, *SETTINGS, *options, "--run", name, "--quiet")
        if code:
            assert code == 2, self.err
            assert not Path(name).exists()
            return False
        self.good("sample", name, "--length", "20", "--seed", "1")
        self.good("sample", name, "--length", "3", "--num", "2", "--json")
        self.good("score", name, data)
        self.good("score", name, data, "--per-character")
        self.good("score", name, "--split", "val", "--json")
        self.good("runs", ".")
        self.good("runs", ".", "--json")
        self.good("train", "--resume", "--run", name, "--quiet", *LONGER)
        return True


@pytest.fixture
def shell(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(capsysbinary)


# ---- texts --------------------------------------------------------------------------------------


@units
@pytest.mark.parametrize("kind", TEXTS)
def test_text_trains_and_serves_or_is_refused(shell: Shell, kind: str, unit: str) -> None:
    Path("text.txt").write_bytes(TEXTS[kind])
    options = ["--set", f"data.unit={unit}", "--set", "data.minimum_count=1"]
    trained = shell.trained_or_refused("text.txt", *options)
    if unit == "byte":  # takes everything that is long enough
        assert trained == (len(TEXTS[kind]) > 100)
    else:
        assert trained == (kind not in REFUSED)


@units
def test_all_of_unicode_trains_and_serves(shell: Shell, unit: str) -> None:
    """All as bytes; as characters every seventh, because each has a row in the head."""
    text = WHOLE_UNICODE if unit == "byte" else WHOLE_UNICODE[:0xD800:7]
    Path("text.txt").write_bytes(text.encode())
    limits = ["data.minimum_count=1", "data.held_out_limit=300", f"data.unit={unit}"]
    options = [part for limit in limits for part in ("--set", limit)]
    code = shell("train", "--data", "text.txt", *SETTINGS, *options, "--run", "run", "--quiet")
    assert code == 0, shell.err
    shell.good("sample", "run", "--length", "20", "--seed", "1")
    shell.good("score", "run", "--split", "val", "--json")
    shell.good("train", "--resume", "--run", "run", "--quiet", *LONGER)


ODD_RANGES = [
    *((0, 0x20), (0x7F, 0xA0), (0x300, 0x370), (0x600, 0x700), (0xE00, 0xE80), (0x1100, 0x1200)),
    *((0x200B, 0x2070), (0x20D0, 0x2100), (0xAC00, 0xD7A4), (0xE000, 0xE100), (0xFB50, 0xFE10)),
    *((0xFE00, 0xFE10), (0xFFF0, 0x10000), (0x1F1E6, 0x1F200), (0x1F300, 0x1F700)),
    *((0xE0000, 0xE0200), (0x10FF00, 0x110000), (0x20, 0x7F)),
]


@pytest.mark.parametrize("count", [3, pytest.param(500, marks=pytest.mark.nightly)])
def test_mixture_of_odd_characters_trains_and_serves(shell: Shell, count: int) -> None:
    rng = random.Random(7)
    for number in range(count):
        ranges = rng.sample(ODD_RANGES, rng.randint(1, 5))
        letters = [chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(1, 60))]
        text = "".join(rng.choices(letters, k=rng.randint(150, 600)))
        Path("text.txt").write_bytes(text.encode())
        limits = [f"data.minimum_count={rng.choice([1, 1, 3])}", f"data.unit={rng.choice(UNITS)}"]
        if limits[1] == "data.unit=byte":
            limits[0] = "data.minimum_count=1"
        elif limits[0].endswith("1") and rng.random() < 0.3:
            limits.append("data.unknown=false")
        if limits[1] != "data.unit=byte":
            limits.append(f"data.normalize={rng.choice(['none', 'nfc', 'nfd'])}")
        options = [part for limit in limits for part in ("--set", limit)]
        trained = shell.trained_or_refused("text.txt", *options, name=f"run-{number}")
        assert trained or "minimum_count" in shell.err or "unknown" in shell.err, shell.err
        if trained:
            prompt = "".join(rng.choices(letters, k=5))
            shell.good("sample", f"run-{number}", "--length", "5", "--prompt", f"x{prompt}")


# ---- prompts ------------------------------------------------------------------------------------

PROMPTS = {
    "empty": "",
    "newline": "\n",
    "NUL": "a\0b",
    "escape": "\x1b[31mred",
    "emoji": FAMILY,
    "lone byte": os.fsdecode(b"caf\xe9"),
    "all lone bytes": os.fsdecode(bytes(range(128, 256))),
    "surrogate": os.fsdecode(b"\xed\xa0\x80"),
    "surrogate pair in two": os.fsdecode(b"\xed\xa0\xbd\xed\xb8\x80"),
    "decomposed": unicodedata.normalize("NFD", "한é"),
    "right to left": "\u202eabc",
    "long": "the quick " * 200,
    "foreign": "語" * 50,
    "dash": "--help",
}


@units
def test_prompt_is_continued_or_refused(shell: Shell, unit: str) -> None:
    Path("text.txt").write_text(words(300) + HANGUL * 5, encoding="utf-8")
    options = ["--set", f"data.unit={unit}", "--set", "data.minimum_count=1"]
    shell.good("train", "--data", "text.txt", *SETTINGS, *options, "--run", "run", "--quiet")
    wrong = []
    for kind, prompt in PROMPTS.items():
        for more in ([], ["--json"], ["--num", "2"], ["--stop", prompt or "x"]):
            try:
                code = shell("sample", "run", "--length", "8", f"--prompt={prompt}", *more)
                assert code in (0, 2), shell.err
            except (Exception, AssertionError) as error:
                wrong.append(f"{kind} {more[:1]}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def test_prompt_with_bytes_that_are_no_text_comes_through_argv(shell: Shell) -> None:
    Path("text.txt").write_text(words(300), encoding="utf-8")
    for unit in ("char", "byte"):
        options = ["--set", f"data.unit={unit}", "--set", "data.minimum_count=1"]
        shell.good("train", "--data", "text.txt", *SETTINGS, *options, "--run", unit, "--quiet")
    command: list[str | bytes] = [sys.executable, "-m", "charlm", "sample", "byte"]
    command += ["--length", "4", "--prompt", b"caf\xe9\xff"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"caf\xe9\xff")  # the bytes that were given


# ---- names --------------------------------------------------------------------------------------

NAMES: dict[str, bytes] = {
    "not UTF-8": b"caf\xe9.txt",
    "newline": b"two\nlines.txt",
    "escape": b"red\x1b[31m.txt",
    "quotes": b'it\'s "quoted".txt',
    "spaces": b"  spaces  .txt",
    "markup": b"[red]{{7*7}}<b>.txt",
    "dollar and backslash": b"$HOME\\n`x`.txt",
    "dots": b"...txt",
    "percent": b"%s%d.txt",
    "emoji": FAMILY.encode() + b".txt",
    "right to left": "\u202etxt.exe".encode(),
    "as long as can be": b"n" * 251 + b".txt",
    "no letters": b"___",
    "dash": b"-leading.txt",
}


@pytest.mark.parametrize("kind", NAMES)
def test_text_of_any_name_trains_and_serves(shell: Shell, kind: str) -> None:
    name = os.fsdecode(NAMES[kind])
    Path(name).write_text(words(150), encoding="utf-8")
    data = f"./{name}"
    assert shell.trained_or_refused(data) or "UTF-8" in shell.err
    if Path("run").exists():
        assert shell("train", "--data", data, *SETTINGS, "--quiet") == 0, shell.err
        shell.good("runs")
        shell.good("runs", "--json")
        shell.good("sample", "--length", "3")


@pytest.mark.parametrize("kind", NAMES)
def test_run_of_any_name_trains_and_serves(shell: Shell, kind: str) -> None:
    Path("words.txt").write_text(words(150), encoding="utf-8")
    name = os.fsdecode(NAMES[kind])
    if shell.trained_or_refused("words.txt", name=f"./{name}"):
        shell.good("runs", ".", "--plot", "curves.png")
    assert shell("train", "--data", "words.txt", *SETTINGS, "--run", f"./{name}-2", "--json") in (
        (0, 2)
    )


@pytest.mark.parametrize(
    "data",
    [
        *("", " ", ".", "..", "/", "n" * 300, "a/" * 3000, "nul\0byte", "-leading.txt"),
        *("~", "builtin:", "builtin:../pyproject.toml", "https://", "python:", "\ud800", "\n"),
        *("/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem"),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_name_of_nothing_is_refused(shell: Shell, data: str) -> None:
    """(An empty folder is what `.` and `..` are here.) Nothing else is trained in its place."""
    Path("below").mkdir()
    os.chdir("below")
    if data in ("/", "~"):  # are folders that might take a while
        return
    if data == "..":
        (Path("..") / "image").write_bytes(b"\0\1")
    shell.refused("train", f"--data={data}", *SETTINGS)
    assert not Path("runs").exists()


def test_fifo_is_refused_or_read_but_never_waited_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "FIFO_SECONDS", 0.1)
    os.mkfifo("pipe")
    shell.refused("train", "--data", "pipe", *SETTINGS)
    shell.refused("train", "pipe", *SETTINGS)
    Path("folder").mkdir()
    os.mkfifo("folder/pipe")
    shell.refused("train", "--data", "folder", *SETTINGS)
    Path("folder/words.txt").write_text(words(150), encoding="utf-8")
    assert shell.trained_or_refused("folder/words.txt")


def test_folder_with_a_loop_of_links_is_read_once(shell: Shell) -> None:
    Path("folder/inner").mkdir(parents=True)
    Path("folder/inner/words.txt").write_text(words(150), encoding="utf-8")
    Path("folder/inner/up").symlink_to("..")
    Path("folder/self").symlink_to("self")
    Path("folder/gone").symlink_to("nowhere")
    code = shell("train", "--data", "folder", *SETTINGS, "--run", "run")
    assert code == 0, shell.err
    counts = [
        int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:train|val|test)", shell.err)
    ]
    assert sum(counts) == len(words(150))
    shell.good("train", "--resume", "--run", "run", *LONGER)
    shell.refused("train", "--data", "folder/self", *SETTINGS)
    shell.refused("train", "--data", "folder/gone", *SETTINGS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_folder_with_an_unreadable_one_is_refused_or_said_so(shell: Shell) -> None:
    Path("folder/secret").mkdir(parents=True)
    Path("folder/words.txt").write_text(words(150), encoding="utf-8")
    Path("folder/secret/more.txt").write_text(words(150), encoding="utf-8")
    Path("folder/secret").chmod(0)
    try:
        code = shell("train", "--data", "folder", *SETTINGS, "--run", "run")
        assert code == 2 or "secret" in shell.err
    finally:
        Path("folder/secret").chmod(0o755)
