"""Walks of folders: the files that are text, their order, those left out, those of charlm."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY, Command, charlm, words

from charlm.common import outputs, progress
from charlm.common.errors import DataError
from charlm.common.wording import byte_size
from charlm.config import loading
from charlm.config.schema import Config, DataConfig, to_toml
from charlm.text import corpus
from charlm.text.files import sources, walking
from charlm.text.files.walking import TextFiles

SETTINGS = [word for setting in TINY for word in ("--set", setting)]


def found_in(folder: Path, **options: object) -> TextFiles:
    return sources.find(DataConfig.model_validate({"path": str(folder), **options}))


def names(text: TextFiles, folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in text.files]


def reasons(text: TextFiles) -> dict[str, str]:
    return {one.path.as_posix(): one.reason for one in text.left_out}


def write(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


# ---- order --------------------------------------------------------------------------------------


def test_files_stand_in_natural_order_and_by_name_where_that_is_asked_for(tmp_path: Path) -> None:
    for name in ("10", "9", "1", "b/2", "b/10", "a10/x", "a9/x", "01", "a", "B", "x1y10", "x1y9"):
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    order = ["01", "1", "9", "10", "B", "a", "x1y9", "x1y10", "a9/x", "a10/x", "b/2", "b/10"]
    assert names(found_in(tmp_path), tmp_path) == [f"{name}.txt" for name in order]
    order = ["01", "1", "10", "9", "B", "a", "x1y10", "x1y9", "a10/x", "a9/x", "b/10", "b/2"]
    by_name = found_in(tmp_path, order="name")
    assert names(by_name, tmp_path) == [f"{name}.txt" for name in order]


def test_a_run_of_an_earlier_version_reads_its_folder_as_it_did() -> None:
    lines = to_toml(Config()).splitlines(keepends=True)
    earlier = "".join(one for one in lines if not one.startswith(("order", "file_limit")))
    assert earlier != "".join(lines)
    data = loading.from_toml(earlier, "config.toml").data
    assert (data.order, data.file_limit) == ("name", 10**9)
    assert loading.from_toml(to_toml(Config()), "config.toml").data.order == "natural"


def test_the_order_is_no_part_of_the_fingerprint_but_by_the_text(tmp_path: Path) -> None:
    write(tmp_path, **{"1_txt": "one " * 30, "2_txt": "two " * 30})

    def fingerprint(order: str) -> str:
        data = DataConfig.model_validate({"path": str(tmp_path), "order": order})
        return corpus.prepare(data, corpus.survey(data)).fingerprint

    assert fingerprint("natural") == fingerprint("name")
    write(tmp_path, **{"10_txt": "ten " * 30})
    assert fingerprint("natural") != fingerprint("name")


# ---- left out -----------------------------------------------------------------------------------


def test_what_is_left_out_is_named_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path, a_txt="text", photo_jpg=b"a\0b", empty_txt="", sub__b_txt="more", _hidden="x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "link.txt").symlink_to("a.txt")
    os.mkfifo(tmp_path / "pipe")
    text = found_in(tmp_path)
    assert names(text, tmp_path) == ["a.txt", "link.txt", "sub/b.txt"]
    assert reasons(text) == {
        ".git": "hidden",
        ".hidden": "hidden",
        "broken": "a broken link",
        "empty.txt": "empty",
        "loop": "a broken link",
        "photo.jpg": "binary",
        "pipe": "no regular file",
        "sub/up": "a link to a folder",
    }
    assert text.left_out_count == 8
    write(tmp_path, c_jsonl='{"text": "abc"}')
    text = found_in(tmp_path, field="text")
    assert names(text, tmp_path) == ["c.jsonl"]
    assert reasons(text)["a.txt"] == "neither .jsonl nor .parquet"


def test_texts_in_utf_16_are_read_in_a_folder_but_by_earlier_runs(tmp_path: Path) -> None:
    write(tmp_path, a_txt="text", b_txt="\ufefftext".encode("utf-16-le"), c_pdf=b"%PDF-1.4 text")
    text = found_in(tmp_path)
    assert names(text, tmp_path) == ["a.txt", "b.txt"]
    assert reasons(text) == {"c.pdf": "a PDF document"}
    assert names(found_in(tmp_path, order="name"), tmp_path) == ["a.txt"]
    write(tmp_path, b_txt="text".encode("utf-16-le"))
    assert names(found_in(tmp_path, encoding="utf-16-le"), tmp_path) == ["a.txt", "b.txt"]


def test_a_folder_without_text_says_what_was_left_out(tmp_path: Path) -> None:
    write(tmp_path, photo_jpg=b"a\0b")
    with pytest.raises(DataError) as caught:
        found_in(tmp_path)
    assert caught.value.details == ("photo.jpg (binary)",)


def test_entries_left_out_are_counted_beyond_those_that_are_named() -> None:
    text = TextFiles()
    for number in range(walking.MOST_NAMED + 2):
        text.leave_out(Path(f"{number}.jpg"), "binary")
    assert len(text.left_out) == walking.MOST_NAMED == 1000
    assert text.left_out[-1].path == Path("999.jpg")
    assert text.left_out_text().startswith("1,002 left out: 0.jpg (binary), 1.jpg (binary), ")
    assert text.left_out_text().endswith("4.jpg (binary), ...")


def test_link_that_cannot_be_followed_is_named_though_it_is_not_broken(tmp_path: Path) -> None:
    write(tmp_path, a_txt="some text")
    (tmp_path / "link.txt").symlink_to("x" * 300)
    with pytest.raises(DataError) as caught:
        found_in(tmp_path)
    reason = os.strerror(errno.ENAMETOOLONG)
    assert caught.value.what == f"cannot read {tmp_path / 'link.txt'}: {reason}"


def test_names_that_are_no_utf_8_are_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path / "text-") + b"\xff\xfe"))
    try:
        path.write_text("abcdefgh" * 10)
    except OSError:
        pytest.skip("this file system has no such names")
    data = DataConfig(path=str(tmp_path))
    assert corpus.prepare(data, corpus.survey(data)).train.characters == 72


def test_another_file_system_is_left_out() -> None:
    """As /proc and /sys in `train /`; here the memory that Linux mounts in /dev."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == shared.parent.stat().st_dev:
        pytest.skip("there is no other file system at a known place")
    with pytest.raises(DataError, match="holds no text") as caught:
        found_in(shared.parent)
    assert "shm (another file system)" in caught.value.details


