"""Links inside a run or comparison of a stranger: nothing is written through them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Command, words

import charlm
from charlm.common import outputs

FILES = ["config.toml", "metrics.jsonl", "summary.json", "vocabulary.json"]
STEP = "checkpoints/step-00000012"
STEP_FILES = [f"{STEP}/{name}" for name in ("state.json", "manifest.json", "model.safetensors")]
ALL_FILES = [
    *(*FILES, "checkpoints/latest", "checkpoints/best", *STEP_FILES),
    *("ngram/manifest.json", "ngram/counts.safetensors"),
    *("inspect/overview.html", "inspect/learning-curve.png"),
]
"""Files of a run as charlm writes it; with these folders, and `.lock`."""
FOLDERS = ["checkpoints", STEP, "inspect", "ngram"]
TEMPORARY = [
    *(f".{name}.writing" for name in FILES),
    *("checkpoints/.latest.writing", "checkpoints/.best.writing", "checkpoints/.writing-x"),
    *(".writing-x", "inspect/.overview.html.writing", "checkpoints/step-00000014"),
    *("inspect/.learning-curve.png.writing", outputs.MARKER, f"inspect/{outputs.MARKER}"),
]
"""Files that a run has for a moment, or later."""
COMMANDS = [
    ["inspect", "RUN"],
    ["score", "RUN", "--split", "val", "--with", "ngram"],
    ["sample", "RUN", "--length", "5", "--check-copies"],
    ["train", "--resume", "--run", "RUN", "-q", "--set", "train.steps=14"],
    ["inspect", "RUN"],
    ["runs", "."],
]


def content(folder: Path) -> dict[str, Any]:
    """Return everything below a folder, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.is_dir()
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run that has all that a run may have."""
    from charlm.__main__ import run

    folder = tmp_path_factory.mktemp("made")
    (folder / "words.txt").write_text(words(3000), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        charlm.train("words.txt", set=TINY, run="RUN")
        for command in COMMANDS[:2]:
            assert run(command) == 0
    return folder


@pytest.fixture
def stranger(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, and a folder elsewhere that nobody may touch."""
    shutil.copytree(made / "RUN", tmp_path / "RUN")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "RUN"


def replace_by_link(entry: Path, target: str) -> None:
    """Put a link in an entry's place: to its own content, moved elsewhere, or to something else."""
    elsewhere = entry.parents[[p.name for p in entry.parents].index("RUN")].parent / "elsewhere"
    if target == "its own content":
        moved = elsewhere / f"moved-{len(list(elsewhere.iterdir()))}"
        if entry.exists():
            entry.rename(moved)
        else:
            moved.mkdir()
        entry.symlink_to(moved)
        return
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)
    entry.symlink_to(elsewhere if target == "a folder" else elsewhere / target)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, "its own content") for name in [".lock", *FOLDERS, "checkpoints/step-00000006"]),
        (".lock", "precious.txt"),
        *((name, "nowhere") for name in FOLDERS),
        *((name, "a folder") for name in [*FOLDERS, ".writing-x"]),
    ],
)
def test_nothing_is_written_through_a_link_in_a_run(
    stranger: Path, command: Command, name: str, target: str
) -> None:
    replace_by_link(stranger / name, target)
    assert set(codes_of_all_commands(stranger, command)) <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("names", "target"),
    [
        (ALL_FILES, "its own content"),
        (TEMPORARY, "its own content"),
        (FILES, "precious.txt"),
        (TEMPORARY, "precious.txt"),
        (TEMPORARY, "nowhere"),
    ],
    ids=lambda given: given if isinstance(given, str) else f"{len(given)} names",
)
def test_nothing_is_written_through_links_that_keep_no_command_from_its_end(
    stranger: Path, command: Command, names: list[str], target: str
) -> None:
    """All links at once: since every command comes to its end, none hides what another would do."""
    for name in names:
        replace_by_link(stranger / name, target)
    assert not any(codes_of_all_commands(stranger, command))


def codes_of_all_commands(stranger: Path, command: Command) -> list[int]:
    """Carry out all commands; check that nothing elsewhere is changed; return their exit codes."""
    elsewhere = stranger.parent / "elsewhere"
    before, codes = content(elsewhere), []
    for arguments in COMMANDS:
        done = command(*arguments)
        assert content(elsewhere) == before, arguments
        assert "Traceback" not in done.stderr
        codes.append(done.returncode)
    return codes


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("inspect", COMMANDS[0]),
        ("checkpoints", COMMANDS[3]),
    ],
)
def test_folder_that_is_a_link_is_refused_with_one_message(
    stranger: Path, command: Command, name: str, arguments: list[str]
) -> None:
    replace_by_link(stranger / name, "its own content")
    done = command(*arguments)
    assert done.returncode == 2
    assert f"{name} is a symbolic link, and nothing is written through it" in done.stderr
    assert ("--out" in done.stderr) == (name == "inspect")


def test_links_that_the_user_names_are_followed(stranger: Path, command: Command) -> None:
    base = stranger.parent
    (base / "link").symlink_to(stranger)
    (base / "pages").symlink_to(base / "elsewhere")
    (base / "RUN" / "inspect").rename(base / "before")
    done = command("inspect", "link")
    assert done.returncode == 0, done.stderr
    assert (stranger / "inspect" / "overview.html").is_file()
    assert command("inspect", "RUN", "--out", "pages").returncode == 0
    assert (base / "elsewhere" / "overview.html").is_file()
    assert command(*COMMANDS[3][:3], "link", *COMMANDS[3][4:]).returncode == 0


@pytest.mark.parametrize("option", ["--html", "--plot"])
def test_final_file_that_is_a_link_is_replaced_itself(
    stranger: Path, command: Command, option: str
) -> None:
    precious = stranger.parent / "elsewhere" / "precious.txt"
    (stranger.parent / "out.file").symlink_to(precious)
    given = {"--html": ["score", "RUN", "--split", "val"], "--plot": ["runs", "."]}[option]
    assert command(*given, option, "out.file").returncode == 0
    assert precious.read_text() == "years of work"
    assert not (stranger.parent / "out.file").is_symlink()


# ---- comparisons --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "codes"),
    [
        *(([name], (0, 1, 2)) for name in (*sorted(outputs.COMPARISON_FOLDERS), ".lock")),
        (["report.html", ".compare.json.writing", "figures/.curves.png.writing"], (0,)),
        (["compare.json"], (0, 1, 2)),
        *(([name], (0, 1, 2)) for name in ("runs/rnn-seed0", "runs/rnn-seed0/checkpoints")),
        (["runs/rnn-seed0/summary.json"], (0, 1, 2)),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_nothing_is_written_through_a_link_in_a_comparison(
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    text_file: Path,
    names: list[str],
    codes: tuple[int, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "runs" / "checkpoints").mkdir(parents=True)
    for name in names:
        (tmp_path / "RUN" / name).parent.mkdir(parents=True, exist_ok=True)
    for folder in ("runs", "measured"):
        (tmp_path / "RUN" / folder).mkdir(exist_ok=True)
    for name in names:
        replace_by_link(tmp_path / "RUN" / name, "a folder")
    before = content(elsewhere)
    settings = [part for change in TINY for part in ("--set", change)]
    given = ["--data", str(text_file), "--seeds", "1", "--match", "hidden", "--out", "RUN", "-q"]
    done = command("compare", "rnn", *settings, *given)
    assert content(elsewhere) == before
    assert done.returncode in codes
    command("runs", "--rm", "RUN")
    assert content(elsewhere) == before
