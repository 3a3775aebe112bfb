"""The campaign of faults: whatever file operation fails, or is the last before a crash, charlm says
what happened, and the same command again ends with the bits of a run that nothing disturbed.

The file operations of every scenario are counted; then it is run again for every one of them,
which fails (`faults.c` in place of the C library) or ends the process; a write ends it in its
middle, too. ENOSPC is for operations that take room. A crash before an operation that changes
nothing leaves what a crash before the next one that does leaves; so only those are tried. Of what
was not synced, a crash keeps all, the names, the contents, some sectors of them, or nothing.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_scenarios import (
    Desk,
    complaint,
    final_weights,
    options,
    prepared,
    sizes,
    try_cases,
)
from fault_server import (
    CRASH_DROP_ALL,
    CRASH_DROP_DATA,
    CRASH_DROP_NAMES,
    CRASH_DROP_SECTORS,
    CRASH_KEEP,
    CRASH_TORN,
    CRASHED,
    FAIL,
    FAIL_FROM_HERE,
    Fault,
)

FAILING = {
    "new": 4,
    "resumed": 3,
    "unsaved": 3,
    "kernels": 2,
    "sample": 3,
    "score": 3,
    "runs": 2,
    "init": 3,
    "page": 1,
    "html": 1,
    "weights": 1,
    "gates": 1,
}
CRASHING = {
    "new": 6,
    "resumed": 3,
    "unsaved": 2,
    "kernels": 2,
    "compare": 1,
    "init": 2,
    "page": 1,
    "html": 1,
    "weights": 1,
    "gates": 1,
}
TWICE = {"new": 2, "resumed": 1}
"""Number of cases of each scenario in the small size, spread evenly over all of them."""
CRASHES = CRASH_KEEP, CRASH_DROP_DATA, CRASH_DROP_SECTORS, CRASH_DROP_ALL, CRASH_DROP_NAMES
TORN_AT = 1, 128, 255
"""Parts of a torn write that reach the disk, of 256."""


@pytest.mark.parametrize(("name", "count"), sizes(FAILING))
def test_operation_that_fails_is_reported_or_tolerated(desk: Desk, name: str, count: int) -> None:
    cases = []
    for at, operation in enumerate(prepared(desk, name).trace, 1):
        cases += [(Fault(at, FAIL, error),) for error in (errno.EIO, errno.EACCES)]
        if operation.does == "w":
            cases += [(Fault(at, mode, errno.ENOSPC),) for mode in (FAIL, FAIL_FROM_HERE)]
    try_cases(desk, name, cases, count)


def crashes(desk: Desk, name: str) -> list[Fault]:
    """List the crashes of a scenario: before every operation that changes something, and in it."""
    found = []
    for at, operation in enumerate(prepared(desk, name).trace, 1):
        if operation.does == "r":
            continue
        found += [Fault(at, mode, at if mode == CRASH_DROP_SECTORS else 0) for mode in CRASHES]
        if "write" in operation.name:
            found += [Fault(at, CRASH_TORN, part) for part in TORN_AT]
    return found


@pytest.mark.parametrize(("name", "count"), sizes(CRASHING))
def test_crash_before_or_in_any_operation_costs_no_result(
    desk: Desk, name: str, count: int
) -> None:
    try_cases(desk, name, [(one,) for one in crashes(desk, name)], count)


@pytest.mark.parametrize(("name", "count"), sizes(TWICE))
def test_second_crash_while_recovering_costs_no_result(desk: Desk, name: str, count: int) -> None:
    """Spread the second operations and ways to crash by multiples of a prime number."""
    last, cases = len(prepared(desk, name).trace), []
    for number, first in enumerate(crashes(desk, name)):
        mode = (*CRASHES, CRASH_TORN)[number % (len(CRASHES) + 1)]
        cases.append((first, Fault(1 + 7919 * number % last, mode, 1 + number % 255)))
    try_cases(desk, name, cases, count)


# ---- the shim itself ----------------------------------------------------------------------------

CHANGES = """
import ctypes, os, sys
from pathlib import Path
def sync(path):
    handle = os.open(path, os.O_RDONLY); os.fsync(handle); os.close(handle)
def write(path, text, mode="w", synced=True):
    with open(path, mode) as file:
        file.write(text); file.flush()
        if synced: os.fsync(file.fileno())
