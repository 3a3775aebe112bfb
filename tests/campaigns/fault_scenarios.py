"""Scenarios for the campaigns of faults and of memory: a command, the folder in which it begins,
and the result that must be the same whatever happened on the way.

Every scenario is run once undisturbed, and what it does is counted; then it is run again under a
fault, and once more without.
"""

import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import TINY, new_cache, words
from fault_server import (
    CRASH_KEEP,
    CRASHED,
    HANG,
    NO_MEMORY,
    UNDISTURBED,
    Answer,
    Fault,
    FaultServer,
    Operation,
)

Case = tuple[Fault, ...]
"""The faults of a command and of those that repeat it, one each."""
ALL = 10**9
LARGE_COMPARE = 200
"""A comparison takes seconds; all of its 2,200 cases would take three hours."""


def options(*changes: str) -> list[str]:
    return [part for change in (*TINY, *changes) for part in ("--set", change)]


TRAIN = ["train", "--data", "words.txt", "--run", "run", "--quiet"]
TRAIN_TORCH = [*TRAIN, *options("train.backend=torch")]
TRAIN_NATIVE = [*TRAIN, *options("train.backend=native", "model.hidden_size=32")]
COMPARE = ["compare", "rnn", "gru", "--match", "hidden", "--seeds", "1", "--data", "words.txt"]
COMPARE += options("train.backend=torch", "data.split=[0.7,0.2,0.1]")


@dataclass
class Desk:
    """Hold the one folder in which all cases happen, so that their paths are alike.

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
    """prepare: fills the folder. proof: what must be alike however the command came to its end.
    written: the file that it writes, which is never there in part; "": it has more than one."""

    argv: list[str]
    prepare: Callable[[Desk], None]
    proof: Callable[[Path, Answer], object]
    written: str = ""

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


def moved_text(desk: Desk) -> None:
    """Make a run without its text: a page that cannot read it leaves parts out, and says so."""
    finished_run(desk)
    (desk.folder / "words.txt").unlink()


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


def content_of(name: str) -> Callable[[Path, Answer], object]:
    """Return a proof: the content of a file that the scenario writes."""

    def proof(folder: Path, answer: Answer) -> object:
        path = folder / name
        return path.read_bytes() if path.exists() else "no file"

    return proof


def writing(command: str, name: str, prepare: Callable[[Desk], None]) -> Scenario:
    """Return the scenario of a command that writes one file."""
    return Scenario(command.split(), prepare, content_of(name), name)


def no_proof(folder: Path, answer: Answer) -> object:
    """Compare nothing: a list may show a run that it cannot read in any way."""
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
    "init": writing("init --out new.toml", "new.toml", nothing),
    "page": writing("score run words.txt --html page.html", "page.html", finished_run),
    "html": writing("export run --to html --out model.html --force", "model.html", moved_text),
    "weights": writing(
        "export run --to torch --out exported.pt.safetensors --force",
        "exported.pt.safetensors",
        finished_run,
    ),
    "gates": writing("inspect run --gates fox --out seen", "seen/gates.html", moved_text),
}


@contextlib.contextmanager
def new_desk(tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path) -> Iterator[Desk]:
    """Start a server with a cache and a folder of its own."""
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


UNRAISABLE = re.compile(r"Exception ignored in.*?\nMemoryError: *\n", re.DOTALL)
"""Output of Python for an exception that matplotlib's reader of fonts cannot raise."""


def complaint(answer: Answer) -> str:
    """Return the defect in the end of a command; "" if there is none."""
    said = UNRAISABLE.sub("", answer.out + answer.err)
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


ALIKE = 0.8
"""Least ratio of the numbers of allocations of a command that is run twice."""
OF_NUMPY = re.compile(r"\bnp\.|\[.*\]")
"""A line of charlm that calls numpy or selects from an array, neither of which has a frame in a
trace."""


OF_MATPLOTLIB = re.compile(r'/matplotlib/(image|colors)\.py", line \d+ in (_resample|__call__)$')
"""The frames of matplotlib that sample an image or map its values to colours by numpy."""


