"""Every key of the configuration, changed when a run is resumed: what the schema marks as resumable
is taken and recorded, everything else is refused by name and leaves the run as it was."""

import hashlib
import json
import random
import shutil
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from conftest import tiny_plan, words

from charlm.common.errors import UsageError
from charlm.config.schema import SECTIONS, Config, Mark, marked
from charlm.runs import checkpoint
from charlm.training import setup
from charlm.training.events import Trained

KEYS = [f"{section}.{key}" for section, kind in SECTIONS.items() for key in kind.model_fields]
RESUMABLE = marked(Mark.RESUMABLE)
STOPPED_AT = 5

# What introspection cannot find: texts, lists, and values that other keys restrict.
CHANGED: dict[str, Any] = {
    "data.sha256": "0" * 64,
    "data.split": [0.8, 0.1, 0.1],
    "data.unit": "jamo",
    "data.records": "lines",
    "data.separator": "e",
    "data.field": "text",
    "data.encoding": "cp1251",
    "sample.repetition_penalty": 1.5,
    "model.cell": "rnn",
    "train.adam_betas": [0.5, 0.9],
    "train.backend": "torch",
    "train.device": "auto",
    "train.start_from": "elsewhere",
    "train.teachers": ["elsewhere"],
    "train.log": ["tensorboard"],
    "train.steps": 20,
    "train.accumulate": 2,
    "train.reduce": "bfloat16",
}

# Options of some cells only.
CELL_OF = {
    "model.nonlinearity": "rnn",
    "model.reset_gate": "gru",
    "model.forget_bias": "lstm",
    "model.heads": "mlstm",
    "model.key_size": "mlstm",
    "model.rounds": "mogrifier",
    "model.rank": "mogrifier",
}

# A separator is for records of that kind.
NEEDED = {"data.separator": ["data.records=separator", "data.separator=a"]}


def changed_value(config: Config, dotted: str) -> Any:
    """Another value that is valid in place of the one that the run has."""
    if dotted in CHANGED:
        return CHANGED[dotted]
    section, key = dotted.split(".")
    value = getattr(getattr(config, section), key)
    kind = SECTIONS[section].model_fields[key].annotation
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice not in (value, "auto"))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    assert isinstance(value, float), f"{dotted}: give CHANGED another value for it"
    return 0.5 if value != 0.5 else 0.25


def as_change(dotted: str, value: Any) -> str:
    return f"{dotted}={value if isinstance(value, str) else json.dumps(value)}"


def digest(folder: Path) -> dict[str, str]:
    """Return the digest of every file and folder in it, hidden ones too, without the lock."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name != ".lock":
            content = path.read_bytes() if path.is_file() else b"a folder"
            found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(words(1500), encoding="utf-8")
    return path


def stopped(text: Path, folder: Path, dotted: str) -> Config:
    """A run whose cell has the key, stopped by a signal after a few steps; its configuration."""
    cell = f"model.cell={CELL_OF.get(dotted, 'gru')}"
    needed = NEEDED.get(dotted, [])
    planned = tiny_plan(text, cell, "train.log_every=1", "data.minimum_count=1", *needed)
    trainer, run = setup.begin(planned, folder)
    for event in trainer.train(run):
        if isinstance(event, Trained) and event.step == STOPPED_AT - 1:
            trainer.stop()
    run.unlock()
    return planned.config


def test_matrix_has_keys_of_both_kinds() -> None:
    assert set(KEYS) > RESUMABLE
    assert len(RESUMABLE) > 15
    assert len(set(KEYS) - RESUMABLE) > 15


@pytest.mark.parametrize("dotted", sorted(RESUMABLE))
def test_resumable_key_is_taken_and_recorded(tmp_path: Path, text: Path, dotted: str) -> None:
    folder = tmp_path / "run"
    config = stopped(text, folder, dotted)
    if dotted == "data.path":
        value = str(shutil.copy(text, tmp_path / "elsewhere.txt"))
    else:
        value = changed_value(config, dotted)
    resumed = setup.resume(folder, [as_change(dotted, value)])
    assert resumed.step == STOPPED_AT
    list(resumed.trainer.train(resumed.run))
    resumed.run.unlock()
    section, key = dotted.split(".")
    written = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    assert written[section][key] == value
    saved = checkpoint.read(resumed.run.find("latest"))
    assert saved.step > STOPPED_AT
    assert tomllib.loads(saved.state.config)[section][key] == value
    again = setup.resume(folder)  # and the next one goes on with it
    again.run.unlock()
    assert getattr(getattr(again.config, section), key) == value


@pytest.mark.parametrize("dotted", sorted(set(KEYS) - RESUMABLE))
def test_other_key_is_refused_by_name_and_nothing_changes(
    tmp_path: Path, text: Path, dotted: str
) -> None:
    folder = tmp_path / "run"
    config = stopped(text, folder, dotted)
    before = digest(folder)
    with pytest.raises(UsageError) as caught:
        setup.resume(folder, [as_change(dotted, changed_value(config, dotted))])
    refused, _, rest = caught.value.what.partition(" cannot change")
    assert rest
    assert refused == dotted
    assert caught.value.exit_code == 2
    assert digest(folder) == before
    setup.resume(folder).run.unlock()


@pytest.mark.parametrize("dotted", KEYS)
def test_value_of_the_run_itself_is_no_change(tmp_path: Path, text: Path, dotted: str) -> None:
    folder = tmp_path / "run"
    config = stopped(text, folder, dotted)
    section, key = dotted.split(".")
    before = digest(folder)
    resumed = setup.resume(folder, [as_change(dotted, getattr(getattr(config, section), key))])
    resumed.run.unlock()
    assert resumed.config == config
    assert digest(folder) == before


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.nightly)])
def test_mixture_is_refused_by_the_names_of_what_cannot_change(
    tmp_path: Path, text: Path, count: int
) -> None:
    folder, rng = tmp_path / "run", random.Random(0)
    config = stopped(text, folder, "model.hidden_size")
    # Keys that need a fitting cell or another key are not for mixtures.
    bound = {*CELL_OF, *NEEDED, "model.cell", "data.unit", "data.minimum_count", "data.path"}
    free = sorted({*KEYS} - bound)
    before = digest(folder)
    for _ in range(count):
        chosen = rng.sample(free, rng.randint(2, 6))
        if not set(chosen) - RESUMABLE:
            continue
        with pytest.raises(UsageError) as caught:
            setup.resume(folder, [as_change(key, changed_value(config, key)) for key in chosen])
        named = caught.value.what.partition(" cannot change")[0].split(", ")
        assert set(named) == set(chosen) - RESUMABLE
        assert digest(folder) == before