def test_more_files_than_the_limit_are_refused_before_one_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        write(tmp_path, **{f"{number}_txt": "text"})
    with monkeypatch.context() as patch:
        patch.setattr(walking, "head_of", lambda *_: pytest.fail("opened"))
        with pytest.raises(DataError) as caught:
            found_in(tmp_path, file_limit=19)
    assert caught.value.what == f"there are more than 19 files in {tmp_path}"
    assert "--set data.file_limit=190" in caught.value.advice
    assert len(found_in(tmp_path, file_limit=20).files) == 20


def test_files_are_counted_while_they_are_looked_for(tmp_path: Path) -> None:
    write(tmp_path, a_txt="some text", b_txt="more text", c_jpg=b"\0")
    seen: list[str] = []
    with progress.shown_by(lambda task, _: seen.append(task)):
        corpus.survey(DataConfig(path=str(tmp_path)))
    assert seen[:3] == [f"{number} files found" for number in (1, 2, 3)]
    counted = [task for task in seen if task.endswith("files found")]
    assert set(counted[3:]) == {"3 files found"}


# ---- what charlm wrote --------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts, and the working directory."""
    folder = tmp_path / "texts"
    write(folder, **{"1_txt": words(700), "2_txt": words(700, seed=1)})
    monkeypatch.chdir(folder)
    return folder


