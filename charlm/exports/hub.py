"""A model as a folder for a model hub: weights, configuration, vocabulary and a model card.

The folder is a checkpoint, too: `charlm.load` and `charlm sample` take it. It holds no code.
"""

import hashlib
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import safetensors.numpy

from charlm.common.errors import UsageError
from charlm.common.files import json_bytes, sync_folder, write_synced
from charlm.common.version import __version__
from charlm.config.schema import Config, to_toml
from charlm.models.plain import PlainModel
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.manifest import FORMAT, MANIFEST, MODEL, STATE

CONFIG, VOCABULARY, CARD = "config.json", "vocabulary.json", "README.md"
NAMES = {CONFIG, VOCABULARY, CARD, MODEL, STATE, MANIFEST}


def write(path: Path, saved: Checkpoint, model: PlainModel, name: str) -> None:
    """Write the folder, whole or not at all; one that `write` has made is replaced.

    name: of the model, in its card. Raises: OSError; UsageError if the folder holds anything else.
    """
    if path.exists() and not is_export(path):
        raise UsageError(f"{path} holds other files", "name another --out, or empty it")
    contents = _contents(saved, model, name)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.absolute().parent))
    try:
        temporary.chmod(0o755)  # mkdtemp's mode would hide it
        for file, content in contents.items():
            write_synced(temporary / file, content)
        sync_folder(temporary)
        before = temporary.with_name(
            f"{path.name}-before-{temporary.name.removeprefix('.writing-')}"
        )
        if path.exists():
            path.rename(before)
        try:
            temporary.rename(path)
        except OSError:
            if before.exists():
                before.rename(path)
            raise
        shutil.rmtree(before, ignore_errors=True)
        sync_folder(path.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_export(path: Path) -> bool:
    """Return True if a folder is empty, or holds files of `write` and nothing else."""
    if not path.is_dir() or path.is_symlink():
        return False
    names = {entry.name for entry in path.iterdir()}
    return not names or (names <= NAMES and {CONFIG, MANIFEST} <= names)


def _contents(saved: Checkpoint, model: PlainModel, name: str) -> dict[str, bytes]:
    """Return the files by name."""
    config = without_paths(saved.config)
    state = saved.state.model_copy(update={"config": to_toml(config), "teachers": None})
    contents = {
        MODEL: safetensors.numpy.save(dict(model.weights)),
        STATE: json_bytes(state.to_json()),
    }
    sizes = {
        file: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for file, content in contents.items()
    }
    return contents | {
        MANIFEST: json_bytes({"format": FORMAT, "files": sizes}),
        CONFIG: json_bytes(_configuration(saved, model)),
        VOCABULARY: json_bytes(saved.vocabulary.to_json()),
        CARD: card(saved, model, name).encode(),
    }


def without_paths(config: Config) -> Config:
    """Return a configuration with the names of files and runs, but not the folders they were in."""
    data, train = config.data, config.train
    paths = data.path if isinstance(data.path, list) else [data.path]
    names = [path if "://" in path else Path(path).name for path in paths]
    return config.model_copy(
        update={
            "data": data.model_copy(update={"path": names if len(names) > 1 else names[0]}),
            "train": train.model_copy(
                update={
                    "start_from": Path(train.start_from).name,
                    "teachers": [Path(teacher).name for teacher in train.teachers],
                }
            ),
        }
    )


def _configuration(saved: Checkpoint, model: PlainModel) -> dict[str, Any]:
    return {
        "library_name": "charlm",
        "model_type": "charlm",
        "charlm_version": __version__,
        "architectures": [model.variant],
        "vocabulary_size": model.vocabulary_size,
        "unit": saved.vocabulary.unit,
        "step": saved.step,
        **model.config.model_dump(),
    }


def card(saved: Checkpoint, model: PlainModel, name: str) -> str:
    """Return the model card, filled in from the run."""
    config = without_paths(saved.config)
    paths = config.data.path if isinstance(config.data.path, list) else [config.data.path]
    text = ", ".join(paths).replace("`", "'")
    units = {"char": "characters", "byte": "bytes", "jamo": "jamo"}[saved.vocabulary.unit]
    weights = sum(weight.size for weight in model.weights.values())
    block = " in a block" if model.config.has_blocks else ""
    kind = f"{model.config.cell.upper()}{block}, "
    kind += f"{model.config.num_layers} × {model.config.hidden_size}"
    pattern = files("charlm.exports").joinpath("card.md").read_text("utf-8")
    return pattern.format(
        name=name.replace("`", "'"),
        kind=kind,
        weights=weights,
        text=text,
        units=units,
        steps=saved.step,
        sentence=_measured(saved, config),
        version=__version__,
        config=to_toml(config),
        cell=model.config.cell,
    )


def _measured(saved: Checkpoint, config: Config) -> str:
    """Return the sentences on the run's best evaluation, if this is its checkpoint."""
    best = saved.state.progress.get("best") or {}
    if not isinstance(best.get("bits_per_character"), float) or best.get("step") != saved.step:
        return "This checkpoint was not evaluated."
    split = "its validation split" if config.data.split[1] else "the text that it was trained on"
    return (
        f"{best['bits_per_character']:.3f} bits per character on {split}, read as a whole with the "
        f"state carried through ({best['loss']:.4f} nats per symbol). One run, seed "
        f"{config.train.seed}: there is no interval over seeds. The checkpoint was chosen on that "
        "split, so a text that the model has not been chosen on is a fairer test."
    )
