"""Long work reports how far it is: shares from 0 to 1, one task within another, on a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

from charlm import progress

SHOWS = """
import time
from charlm import progress
from charlm.terminal.console import print_status
from charlm.terminal.progress import TaskProgress
with TaskProgress():
    for number in progress.track(range(16), "counting", 16):
        time.sleep(0.1)
        if number == 12:
            print_status("a line between")
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


def test_a_task_of_over_a_second_is_a_bar_with_the_time_left_that_lines_do_not_tear(
    tmp_path: Path,
) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with subprocess.Popen([sys.executable, "-c", SHOWS], cwd=tmp_path, stderr=slave) as process:
        os.close(slave)
        said = b""
        while True:
            try:
                said += os.read(master, 1 << 16)
            except OSError:  # the process has ended
                break
    os.close(master)
    assert process.returncode == 0
    text = said.decode()
    assert "counting" in text
    assert "left" in text
    (line,) = [line for line in text.replace("\r", "\n").splitlines() if "a line" in line]
    assert line.removeprefix("\x1b[A").strip() == "a line between"


def test_without_a_terminal_a_short_task_says_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SHOWS], capture_output=True, text=True, check=True)
    assert done.stderr == "a line between\n"
