"""The campaign of faults: whatever file operation fails, or is the last before a crash, charlm says
what happened, and the same command again ends with the bits of a run that nothing disturbed.

Every scenario is run once and its file operations are counted; then it is run again for every one
of them, which fails (`faults.c` in place of the C library) or ends the process. ENOSPC is for
operations that take room. A crash before an operation that changes nothing leaves what a crash
before the next one that does leaves; so only those are tried.
"""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import TINY, new_cache, words
from fault_server import (
    CRASH_DROP_ALL,
    CRASH_DROP_DATA,
    CRASH_KEEP,
    CRASHED,
    FAIL,
    FAIL_FROM_HERE,
    HANG,
    UNDISTURBED,
    Answer,
    Fault,
    FaultServer,
    Operation,
)

ALL = 10**9
LARGE_COMPARE = 200
"""A comparison takes seconds; all of its 2,200 cases would take three hours."""
FAILING = {
    "new": 4,
    "resumed": 3,
    "unsaved": 3,
    "kernels": 2,
    "sample": 3,
    "score": 3,
    "runs": 2,
    "init": 3,
}
CRASHING = {"new": 4, "resumed": 3, "unsaved": 2, "kernels": 2, "compare": 1}
"""How many cases of each scenario the small size takes, spread evenly over all of them."""


def options(*changes: str) -> list[str]:
    return [part for change in (*TINY, *changes) for part in ("--set", change)]


TRAIN = ["train", "--data", "words.txt", "--run", "run", "--quiet"]
TRAIN_TORCH = [*TRAIN, *options("train.backend=torch")]
TRAIN_NATIVE = [*TRAIN, *options("train.backend=native", "model.hidden_size=32")]
COMPARE = ["compare", "rnn", "gru", "--match", "hidden", "--seeds", "1", "--data", "words.txt"]
COMPARE += options("train.backend=torch", "data.split=[0.7,0.2,0.1]")


@dataclass
class Desk:
    """The one folder in which all cases happen, so that their paths are alike.

    folder: is watched. prepared: what was made of each scenario, by its name.
    """

    server: FaultServer
    folder: Path
    store: Path
    has_kernels: bool
    prepared: dict[str, "Prepared"] = field(default_factory=dict)

    def run(self, argv: list[str], fault: Fault = UNDISTURBED) -> Answer:
        return self.server.run(*argv, cwd=self.folder, fault=fault)

    def done(self, argv: list[str]) -> Answer:
        answer = self.run(argv)
        assert answer.code == 0, answer.err
        return answer

    def clear(self, source: Path | None = None) -> None:
        """Begin anew, with nothing but a text or with a copy of `source`."""
        shutil.rmtree(self.folder)
        if source is None:
            self.folder.mkdir()
            (self.folder / "words.txt").write_text(words(1500), encoding="utf-8")
        else:
            shutil.copytree(source, self.folder)


@dataclass(frozen=True)
class Scenario:
    """prepare: fills the folder. proof: what must be alike however the command came to its end."""

    argv: list[str]
    prepare: Callable[[Desk], None]
    proof: Callable[[Path, Answer], object]

    def again(self) -> list[str]:
        """Return the command that repeats or continues this one."""
        resumes = self.argv[0] == "train" and "--resume" not in self.argv
        return [*self.argv, "--resume"] if resumes else self.argv


@dataclass(frozen=True)
class Prepared:
    """folder: how the scenario begins. trace, proof: of its undisturbed end."""

    folder: Path
    trace: list[Operation]
    proof: object


# ---- the scenarios ------------------------------------------------------------------------------


def nothing(desk: Desk) -> None:
    """Leave the folder as it is: a text."""


def finished_run(desk: Desk) -> None:
    desk.done(TRAIN_TORCH)


def encoded_text(desk: Desk) -> None:
    finished_run(desk)
    shutil.rmtree(desk.folder / "run")


def killed_run(before_checkpoint: int) -> Callable[[Desk], None]:
    """Kill a run as it begins to write its n-th checkpoint, counted from 0."""

    def prepare(desk: Desk) -> None:
        trace = desk.done(TRAIN_TORCH).trace
        begun = [
            number
            for number, operation in enumerate(trace, 1)
            if operation.name == "mkdirat" and "/.writing-" in operation.path
        ]
        desk.clear()
        fault = Fault(begun[before_checkpoint], CRASH_KEEP)
        assert desk.run(TRAIN_TORCH, fault).code == CRASHED

    return prepare


