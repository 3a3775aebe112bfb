"""Shared by the tests: a cache of their own, tiny texts and tiny configurations."""

import atexit
import functools
import gc
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from fast_paths import tests_own
from forks import Forked, Forks, hurry

from charlm.__main__ import run as main
from charlm.comparison import plan as comparing
from charlm.comparison.execution import Compared, Comparison
from charlm.config import loading
from charlm.runs.state import SavedState
from charlm.training.prepare import PreparedRun, prepare_run
from charlm.training.request import request_run

if TYPE_CHECKING:
    from charlm.native.interface import Kernels

WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "makes",
    "toxic",
    "brew",
)


QUICK = (
    *("cache", "equations", "curves", "tune", "documents", "english", "floors"),
    *(
        "kinds",
        "measuring",
        "mistakes",
        "recurrent",
        "ngram",
        "statistics",
        "private",
        "cuda_graph",
    ),
    *("filters", "schedule", "layers", "vocabulary"),
)
"""Files of tests that take half a minute together, on one core: `pytest -m quick`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in QUICK:
            item.add_marker("quick")
        if tests_own(item.path):
            item.add_marker(pytest.mark.skip("this fast path is switched off"))


def pytest_collection_finish() -> None:
    gc.freeze()  # or each full collection would visit all of torch again


IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:  # commands with as many threads as there are cores would wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"


os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each command started would compile charlm anew
sys.dont_write_bytecode = False
hurry()


@pytest.fixture(scope="session")
def kernels_folder(pytestconfig: pytest.Config) -> Path:
    """Make the folder for the kernels, compiled once for each version of their sources, in pytest's
    cache, which all its processes share and the next test run finds."""
    folder = pytestconfig.cache.mkdir("kernels")
    folder.chmod(0o700)
    return folder


def new_cache(tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path) -> str:
    """An empty cache but for the kernels, and for the names of texts that any test has given: a run
    that a fixture has made under one cache is the user's own under another."""
    cache = tmp_path_factory.mktemp("cache")
    named = kernels_folder.parent / "named"
    named.mkdir(mode=0o700, exist_ok=True)
    for folder in (kernels_folder, named):
        (cache / folder.name).symlink_to(folder)
    return str(cache)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_fixtures(
    tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path
) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
        yield


@pytest.fixture(autouse=True)
def _isolated(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    kernels_folder: Path,
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    torch.set_num_threads(1)  # tiny models: faster, and alike on every machine


@pytest.fixture
def kernels() -> "Kernels":
    """The native kernels, built if need be; the test is skipped without."""
    from charlm.native import build
    from charlm.native.interface import Kernels
    from charlm.native.library import load_library

    try:
        return Kernels(load_library())
    except build.UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def kernel_types() -> list[str]:
    """The types that the native kernels have on this machine, built if need be; [] without."""
    from charlm.native import build
    from charlm.native.interface import Kernels
    from charlm.native.library import load_library

    try:
        return Kernels(load_library()).types
    except build.UnavailableError:
        return []


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path) -> Iterator[Any]:
    """A `Desk` for the campaigns of faults and of memory, whose start takes seconds."""
    from fault_scenarios import new_desk

    with new_desk(tmp_path_factory, kernels_folder) as desk:
        yield desk


