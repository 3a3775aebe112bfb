"""Nothing in a text, a file's name or an option steers the terminal it is shown on, or the page it
is written into."""

import os
import pty
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, begun

from charlm.__main__ import run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000"),
]

MARKUP = [
    '<script>document.title="owned"</script>',
    "</title><img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=\'owned\'">',
    "</style></svg></pre><b id=owned>x</b>",
    "{{7*7}}{% if 1 %}49{% endif %}${7*7}<%= 7*7 %>",
    "--><iframe src=javascript:document.title='owned'></iframe>",
    "&lt;script&gt; &#60;b&#62; ]]> <!-- ",
    "[red]x[/red] [link=file:///etc]y[/link] [/]",
]
ESCAPES = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;owned\x07",
    "\x1b]52;c;b3duZWQ=\x07",
    "\x1b[2J\x1b[H",
    "\x1bPq#0\x1b\\",
    "\x9b31m\x90\x9d0;x\x9c",
    "\u202eabc\u2066d\u2069\u200f",
    "\x08\x08\x7f\x00\x05\x0e\x0f\x18",
]
HOSTILE = "\n".join([*MARKUP, *ESCAPES]) + "\n"

# What the program itself sends: rich's colours, and tqdm's movement by a line.
OWN = re.compile(rb"\x1b\[[\d;]*m|\x1b\[[AK]|\r")
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def settings(*changes: str) -> list[str]:
    return [part for change in (*TINY, *changes) for part in ("--set", change)]


def shown_on_terminal(arguments: list[str], folder: Path) -> tuple[int, bytes]:
    """Run a command whose streams are a pseudo terminal; its exit code and what reached that."""
    main, other = pty.openpty()
    terminal = Path(f"/proc/{os.getpid()}/fd/{other}")
    streams: Any = {"stdin": terminal, "stdout": other, "stderr": other}
    given = {"TERM": "xterm-256color", "COLUMNS": "100"}
    with begun(*arguments, cwd=folder, variables=given, **streams) as process:
        os.close(other)
        seen = b""
        while True:
            try:
                block = os.read(main, 65536)
            except OSError:  # the terminal's other end is closed
                break
            if not block:
                break
            seen += block
        os.close(main)
    return process.returncode, seen


def assert_steers_nothing(seen: bytes) -> None:
    rest = OWN.sub(b"", seen).decode("utf-8")
    found = STEERING.search(rest)
    assert found is None, repr(rest[max(0, found.start() - 60) : found.end() + 60])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile.txt").write_text(HOSTILE * 12, encoding="utf-8", newline="")
    return tmp_path


NAMES = [
    "\x1b]0;owned\x07.txt",
    pytest.param("hostile.txt", marks=pytest.mark.nightly),
    pytest.param("[red]\u202ex\n.txt", marks=pytest.mark.nightly),
]


@pytest.mark.parametrize("name", NAMES, ids=["escape", "plain", "markup"])
def test_training_and_sampling_steer_no_terminal(folder: Path, name: str) -> None:
    if name != "hostile.txt":
        (folder / "hostile.txt").rename(folder / name)
    arguments = ["train", "--data", name, *settings("train.sample_length=300")]
    code, seen = shown_on_terminal([*arguments, "--set", "train.steps=12"], folder)
    assert code == 0, seen
    assert_steers_nothing(seen)
    code, seen = shown_on_terminal(
        ["sample", "--length", "2000", "--prompt", HOSTILE[:-20].replace("\x00", "")], folder
    )
    assert code == 0, seen
    assert_steers_nothing(seen)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", "\x1b]0;owned\x07none"],
        ["train", "\x1b[31mnone"],
        ["train", "--set", "\x1b[31m=3"],
        ["train", "--set", "model.cell=\x1b]0;x\x07"],
        ["train", "--set", "train.device=\u202ecpu"],
        ["train", "--\x1b[31mnone"],
        ["\x1b]0;owned\x07"],
        ["sample", "\x1b[2J"],
        ["sample", "a", "\x1b[2Jextra"],
        ["score", "\x1b[2J", "\x1b[31m"],
        ["runs", "\x1b[2J"],
        ["init", "\x1b[2J"],
        ["compare", "rnn:\x1b[31m=1"],
        ["compare", "\x1b]0;owned\x07"],
        ["compare", "rnn", "--config", "\x1b[2J.toml"],
        ["bench", "\x1b[2J"],
        ["bench", "--shape", "\x1b[2J"],
        ["sample", "--temperature", "\x1b[2J"],
        ["score", "x", "--split", "\x9b31m"],
    ],
    ids=repr,
)
def test_message_about_an_argument_steers_no_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    capsys.readouterr()
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert_steers_nothing((out + err).encode())
    assert err.count("error: ") == 1


# ---- the page of a comparison -------------------------------------------------------------------


@pytest.mark.nightly  # a comparison and a browser take a minute
def test_page_of_a_hostile_text_is_only_text(folder: Path) -> None:
    """In a browser: its title stays, no element comes from the text, and no script has run."""
    name = '<img src=x onerror="document.title=1">{{7*7}}.txt'.replace("/", "")
    (folder / "hostile.txt").rename(folder / name)
    options = settings(
        "model.hidden_size=8", "train.backend=torch", "data.split=[0.7,0.2,0.1]", "train.steps=12"
    )
    cells = ["rnn", "rnn:nonlinearity=relu"]
    out = "<b id=owned>{{7*7}}"
    arguments = [
        "compare",
        *cells,
        "--data",
        name,
        "--seeds",
        "1",
        "--match",
        "hidden",
        *options,
        "--out",
        out,
    ]
    assert run([*arguments, "--quiet"]) == 0
    (page,) = Path(out).rglob("*.html")
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert 'onerror="' not in re.sub(r"&\w+;", "", text).replace("onerror=&quot;", "")
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert "{{7*7}}" in text  # the name and the folder are told as they are
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    shutil.copy(page, folder / "page.html")
    address = (folder / "page.html").as_uri()
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    titles = re.findall(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert titles[0] == re.findall(r"<title>(.*?)</title>", text, re.DOTALL)[0]
    assert "owned" not in re.sub(r"[^<>]*", "", titles[0])
    tags = re.findall(r"<(\w+)", re.sub(r"<!--.*?-->", "", done.stdout, flags=re.DOTALL))
    assert not {"script", "img", "iframe", "b"} & {tag.lower() for tag in tags}
    assert not re.search(r"<[^<>]* id=\"?owned", done.stdout)
    assert not re.search(r"<[^<>]* on\w+=", done.stdout)
    assert "CONSOLE" not in done.stderr, done.stderr
