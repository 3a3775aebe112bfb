"""Long work reports how far it is: shares from 0 to 1, one task within another, on a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from charlm.common import progress

SHOWS = """
import time
from charlm.common import progress
from charlm.terminal.console import print_status
from charlm.terminal.progress import TaskProgress
with TaskProgress():
    for number in progress.track(range(16), "counting", 16):
        time.sleep(0.1)
        if number == 12:
            print_status("a line between")
"""

FINDS = """
import time
from charlm.common import progress
from charlm.terminal.progress import TaskProgress
with TaskProgress():
    for number in range(1, 1601):
        progress.count_files(number)
        time.sleep(0.001)
"""


def test_shares_of_a_part_are_shares_of_the_whole() -> None:
    seen: list[tuple[str, float]] = []
    with progress.shown_by(lambda task, share: seen.append((task, share))):
        for number in range(2):
            with progress.within("all", number, number + 1, 2):
                assert list(progress.track("ab", "letters", 2)) == ["a", "b"]
    shares = [share for _, share in seen]
    assert {task for task, _ in seen} == {"all"}
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert 0.25 in shares
    progress.report("unseen", 1, 2)
    assert len(seen) == len(shares)


def shown_on_a_terminal(code: str, folder: Path) -> str:
    """Run Python in a process whose stderr is a terminal; return what it printed there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder, stderr=slave) as process:
        os.close(slave)
        said = b""
        while True:
            try:
                said += os.read(master, 1 << 16)
            except OSError:  # the process has ended
                break
    os.close(master)
    assert process.returncode == 0
    return said.decode()


def logged(code: str) -> str:
    """Run Python in a process whose stderr is no terminal; return what it printed there."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


OFTEN = "from charlm.terminal import progress as shown\nshown.SECONDS_BETWEEN_LINES = 0.5\n"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The output of every program here, all at a time: most of theirs they sleep."""
    folder = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setenv("NO_COLOR", "1")
        patch.setenv("COLUMNS", "100")
        begun = {
            "files on a terminal": pool.submit(shown_on_a_terminal, FINDS, folder),
            "files in a log": pool.submit(logged, OFTEN + FINDS),
            "a task on a terminal": pool.submit(shown_on_a_terminal, SHOWS, folder),
            "a task in a log": pool.submit(logged, SHOWS),
        }
        return {name: one.result() for name, one in begun.items()}


def test_files_are_counted_on_a_terminal_after_a_second(said: dict[str, str]) -> None:
    text = said["files on a terminal"]
    assert "files found" in text
    assert "\r1 files found" not in text


def test_files_are_counted_in_a_log_now_and_then(said: dict[str, str]) -> None:
    lines = said["files in a log"].splitlines()
    assert 2 <= len(lines) <= 20
    assert all(line.endswith(" files found") for line in lines)


def test_a_task_of_over_a_second_is_a_bar_with_the_time_left_that_lines_do_not_tear(
    said: dict[str, str],
) -> None:
    text = said["a task on a terminal"]
    assert "counting" in text
    assert "left" in text
    (line,) = [line for line in text.replace("\r", "\n").splitlines() if "a line" in line]
    assert line.removeprefix("\x1b[A").strip() == "a line between"


def test_without_a_terminal_a_short_task_says_nothing(said: dict[str, str]) -> None:
    assert said["a task in a log"] == "a line between\n"