def words(count: int, seed: int = 0) -> str:
    """Lines of random words: learnable, and unlike in every place."""
    rng = random.Random(seed)
    lines = [" ".join(rng.choices(WORDS, k=7)) for _ in range(count // 7 + 1)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(words(1500), encoding="utf-8")
    return path


TINY = [
    "model.hidden_size=6",
    "model.embedding_size=4",
    "train.batch_size=3",
    "train.sequence_length=5",
    "train.steps=12",
    "train.eval_every=6",
    "train.checkpoint_every=6",
    "train.log_every=4",
    "train.sample_length=20",
    "train.precision=float32",
    "train.warmup_steps=2",
    "train.threads=1",
    "train.device=cpu",  # alike on a machine with a GPU
]


def train_each(folder: Path, text: str, changes: dict[str, list[str]]) -> Path:
    """A folder with a text and a tiny run of each name, with its changes of the configuration."""
    (folder / "words.txt").write_text(text, encoding="utf-8")
    for name, own in changes.items():
        sets = [part for change in [*TINY, *own] for part in ("--set", change)]
        done = charlm("train", "words.txt", "--run", name, *sets, "-q", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def tiny_plan(path: Path, *changes: str) -> PreparedRun:
    """A plan for a model that takes a dozen steps in a moment."""
    return prepare_run(
        request_run(loading.load("default", [*TINY, *changes], {"data.path": str(path)}))
    )


@functools.cache
def started_forks() -> Forks:
    """Return the starter of commands in processes of their own, for all tests of this process."""
    started = Forks()
    atexit.register(started.__exit__)
    return started


def charlm(*arguments: str, cwd: Path, stdin: str | Path = "") -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, as a user runs it. stdin: a text, or a file."""
    process = begun(*arguments, cwd=cwd, stdin=stdin)
    code, (out, err) = process.wait(), process.communicate()
    return subprocess.CompletedProcess(arguments, code, out, err)


def begun(*arguments: str, cwd: Path, **given: Any) -> Forked:
    """A command line that has begun in a process of its own. given: as for `Forks.open`."""
    server = started_forks()
    server.folder = cwd
    return server.open(*arguments, **given)


def free_port() -> int:
    """A port that no program listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def saved_state(step: int) -> SavedState:
    """The state of a checkpoint of nothing."""
    where = {"device": "cpu", "precision": "float32", "threads": 1}
    of_nothing = {"progress": {}, "corpus": "", "versions": {}, "config": "", "vocabulary": {}}
    return SavedState.model_validate({"step": step, **where, **of_nothing})


Command = Callable[..., SimpleNamespace]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process: faster, and what a test changes is changed for it, too."""

    def carry_out(*arguments: str) -> SimpleNamespace:
        capsys.readouterr()
        code = main(list(arguments))
        found = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=found.out, stderr=found.err)

    return carry_out


# ---- comparisons --------------------------------------------------------------------------------

CELLS = ["rnn", "lstm", "gru"]
SEARCHED = ["rnn", "gru:train.learning_rate=0.02"]


def planned(
    path: Path,
    cells: list[str],
    *changes: str,
    match: str = "parameters",
    seeds: int = 2,
    tune: bool = False,
    search: int = 0,
) -> comparing.Plan:
    changes = (*TINY, "model.hidden_size=64", "data.split=[0.7,0.2,0.1]", *changes)
    layers = loading.load("default", changes, {"data.path": str(path)})
    requested = comparing.request_comparison(layers)
    made = comparing.plan(requested, cells, match=match, seeds=seeds, tune=tune)
    return replace(made, search=search)


def carried_out(given: comparing.Plan, folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """Carry a comparison out; return its result and events."""
    events = list(Comparison(given, folder).run("charlm compare"))
    last = events[-1]
    assert isinstance(last, Compared)
    return last.result, events


def compared_once(
    temporary: pytest.TempPathFactory, kernels_folder: Path, cells: list[str], **terms: int
) -> tuple[Path, Path, Any]:
    """Compare cells on a text; return the text, the comparison's folder and its result.

    terms: as for `planned`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLM_CACHE", new_cache(temporary, kernels_folder))
        torch.set_num_threads(1)
        folder = temporary.mktemp("finished")
        text = folder / "words.txt"
        text.write_text(words(1500), encoding="utf-8")
        result, _ = carried_out(planned(text, cells, **terms), folder / "compared")
    return text, folder / "compared", result


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path
) -> tuple[Path, Path, Any]:
    """Compare the three cells, as `compared_once`."""
    return compared_once(tmp_path_factory, kernels_folder, CELLS)


@pytest.fixture(scope="session")
def searched(
    tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path
) -> tuple[Path, Path, Any]:
    """Compare two cells after a random search, as `compared_once`."""
    return compared_once(tmp_path_factory, kernels_folder, SEARCHED, seeds=1, search=4)