def measured(desk: Desk) -> None:
    """Leave of a comparison what it measured, which takes most of its time."""
    desk.done(SCENARIOS["compare"].argv)
    shutil.rmtree(desk.folder / "compared" / "runs")
    (desk.folder / "compared" / "compare.json").unlink()
    (desk.folder / "compared" / "runs").mkdir()


def final_weights(folder: Path, answer: Answer) -> object:
    checkpoints = folder / "run" / "checkpoints"
    names = ("model.safetensors", "training.safetensors")
    try:
        latest = (checkpoints / "latest").read_text(encoding="utf-8").strip()
        return latest, *((checkpoints / latest / name).read_bytes() for name in names)
    except OSError as error:
        return f"no final weights: {error}"


def compared_bits(folder: Path, answer: Answer) -> object:
    try:
        result = json.loads((folder / "compared" / "compare.json").read_bytes())
    except (OSError, ValueError) as error:
        return f"no result: {error}"
    keys = ("cell", "bits_per_character", "test_bits_per_character")
    return [[row[key] for key in keys] for row in result["rows"]]


def printed(folder: Path, answer: Answer) -> object:
    return answer.out


def written_preset(folder: Path, answer: Answer) -> object:
    path = folder / "new.toml"
    return path.read_bytes() if path.exists() else "no file"


def no_proof(folder: Path, answer: Answer) -> object:
    """What a list shows of a run that it cannot read is its own affair."""
    return None


