"""`score` of several documents: mean, interval, pooled figure, worst; two runs, pair by pair."""

import json
import math
import os
import random
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command, train_each, words
from rich.cells import cell_len
from rich.text import Text

import charlm
from charlm.api import loaded as loading
from charlm.api.documents import DocumentScores, PairedScores
from charlm.api.scoring import Scoring
from charlm.common.errors import CharlmError, DataError, UsageError
from charlm.evaluation import plain
from charlm.terminal import console
from charlm.terminal import documents as terminal

KEYS = [
    *("characters", "bytes", "loss", "bits_per_character", "bits_per_byte", "perplexity"),
    *("unknown_characters", "protocol", "adapted", "mixture"),
]
"""The keys of one text, in their order; scripts rely on them."""
ADDED = ["documents", "mean", "interval", "interval_method", "worst", "left_out"]
WIDE = ["model.hidden_size=32", "model.embedding_size=16"]  # as the kernels take them
RUNS = {
    "chars": WIDE,
    "bytes": ["data.unit=byte", *WIDE],
    "records": ["data.records=lines", "data.split=[0.8,0.2,0]"],
}
NAMES = ["docs/d1.txt", "docs/d2.txt", "docs/d3.txt", "docs/d10.txt"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of several units, and a folder of four documents of different lengths."""
    folder: Path = train_each(tmp_path_factory.mktemp("world"), words(1500), RUNS)
    (folder / "docs").mkdir()
    for number, name in enumerate(NAMES):
        text = words(30 * (number + 1), seed=number + 5) + "naïve 世界\n" * (number == 1)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _inside(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)


@pytest.fixture
def found(command: Command) -> Any:
    """The JSON that `score` prints with these arguments."""

    def carry_out(*arguments: str) -> dict[str, Any]:
        done = command("score", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    return carry_out


def t_quantile(df: int) -> float:
    """Student's t at 0.975, by adding up its density, which no table helps with."""
    at = np.linspace(0, 60, 2_000_001)
    density = (1 + at**2 / df) ** (-(df + 1) / 2)
    constant = math.gamma((df + 1) / 2) / math.sqrt(df * math.pi) / math.gamma(df / 2)
    below = (
        0.5
        + constant * np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)]) * (at[1])
    )
    return float(np.interp(0.975, below, at))


def bounds_of(values: list[float]) -> tuple[float, float]:
    mean, spread = np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
    half = t_quantile(len(values) - 1) * spread
    return float(mean - half), float(mean + half)


def test_one_file_has_the_keys_that_it_had(found: Any) -> None:
    alone = found("chars", NAMES[0])
    assert list(alone) == KEYS
    scoring = charlm.score("chars", NAMES[0])
    assert isinstance(scoring, Scoring)
    numbers = [key for key in KEYS if isinstance(alone[key], float)]
    report = scoring.report()
    assert list(report) == KEYS
    assert [report.pop(k) for k in numbers] == pytest.approx([alone.pop(k) for k in numbers])
    assert report == alone
    assert charlm.load("chars").score(Path(NAMES[0]).read_text()).nats == pytest.approx(
        scoring.score.nats, rel=1e-6
    )


@pytest.mark.parametrize(
    ("run", "options"),
    [
        *product(RUNS, [(), ("--threads", "1")]),
        *product(["chars", "records"], [("--window", "7"), ("--with", "ngram"), ("--adapt",)]),
    ],
)
def test_each_document_is_scored_as_if_it_were_alone(
    run: str, options: tuple[str, ...], found: Any
) -> None:
    every = found(run, *NAMES, *options)
    assert list(every) == KEYS + ADDED
    alone = [found(run, name, *options) for name in NAMES]
    for row, one in zip(every["documents"], alone, strict=True):
        assert row.pop("path") in NAMES
        for key, value in row.items():
            expected = (
                {k: pytest.approx(v, rel=1e-6) for k, v in value.items()}
                if (key == "mixture")
                else pytest.approx(value, rel=1e-6)
            )
            assert one[key] == expected, key
    nats = [one["bits_per_character"] * one["characters"] for one in alone]
    for key in ("characters", "bytes", "unknown_characters"):
        assert every[key] == sum(one[key] for one in alone)
    assert every["unknown_characters"] == (0 if run == "bytes" else 3)
    assert every["bits_per_character"] == pytest.approx(sum(nats) / every["characters"])
    assert every["bits_per_byte"] == pytest.approx(sum(nats) / every["bytes"])
    for key in ("protocol", "adapted"):
        assert every[key] == alone[0][key]