def train_characters(command: Command, *more: str) -> int:
    done = command("train", ".", *SETTINGS, *more, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["files"]["count"] == 2
    return int(report["characters"]["train"])


def test_a_run_in_its_own_text_is_resumed_scored_and_repeated(
    texts: Path, command: Command
) -> None:
    before = train_characters(command)
    steps = ("--set", "train.steps=400", "--set", "train.checkpoint_every=6")
    process = subprocess.Popen(
        [sys.executable, "-m", "charlm", "train", ".", *SETTINGS, *steps, "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    run = texts / "runs" / "texts-1"
    while not (run / "checkpoints" / "latest").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for arguments in (
        ("train", ".", *SETTINGS, *steps, "--resume", "--quiet"),
        ("score", "runs/texts-1", "--split", "val"),
        ("sample", "runs/texts-1", "--length", "30", "--check-copies"),
        ("inspect", "runs/texts-1", "--context", "--out", "pages"),
    ):
        done = command(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    assert train_characters(command) == before


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_nothing_that_commands_write_becomes_text(
    texts: Path, command: Command, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages, pictures, configurations, a cache in the folder; of bytes, too, where all counts."""
    (texts / "cache").mkdir()
    (texts / "cache" / "kernels").symlink_to(Path(os.environ["CHARLM_CACHE"]) / "kernels")
    monkeypatch.setenv("CHARLM_CACHE", str(texts / "cache"))
    own = ("--set", f"data.unit={unit}", "--set", "data.minimum_count=1")
    before = train_characters(command, *own)
    for arguments in (
        ("train", ".", *SETTINGS, *own, "--quiet"),
        ("score", "runs/texts-1", "1.txt", "--html", "page.html"),
        ("inspect", "runs/texts-1", "--gates", "hello", "--out", "inspected"),
        ("runs", "--plot", "curves.png"),
        ("init", "--out", "mine.toml"),
    ):
        done = command(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        assert train_characters(command, *own) == before, arguments
    assert command("score", "runs/texts-1", "--split", "val").returncode == 0
    kinds = set(reasons(found_in(texts, unit=unit)).values())
    assert {"a run of charlm", "the cache of charlm", "made by charlm"} <= kinds


def test_a_comparison_in_its_own_text_goes_on(
    texts: Path, command: Command, finished: tuple[Path, Path, object]
) -> None:
    """Beside texts, in a folder of its own, and as the folder that is named."""
    before = train_characters(command)
    shutil.copytree(finished[1], texts / "compared")
    assert train_characters(command) == before
    assert reasons(found_in(texts))["compared"] == "a comparison of charlm"
    for path in finished[1].iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, texts / path.name)
    assert train_characters(command) == before


@pytest.mark.parametrize("count", range(1, 6))
def test_a_run_that_has_barely_begun_is_no_text(tmp_path: Path, count: int) -> None:
    """As a kill leaves it after each of its first files."""
    write(tmp_path, a_txt="some text")
    first = [".lock", "metrics.jsonl", "checkpoints", "vocabulary.json", "config.toml"][:count]
    run = tmp_path / "runs" / "x-1"
    run.mkdir(parents=True)
    for name in first:
        (run / name).mkdir() if name == "checkpoints" else (run / name).write_text("{}")
    for unit in ("char", "byte"):
        assert names(found_in(tmp_path, unit=unit), tmp_path) == ["a.txt"]


def test_folders_like_those_of_charlm_are_text(tmp_path: Path) -> None:
    write(
        tmp_path,
        checkpoints__notes_txt="a walk past the checkpoints",
        config_toml="[my]\nown = 1",
        runs__diary_txt="runs of mine",
        page_html="<!doctype html><title>a page</title>",
    )
    found = names(found_in(tmp_path), tmp_path)
    assert found == ["config.toml", "page.html", "checkpoints/notes.txt", "runs/diary.txt"]


def test_a_run_that_is_named_as_a_text_is_refused(texts: Path, command: Command) -> None:
    assert command("train", ".", *SETTINGS, "--quiet").returncode == 0
    done = command("train", "--data", "runs/texts-1", *SETTINGS)
    assert done.returncode == 2
    assert "holds no text" in done.stderr
    assert "(a run of charlm)" in done.stderr


def test_a_marked_folder_is_no_text(tmp_path: Path) -> None:
    write(tmp_path, a_txt="some text", study__random_txt="abcabc")
    outputs.mark(tmp_path / "study")
    text = found_in(tmp_path)
    assert names(text, tmp_path) == ["a.txt"]
    assert reasons(text) == {"study": "made by charlm"}


# ---- told to the user ---------------------------------------------------------------------------


def test_train_prints_the_files_of_a_folder(texts: Path) -> None:
    write(texts, photo_jpg=b"\0")
    done = charlm("train", ".", *SETTINGS, cwd=texts)
    size = sum((texts / name).stat().st_size for name in ("1.txt", "2.txt"))
    line = f"files       2 files, {byte_size(size)}; 1 left out: photo.jpg (binary)"
    assert line in done.stderr.splitlines()
    done = charlm("train", "1.txt", *SETTINGS, cwd=texts)
    assert "files " not in done.stderr