SCENARIOS = {
    "new": Scenario(TRAIN_TORCH, nothing, final_weights),
    "resumed": Scenario([*TRAIN_TORCH, "--resume"], killed_run(1), final_weights),
    "unsaved": Scenario([*TRAIN_TORCH, "--resume"], killed_run(0), final_weights),
    "kernels": Scenario(TRAIN_NATIVE, encoded_text, final_weights),
    "compare": Scenario([*COMPARE, "--quiet", "--out", "compared"], measured, compared_bits),
    "sample": Scenario(["sample", "run", "--seed", "1", "--length", "20"], finished_run, printed),
    "score": Scenario(["score", "run", "words.txt", "--per-character"], finished_run, printed),
    "runs": Scenario(["runs", "."], finished_run, no_proof),
    "init": Scenario(["init", "--out", "new.toml"], nothing, written_preset),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path) -> Iterator[Desk]:
    from charlm.native import build
    from charlm.native.library import load_library

    top = Path(os.path.realpath(tmp_path_factory.mktemp("faults")))
    for name in ("watched", "store", "scratch"):
        (top / name).mkdir()
    environment = {"CHARLM_CACHE": str(top / "watched" / "cache"), "NO_COLOR": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
        try:
            load_library()
            environment["CXX"] = str(quick_compiler(top, build.cached()))
        except build.UnavailableError:
            pass  # the scenario of the kernels is skipped
    with FaultServer(top / "scratch", top / "watched", environment) as server:
        yield Desk(server, top / "watched", top / "store", "CXX" in environment)


def quick_compiler(folder: Path, library: Path) -> Path:
    """Write a compiler that gives, in a moment, what the real one made of the same source."""
    path = folder / "quick-compiler"
    path.write_text(
        "#!/bin/sh\n"
        "for target; do :; done\n"  # the last argument: -o comes last
        f'case "$*" in *-shared*) exec cp "{library}" "$target" ;; *) : > "$target" ;; esac\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def prepared(desk: Desk, name: str) -> Prepared:
    """Prepare a scenario and run it undisturbed, once for all tests."""
    if name == "kernels" and not desk.has_kernels:
        pytest.skip("no kernels can be built here")
    if name not in desk.prepared:
        scenario, start = SCENARIOS[name], desk.store / name
        desk.clear()
        scenario.prepare(desk)
        shutil.copytree(desk.folder, start)
        answer = desk.done(scenario.argv)
        proof = scenario.proof(desk.folder, answer)
        assert not isinstance(proof, str) or not proof.startswith("no "), proof
        desk.prepared[name] = Prepared(start, answer.trace, proof)
    return desk.prepared[name]


# ---- what is checked ----------------------------------------------------------------------------


def complaint(answer: Answer) -> str:
    """Say what is wrong with how a command ended; "" if nothing is."""
    said = answer.out + answer.err
    lines = answer.err.splitlines()
    if answer.code == HANG:
        return "it hangs"
    if "Traceback" in said:
        return "a traceback"
    if found := re.search(r"\b[A-Z]\w*(Error|Exception)\b", said):
        return f"the name of a class: {found[0]}"
    if answer.code not in (0, 1, 2, 3):
        return f"exit code {answer.code}"
    for begin in ("error: ", "help: ") if answer.code else ():
        if sum(line.startswith(begin) for line in lines) != 1:
            return f"exit code {answer.code} without one line {begin!r}"
    return ""


def tail(answer: Answer) -> str:
    return " | ".join(answer.err.strip().splitlines()[-2:])[-300:]


def problems(desk: Desk, name: str, fault: Fault) -> list[str]:
    """Run a scenario under a fault, then again without; list what is not as it should be."""
    scenario, whole = SCENARIOS[name], prepared(desk, name)
    desk.clear(whole.folder)
    found = []
    answer = desk.run(scenario.argv, fault)
    if answer.code != CRASHED or fault.mode < CRASH_KEEP:
        if said := complaint(answer):
            found.append(f"{said}: {tail(answer)}")
        if answer.code == 0 and scenario.proof(desk.folder, answer) != whole.proof:
            found.append(f"it ends well, but with another result: {tail(answer)}")
    if answer.code or scenario.argv[0] in ("train", "compare"):
        again = scenario.again()
        answer = desk.run(again)
        if answer.code or complaint(answer):
            ending = " (with --resume)" if "--resume" in again else ""
            found.append(f"then again{ending}: exit code {answer.code}: {tail(answer)}")
        elif scenario.proof(desk.folder, answer) != whole.proof:
            found.append("then again: it ends well, but with another result")
    operation = whole.trace[fault.at - 1]
    where = operation.path.removeprefix(str(desk.folder))
    return [f"{name}: {fault}, {operation.name} {where}: {one}" for one in found]


def carried_out(desk: Desk, name: str, faults: list[Fault], count: int) -> None:
    """Try `count` of the faults, evenly spread, and report all problems together."""
    count = min(count, len(faults))
    chosen = [faults[(2 * number + 1) * len(faults) // (2 * count)] for number in range(count)]
    assert chosen
    found = [one for fault in chosen for one in problems(desk, name, fault)]
    assert not found, "\n".join([f"{len(found)} problems in {count} cases", *found])


def sizes(small: dict[str, int]) -> list[object]:
    """Return the pairs of a scenario and its number of cases, in both sizes."""
    large = {name: LARGE_COMPARE if name == "compare" else ALL for name in (*small, "compare")}
    nightly = [pytest.param(*pair, marks=pytest.mark.nightly) for pair in large.items()]
    return [*small.items(), *nightly]


@pytest.mark.parametrize(("name", "count"), sizes(FAILING))
def test_operation_that_fails_is_reported_or_tolerated(desk: Desk, name: str, count: int) -> None:
    faults = []
    for at, operation in enumerate(prepared(desk, name).trace, 1):
        faults += [Fault(at, FAIL, error) for error in (errno.EIO, errno.EACCES)]
        if operation.does == "w":
            faults += [Fault(at, mode, errno.ENOSPC) for mode in (FAIL, FAIL_FROM_HERE)]
    carried_out(desk, name, faults, count)


@pytest.mark.parametrize(("name", "count"), sizes(CRASHING))
def test_crash_before_any_operation_costs_no_result(desk: Desk, name: str, count: int) -> None:
    faults = [
        Fault(at, mode)
        for at, operation in enumerate(prepared(desk, name).trace, 1)
        if operation.does != "r"
        for mode in (CRASH_KEEP, CRASH_DROP_DATA, CRASH_DROP_ALL)
    ]
    carried_out(desk, name, faults, count)


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