def test_mean_interval_and_worst_are_those_of_the_documents(found: Any) -> None:
    every = found("chars", *NAMES)
    bits = [row["bits_per_character"] for row in every["documents"]]
    assert every["mean"] == pytest.approx(np.mean(bits), rel=1e-12)
    assert every["mean"] != pytest.approx(every["bits_per_character"], rel=1e-3)  # weights differ
    low, high = bounds_of(bits)
    assert every["interval"]["low"] == pytest.approx(max(0, low), rel=1e-3)
    assert every["interval"]["high"] == pytest.approx(high, rel=1e-3)
    assert every["interval"]["level"] == 0.95
    assert every["interval_method"] == "Student's t over 4 documents"
    at = int(np.argmax(bits))
    assert every["worst"] == {"path": NAMES[at], "bits_per_character": bits[at]}


def test_the_interval_of_bits_does_not_go_below_zero(found: Any) -> None:
    every = found("chars", "docs/d1.txt", "docs/d2.txt", "docs/d3.txt")
    bits = [row["bits_per_character"] for row in every["documents"]]
    scores = charlm.score("chars", ["docs/d1.txt", "docs/d2.txt", "docs/d3.txt"])
    assert scores.mean.low >= 0
    if bounds_of(bits)[0] < 0:
        assert every["interval"]["low"] == 0


def test_order_changes_no_figure(found: Any) -> None:
    shuffled = list(NAMES)
    random.Random(1).shuffle(shuffled)
    assert shuffled != NAMES
    for more in ((), ("--with", "ngram"), ("--against", "bytes")):
        one, other = found("chars", *NAMES, *more), found("chars", *shuffled, *more)
        assert [row["path"] for row in other["documents"]] == shuffled
        for found_in in (one, other):
            found_in["documents"].sort(key=lambda row: row["path"])
            if "against" in found_in:
                found_in["against"]["documents"].sort(key=lambda row: row["path"])
                found_in["against"]["difference"]["values"].sort()
        assert one.pop("mixture") == pytest.approx(other.pop("mixture"), rel=1e-12)
        assert one == other


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_documents_have_no_interval(count: int, found: Any, command: Command) -> None:
    given = ["chars", *NAMES[:count], "--against", "bytes"]
    result = found(*given)
    for one in (result, result["against"], result["against"]["difference"]):
        assert one["interval"] is None
        assert "too few" in one["interval_method"]
        assert math.isfinite(one["mean"])
    shown = command("score", *given).stdout
    assert "too few, it takes 3" in shown
    assert "inf" not in shown
    assert "interval of" not in shown


@pytest.mark.parametrize("options", [(), ("--window", "9"), ("--with", "ngram"), ("--adapt",)])
def test_paired_difference_is_the_difference_of_the_parts(
    options: tuple[str, ...], found: Any
) -> None:
    pair = found("chars", *NAMES, "--against", "bytes", *options)
    one, other = found("chars", *NAMES, *options), found("bytes", *NAMES, *options)
    against = pair.pop("against")
    difference = against.pop("difference")
    assert pair == one
    assert against.pop("run") == "bytes"
    assert against == {key: value for key, value in other.items() if key != "left_out"}
    bits = [[row["bits_per_character"] for row in run["documents"]] for run in (one, other)]
    values = [a - b for a, b in zip(*bits, strict=True)]
    assert difference["values"] == values
    assert difference["mean"] == pytest.approx(one["mean"] - other["mean"], rel=1e-9)
    low, high = bounds_of(values)
    assert difference["interval"]["low"] == pytest.approx(low, rel=1e-3)
    assert difference["interval"]["high"] == pytest.approx(high, rel=1e-3)
    assert difference["pooled"] == pytest.approx(
        one["bits_per_character"] - other["bits_per_character"]
    )
    better = {"run": sum(v < 0 for v in values), "against": sum(v > 0 for v in values)}
    assert difference["better"] == better
    turned = found("bytes", *NAMES, "--against", "chars", *options)["against"]["difference"]
    assert turned["values"] == [-value for value in values]
    assert turned["interval"]["low"] == pytest.approx(-difference["interval"]["high"], rel=1e-9)
    assert pair["unknown_characters"] == 3
    assert against["unknown_characters"] == 0