def aborted(answer: Answer, by_any: bool) -> bool:
    """Return True if a library has ended the process where it had no memory: one in Rust, such as
    pydantic's and safetensors', by a message of its own; numpy 2.4, by a segmentation fault where
    it fails to allocate a buffer of an operation, called by charlm or by matplotlib, whose own
    sampling of images does so, too; the system's linker, for the data of a thread. by_any: accept
    any signal."""
    in_rust = answer.code == -signal.SIGABRT and "memory allocation of" in answer.err
    in_linker = answer.code == 127 and "memory for thread-local data" in answer.err
    innermost = re.search(r'^Current thread .*\n  File "([^"]*)", line (\d+).*', answer.err, re.M)
    line, in_matplotlib = "", bool(innermost and OF_MATPLOTLIB.search(innermost[0]))
    if innermost and "/charlm/" in innermost[1]:
        line = Path(innermost[1]).read_text(encoding="utf-8").splitlines()[int(innermost[2]) - 1]
    in_numpy = answer.code == -signal.SIGSEGV and bool(in_matplotlib or OF_NUMPY.search(line))
    return in_rust or in_linker or in_numpy or (by_any and answer.code < 0 and answer.code != HANG)


def tail(answer: Answer) -> str:
    return " | ".join(answer.err.strip().splitlines()[-2:])[-300:]


def problems(desk: Desk, name: str, *faults: Fault, may_abort: bool = False) -> list[str]:
    """Run a scenario under a fault, again under each other one, then without; list the
    defects.

    may_abort: accept that any library ends the process.
    """
    scenario, whole = SCENARIOS[name], prepared(desk, name)
    desk.clear(whole.folder)
    found = []
    for number, fault in enumerate(faults):
        answer = desk.run(scenario.again() if number else scenario.argv, fault)
        ended = fault.ends_the_process and answer.code == CRASHED
        if not ended and not aborted(answer, may_abort):
            if said := complaint(answer):
                found.append(f"{said}: {tail(answer)}")
            elif fault.mode == NO_MEMORY and answer.code and "memory" not in answer.err:
                found.append(f"it does not speak of memory: {tail(answer)}")
            if fault.mode == NO_MEMORY and answer.allocations < ALIKE * fault.at:
                found.append(f"only {answer.allocations} allocations, so none failed")
            if answer.code == 0 and scenario.proof(desk.folder, answer) != whole.proof:
                found.append(f"it ends well, but with another result: {tail(answer)}")
        written = desk.folder / scenario.written
        if written.is_file() and scenario.proof(desk.folder, answer) != whole.proof:
            found.append(f"{scenario.written} is there in part")
    if answer.code or scenario.argv[0] in ("train", "compare"):
        again = scenario.again()
        answer = desk.run(again)
        if answer.code or complaint(answer):
            ending = " (with --resume)" if "--resume" in again else ""
            found.append(f"then again{ending}: exit code {answer.code}: {tail(answer)}")
        elif scenario.proof(desk.folder, answer) != whole.proof:
            found.append("then again: it ends well, but with another result")
    where = ""
    if faults[0].mode != NO_MEMORY:
        operation = whole.trace[faults[0].at - 1]
        where = f", {operation.name} {operation.path.removeprefix(str(desk.folder))}"
    tried = ", then ".join(map(str, faults))
    return [f"{name}: {tried}{where}: {one}" for one in found]


def try_cases(
    desk: Desk, name: str, cases: Sequence[Case], count: int, may_abort: bool = False
) -> None:
    """Try `count` of the cases, evenly spread, and report all problems together."""
    count = min(count, len(cases))
    chosen = [cases[(2 * number + 1) * len(cases) // (2 * count)] for number in range(count)]
    assert chosen
    found = [one for case in chosen for one in problems(desk, name, *case, may_abort=may_abort)]
    assert not found, "\n".join([f"{len(found)} problems in {count} cases", *found])


def sizes(small: dict[str, int]) -> list[object]:
    """Return the pairs of a scenario and its number of cases, in both sizes."""
    large = {name: LARGE_COMPARE if name == "compare" else ALL for name in (*small, "compare")}
    nightly = [pytest.param(*pair, marks=pytest.mark.nightly) for pair in large.items()]
    return [*small.items(), *nightly]