write("replaced", "old"); write("log", "old"); write("removed", "old"); os.mkdir("emptied")
shim = ctypes.CDLL(None)
shim.faults_watch(os.fsencode(os.getcwd()))
shim.faults_arm(ctypes.c_long(0), int(sys.argv[1]), 0)
write("log", "new", "a", synced=False)
write("temporary", "new"); os.rename("temporary", "replaced")
os.mkdir(".half"); write(".half/inside", "new"); os.rename(".half", "half")
os.unlink("removed"); os.rmdir("emptied")
os.mkdir("whole.temporary"); write("whole.temporary/inside", "new"); sync("whole.temporary")
os.rename("whole.temporary", "whole")
if sys.argv[2:]: sync(".")
Path("unsynced").write_text("new")
shim.faults_arm(ctypes.c_long(1), int(sys.argv[1]), 0)
os.mkdir("never")
"""
"""Changes of which some are synced, and the folder too if there is a second argument."""

OLD = {"replaced": "old", "log": "old", "removed": "old", "emptied": None}
NEW = {"replaced": "new", "log": "oldnew", "half": None, "half/inside": "new", "whole": None}
NEW |= {"whole/inside": "new", "unsynced": "new"}


@pytest.mark.parametrize(
    ("mode", "synced", "expected"),
    [
        (CRASH_KEEP, False, NEW),
        (CRASH_DROP_DATA, False, {**NEW, "log": "old", "unsynced": ""}),
        (CRASH_DROP_ALL, False, OLD),
        (CRASH_DROP_NAMES, False, {**OLD, "log": "oldnew"}),
        # The name in the folder that was not synced before it was renamed is lost.
        (
            CRASH_DROP_ALL,
            True,
            {"replaced": "new", "log": "old", "half": None, "whole": None, "whole/inside": "new"},
        ),
    ],
)
def test_crash_keeps_what_was_synced_and_nothing_else(
    desk: Desk, tmp_path: Path, mode: int, synced: bool, expected: dict[str, str | None]
) -> None:
    folder = Path(os.path.realpath(tmp_path)) / "watched"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CHANGES, str(mode), *(["sync"] if synced else [])],
        cwd=folder,
        env={**os.environ, "LD_PRELOAD": str(desk.server.shim)},
        check=False,
    )
    assert done.returncode == CRASHED
    found = {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_text()
        for path in folder.rglob("*")
    }
    assert found == expected


WRITES = """
import ctypes, os, sys
shim, mode, code = ctypes.CDLL(None), int(sys.argv[1]), int(sys.argv[2])
shim.faults_watch(os.fsencode(os.getcwd()))
shim.faults_arm(ctypes.c_long(3), mode, code)
with open("file", "wb", buffering=0) as file:
    file.write(b"x" * 512 * 40)
    file.write(b"y" * 512)
"""
"""Open a file, write 40 sectors, and crash before or in a second write."""


def written_until_a_crash(desk: Desk, folder: Path, mode: int, code: int) -> bytes:
    command = [sys.executable, "-c", WRITES, str(mode), str(code)]
    environment = {**os.environ, "LD_PRELOAD": str(desk.server.shim)}
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    assert done.returncode == CRASHED
    return (folder / "file").read_bytes()


def test_torn_write_leaves_its_first_part(desk: Desk, tmp_path: Path) -> None:
    folder = Path(os.path.realpath(tmp_path))
    for part in TORN_AT:
        content = written_until_a_crash(desk, folder, CRASH_TORN, part)
        assert content == b"x" * 512 * 40 + b"y" * (2 * part)


def test_lost_sectors_are_zeros_and_the_others_whole(desk: Desk, tmp_path: Path) -> None:
    content = written_until_a_crash(desk, Path(os.path.realpath(tmp_path)), CRASH_DROP_SECTORS, 7)
    sectors = [content[at : at + 512] for at in range(0, len(content), 512)]
    assert len(sectors) == 40
    assert {*sectors} == {b"x" * 512, b"\0" * 512}


# ---- a disk that is really full -----------------------------------------------------------------


@pytest.fixture
def small_disk(desk: Desk) -> Iterator[Path]:
    """A disk of 200 kB in the watched folder."""
    desk.clear()
    disk = desk.folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_run_that_fills_a_disk_goes_on_when_there_is_room(desk: Desk, small_disk: Path) -> None:
    # A checkpoint of about 130 kB: the first fits, the second does not.
    argv = ["train", "--data", "words.txt", "--quiet"]
    argv += options("train.backend=torch", "model.cell=gru", "model.hidden_size=48")
    desk.done([*argv, "--run", "run"])
    whole = final_weights(desk.folder, desk.done(["runs", "."]))
    on_disk = [*argv, "--run", str(small_disk / "run")]
    answer = desk.run(on_disk)
    assert (answer.code, complaint(answer)) == (1, ""), answer.err
    assert "No space left" in answer.err
    assert (small_disk / "run" / "checkpoints" / "step-00000006").is_dir()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    answer = desk.done([*on_disk, "--resume"])
    assert final_weights(small_disk, answer) == whole