def test_two_checkpoints_of_a_run_are_told_apart(found: Any, command: Command) -> None:
    early, late = sorted(Path("chars/checkpoints").glob("step-*"))[:2]
    pair = found(str(early), "docs", "--against", str(late))
    assert pair["against"]["run"] == "chars at step 12"
    shown = command("score", str(early), "docs", "--against", str(late)).stdout
    assert "chars at step 6 has" in shown
    assert "bits per character more than chars at step 12" in shown


def test_a_folder_is_its_texts(found: Any, command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    for name in ("d10.txt", "d2.txt"):
        (folder / name).write_bytes(Path("docs", name).read_bytes())
    (folder / "empty.txt").touch()
    (folder / "binary.bin").write_bytes(bytes(1000))
    for run in ("chars", "bytes"):
        texts = found(run, str(folder))
        assert [Path(row["path"]).name for row in texts["documents"]][-2:] == ["d2.txt", "d10.txt"]
        assert {"path": "empty.txt", "reason": "empty"} in texts["left_out"]
    assert found("chars", str(folder))["left_out"][0]["path"] == "binary.bin"
    said = command("score", "chars", str(folder))
    assert "2 documents; 2 left out: binary.bin (binary), empty.txt (empty)" in said.stderr
    one = found("chars", "docs")
    assert [row["path"] for row in one["documents"]] == NAMES
    assert one["bits_per_character"] == found("chars", *NAMES)["bits_per_character"]
    pair = found("chars", "docs", "--against", "bytes")
    assert [row["path"] for row in pair["against"]["documents"]] == NAMES


def test_stdin_is_one_of_the_documents(world: Path, found: Any) -> None:
    words_ = [sys.executable, "-m", "charlm", "score", "chars", "-", *NAMES[1:], "--json"]
    done = subprocess.run(
        words_, input=Path(NAMES[0]).read_bytes(), capture_output=True, check=False, cwd=world
    )
    assert done.returncode == 0, done.stderr
    result, named = json.loads(done.stdout), found("chars", *NAMES)
    result["documents"][0]["path"] = NAMES[0]
    result["worst"]["path"] = named["worst"]["path"]
    assert result == named
    Path("-").write_bytes(Path(NAMES[0]).read_bytes())
    try:
        assert found("chars", "./-", *NAMES[1:])["mean"] == named["mean"]
    finally:
        Path("-").unlink()


def test_the_latest_run_scores_documents(world: Path, found: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(world.parent)
    folder = world.parent / "runs"
    if not folder.exists():
        folder.mkdir()
        (world / "records").rename(folder / "records")
    try:
        given = [str(world / name) for name in NAMES]
        assert found(*given)["mean"] == found("runs/records", *given)["mean"]
    finally:
        (folder / "records").rename(world / "records")


BAD = {
    ("chars", "docs/d1.txt", "none.txt"): "cannot read none.txt: No such file",
    ("chars", "docs/d1.txt", "docs/d2.txt", "docs/d1.txt"): "docs/d1.txt is named twice",
    ("chars", "docs", "docs/d3.txt"): "docs/d3.txt is named twice",
    ("chars", "docs/d1.txt", "link.txt"): "link.txt and docs/d1.txt are the same file",
    ("chars", "-", "docs/d1.txt", "-"): "- is named twice",
    ("chars", "docs/d1.txt", "empty.txt"): "empty.txt is empty",
    ("chars", "docs/d1.txt", "cp1251.txt", "docs/d2.txt"): "cp1251.txt is not UTF-8 at byte 4",
    ("chars", "docs/d1.txt", "no-text"): "the folder no-text holds no text",
    ("chars", "docs/d1.txt", "bytes"): "bytes is a run of charlm, not a text",
    ("chars", "docs", "--html", "p.html"): "--html writes one text by one run",
    ("chars", "docs/d1.txt", "--against", "bytes", "--html", "p.html"): "--html writes one text",
    ("chars", "docs", "--per-character"): "--per-character prints one text by one run",
    ("chars", "docs", "--split", "val"): "give a FILE or a --split",
    ("chars", "--against", "bytes"): "give a FILE or a --split",
    ("chars", "--against", "bytes", "--split", "val"): "--split val is one text, not documents",
    ("chars", "docs", "--against", "chars"): "--against names it again",
    ("chars", "docs", "--against", "nowhere"): "there is no run nowhere",
    ("chars", "docs", "--against", "bytes", "--with", "bytes"): "bytes is named twice",
    ("chars", "-", "docs", "--against", "bytes"): "- can be read only once",
    ("chars", "docs", "marked.txt", "--against", "bytes"): "marked.txt has 4 characters as chars",
    ("chars", "docs/d1.txt", "https://example.org/a.txt"): "is an address, not a file",
    ("docs/d1.txt", "docs/d2.txt", "chars"): "docs/d1.txt is a text and chars a run",
    ("chars", "docs", "--adapt", "--window", "4"): "--adapt and --window go one at a time",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input_gets_one_message_and_prints_nothing(
    arguments: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("link.txt").is_symlink():
        Path("link.txt").symlink_to("docs/d1.txt")
        Path("empty.txt").touch()
        Path("cp1251.txt").write_bytes("abc привет, мир, всем привет\n".encode("cp1251"))
        Path("marked.txt").write_bytes("\ufeffthe ".encode())
        Path("no-text").mkdir()
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        done = command("score", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("error: ") == 1
    assert BAD[arguments] in done.stderr
    assert "help: " in done.stderr
    assert not Path("p.html").exists()


def test_a_text_of_unknown_characters_is_named(tmp_path: Path) -> None:
    changes = ["data.unknown=false", "data.minimum_count=1"]
    train_each(tmp_path, words(300), {"strict": changes})
    (tmp_path / "other.txt").write_text("世界", encoding="utf-8")
    with pytest.raises(DataError, match=r"other\.txt: the text is empty"):
        charlm.score(tmp_path / "strict", [NAMES[0], tmp_path / "other.txt"])


def test_encodings_that_differ_are_refused(tmp_path: Path, command: Command) -> None:
    (tmp_path / "words.txt").write_text(words(300), encoding="utf-8")
    train_each(tmp_path, words(300), {"old": ["data.encoding=cp1251"]})
    given = ("score", "chars", "docs", "--against", str(tmp_path / "old"))
    done = command(*given)
    assert done.returncode == 2
    assert "one run reads texts in cp1251 and the other in utf-8" in done.stderr
    assert command(*given, "--encoding", "utf-8").returncode == 0


def test_from_python(command: Command) -> None:
    scores = charlm.score("chars", NAMES)
    assert isinstance(scores, DocumentScores)
    assert [one.path for one in scores.documents] == NAMES
    assert scores.worst.score.bits_per_character == max(scores.bits_per_character)
    loaded = charlm.load("chars"), charlm.load("bytes")
    pair = charlm.score(loaded[0], [Path(name) for name in NAMES], against=loaded[1])
    assert isinstance(pair, PairedScores)
    assert pair.mean.mean == pytest.approx(scores.mean.mean - pair.against.mean.mean, rel=1e-5)
    assert len(charlm.score("chars", ["docs"]).documents) == len(NAMES)
    assert len(charlm.score("chars", NAMES[0], against="bytes").differences) == 1
    for call in (
        lambda: charlm.score("chars", []),
        lambda: charlm.score("chars", NAMES, html="page.html"),
        lambda: charlm.score("chars", NAMES, split="val"),  # type: ignore[call-overload]
        lambda: charlm.score("chars", "docs"),
        lambda: charlm.score(loaded[0], NAMES, against=loaded[0]),
        lambda: charlm.score("chars", NAMES, against="nowhere"),
    ):
        with pytest.raises(CharlmError) as refused:
            call()
        assert refused.value.exit_code == 2
        assert refused.value.advice
    with pytest.raises(UsageError, match="split"):
        charlm.score("chars", split="val", against="bytes")  # type: ignore[call-overload]


def test_short_documents_take_no_torch(world: Path, kernel_types: list[str]) -> None:
    if not kernel_types:
        pytest.skip("there are no kernels here")
    telling = (
        "import sys\nfrom charlm.__main__ import run\ncode = run(sys.argv[1:])\n"
        "print('torch' in sys.modules, file=sys.stderr)\nsys.exit(code)"
    )
    for more, imported in (
        ((), "False"),
        (("--against", "bytes"), "False"),
        (("--adapt",), "True"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", telling, "score", "chars", "docs", *more],
            capture_output=True,
            text=True,
            check=False,
            cwd=world,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines()[-1] == imported


def test_many_documents_load_torch_once(
    monkeypatch: pytest.MonkeyPatch, kernel_types: list[str]
) -> None:
    if not kernel_types:
        pytest.skip("there are no kernels here")
    short = loading.load("chars")
    weights = sum(p.numel() for p in short.model.parameters())
    longest = max(Path(name).stat().st_size for name in NAMES)
    calls: list[object] = []
    load = loading.load

    def counted(*given: Any, **more: Any) -> Any:
        calls.append(given)
        return load(*given, **more)

    monkeypatch.setattr(loading, "load", counted)
    monkeypatch.setattr(plain, "MOST_PRODUCTS", 1.2 * longest * weights)  # each alone is short
    from charlm.api.plain import load_plain
    from charlm.runs.finding import find_checkpoint

    model = load_plain(find_checkpoint(Path("chars")), "cpu")
    assert model is not None
    one = charlm.score(model, NAMES)
    assert len(calls) == 1
    other = charlm.score(model, NAMES[::-1])
    assert one.bits_per_character == other.bits_per_character[::-1]
    assert one.bits_per_character == charlm.score(short, NAMES).bits_per_character


def test_the_table_fits_in_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / ("a long name of a folder, " * 4) / ("글" * 30)
    folder.mkdir(parents=True)
    for number in range(60):
        (folder / f"{number}.txt").write_text(words(10, seed=number) + "世", encoding="utf-8")
    screen = console.PlainConsole(
        highlight=False, soft_wrap=True, theme=console.STYLES, width=80, force_terminal=True
    )
    for module in (console, terminal):
        monkeypatch.setattr(module, "out", screen)
    loaded = charlm.load("chars"), charlm.load("bytes")
    pair = charlm.score(loaded[0], [folder], against=loaded[1])
    for runs in (1, 2):
        capsys.readouterr()
        if runs == 1:
            terminal.scored(pair.scores, loaded[0].vocabulary)
        else:
            terminal.compared(pair, [one.vocabulary for one in loaded])
        lines = [Text.from_ansi(one).plain for one in capsys.readouterr().out.splitlines()]
        table = lines[: lines.index("")]
        assert len(table) == 1 + terminal.MOST_ROWS + 1
        assert max(map(cell_len, table)) <= 80
        assert max(map(cell_len, table)) > 70  # the room is used
        assert all(line.startswith("…") for line in table[1:-1])
        assert "and 10 more" in table[-1]
        assert all(any(f"/{at}.txt" in line for at in range(60)) for line in table[1:-1])


def test_piped_tables_have_whole_names(command: Command) -> None:
    shown = command("score", "chars", *NAMES).stdout.splitlines()
    assert [line.split()[0] for line in shown[1:5]] == NAMES
    assert shown[0].split() == ["document", "characters", "unknown", "bits/char"]
    assert command("score", "bytes", *NAMES).stdout.splitlines()[0].split()[-1] == "bits/char"
    against = command("score", "chars", *NAMES, "--against", "bytes")
    assert against.stdout.splitlines()[0].split()[-2:] == ["against", "difference"]
    assert "3 characters are outside the vocabulary" in against.stdout
    assert against.stderr.splitlines()[-1].startswith("next: charlm score chars docs/")
