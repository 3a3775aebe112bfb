"""The run directory, and checkpoints that survive a crash at any moment.

A checkpoint is a folder of four files. It is written under a temporary name, every file is synced,
and only then is it renamed; the pointers `latest` and `best` are replaced the same way. A manifest
holds size and SHA-256 of each file, because safetensors has no checksum of its own. Nothing in it
is code: a checkpoint from a stranger can at worst be refused.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from filelock import FileLock, Timeout
from torch import Tensor

from charlm import settings
from charlm.config import Config, to_toml
from charlm.errors import CharlmError, CheckpointError, ConfigError, UsageError
from charlm.vocabulary import Vocabulary

FORMAT = "charlm-checkpoint-1"
MODEL, TRAINING, STATE, MANIFEST = (
    "model.safetensors",
    "training.safetensors",
    "state.json",
    "manifest.json",
)
KEPT = 2
"""Checkpoints kept beside the best one."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. It stands alone: configuration and vocabulary are in its state."""

    folder: Path
    step: int
    config: Config
    vocabulary: Vocabulary
    state: dict[str, Any]
    weights: dict[str, Tensor]
    """Of the model that is sampled and scored (averaged, where the run averages)."""

    def training(self) -> dict[str, Tensor]:
        """The tensors that only continuing needs: weights, optimizer, carried states."""
        return _tensors(_verified(self.folder, _manifest(self.folder), TRAINING), self.folder)


def read(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint folder. Raises: CheckpointError, damaged or foreign."""
    manifest = _manifest(folder)
    try:
        state = json.loads(_verified(folder, manifest, STATE))
        config = settings.from_toml(state["config"], f"{folder / STATE}")
        vocabulary, step = Vocabulary.from_json(state["vocabulary"]), int(state["step"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise _damaged(folder, f"{STATE} cannot be read: {error}") from None
    weights = _tensors(_verified(folder, manifest, MODEL), folder)
    return Checkpoint(folder, step, config, vocabulary, state, weights)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no {MANIFEST}", "name a run that charlm made"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, f"{MANIFEST} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / MANIFEST} is not of the format {FORMAT}",
            "use the version of charlm that wrote it",
        )
    return manifest


def _verified(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    """A file's content, once its size and SHA-256 agree with the manifest."""
    try:
        size, digest = manifest["files"][name]["size"], manifest["files"][name]["sha256"]
    except (KeyError, TypeError):
        raise _damaged(folder, f"{MANIFEST} does not name {name}") from None
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise _damaged(folder, f"{name} cannot be read: {error.strerror}") from None
    if len(content) != size:
        raise _damaged(folder, f"{name} has {len(content):,} bytes instead of {size:,}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(folder, f"the SHA-256 of {name} is not the one that was written")
    return content


def _tensors(content: bytes, folder: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _damaged(folder, f"not safetensors: {error}") from None


def _damaged(folder: Path, what: str) -> CheckpointError:
    others = sorted(
        other.name for other in folder.parent.glob("step-*") if other.is_dir() and other != folder
    )
    advice = "use a copy of it"
    if others:
        advice = f"another checkpoint of this run is {folder.parent / others[-1]}"
    return CheckpointError(f"damaged checkpoint {folder}: {what}", advice)


class RunDirectory:
    """One run on disk: configuration, metrics, summary, vocabulary, checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lock = FileLock(path / ".lock")

    @classmethod
    def create(cls, path: Path, config: Config, vocabulary: Vocabulary) -> "RunDirectory":
        """A new run. Raises: UsageError where `path` is taken or cannot be written."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UsageError(
                    f"{path} exists and is not empty",
                    f"continue it (--resume --run {path}) or give another --run",
                )
            run = cls(path)
            run.checkpoints.mkdir()
            run.write_config(config)
            _replace(path / "vocabulary.json", _json(vocabulary.to_json()))
        except OSError as error:
            raise UsageError(
                f"cannot write the run {path}: {error.strerror}", "give a --run that you can write to"
            ) from None
        return run

    def lock(self) -> None:
        """Keep other processes from training the same run. Raises: UsageError if one does."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{self.path} is being trained by another process", "wait for it, or stop it"
            ) from None
        except OSError as error:
            raise UsageError(
                f"cannot write to the run {self.path}: {error.strerror}", "check its permissions"
            ) from None

    def unlock(self) -> None:
        self._lock.release()

    def write_config(self, config: Config) -> None:
        _replace(self.path / "config.toml", to_toml(config).encode())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        _replace(self.path / "summary.json", _json(summary))

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def forget_metrics_after(self, step: int) -> None:
        """Drop the rows of steps that a resumed run takes again, and a torn last line."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            try:
                if line.endswith("\n") and json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue
        _replace(path, "".join(kept).encode())

    def save(
        self,
        step: int,
        *,
        weights: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
        state: Mapping[str, Any],
        best: bool,
    ) -> Path:
        """Write the checkpoint of `step`, make it `latest` (and `best`), drop what is superseded.

        Raises: CharlmError where the disk is full or read-only; the checkpoints before it stay.
        """
        folder = self.checkpoints / f"step-{step:08d}"
        contents = {
            MODEL: safetensors.torch.save(dict(weights)),
            TRAINING: safetensors.torch.save(dict(training)),
            STATE: _json(state),
        }
        files = {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        }
        contents[MANIFEST] = _json({"format": FORMAT, "files": files})
        try:
            temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.checkpoints))
            try:
                temporary.chmod(0o755)  # mkdtemp's own mode would hide the run from its group
                for name, content in contents.items():
                    _write_synced(temporary / name, content)
                _sync(temporary)
                if folder.exists():  # of a step that a resumed run has taken again
                    shutil.rmtree(folder)
                temporary.rename(folder)
                _sync(self.checkpoints)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            for pointer in ("latest", "best") if best else ("latest",):
                _replace(self.checkpoints / pointer, f"{folder.name}\n".encode())
        except OSError as error:
            raise CharlmError(
                f"cannot write the checkpoint {folder}: {error.strerror}",
                f"make room, then continue: charlm train --resume --run {self.path}",
            ) from None
        self._prune()
        return folder

    def _prune(self) -> None:
        """Keep the last checkpoints and the best; remove what a crash left half-written."""
        folders = sorted(self.checkpoints.glob("step-*"))
        kept = {folder.name for folder in folders[-KEPT:]} | {self.pointed("best")}
        for folder in folders:
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        for left in self.checkpoints.glob(".writing-*"):
            shutil.rmtree(left, ignore_errors=True)

    def forget_checkpoints_after(self, step: int) -> None:
        """Drop the checkpoints of steps that a run resumed from an earlier one takes again."""
        for folder in self.checkpoints.glob("step-*"):
            if folder.name > f"step-{step:08d}":
                shutil.rmtree(folder, ignore_errors=True)

    def pointed(self, pointer: str) -> str:
        """The checkpoint that `latest` or `best` names; "" if there is none."""
        try:
            return (self.checkpoints / pointer).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def find(self, which: str = "best") -> Path:
        """The folder of a checkpoint: "best" (else the latest), "latest", or a step's number.

        Raises: CheckpointError where there is none.
        """
        if which == "best" and not self.pointed("best"):
            which = "latest"
        name = f"step-{int(which):08d}" if which.isdecimal() else self.pointed(which)
        if not name or "/" in name or not (self.checkpoints / name).is_dir():
            there = sorted(folder.name for folder in self.checkpoints.glob("step-*"))
            raise CheckpointError(
                f"{self.path} has no checkpoint {name or which!r}",
                f"it has {', '.join(there)}" if there else "train it: no checkpoint was written yet",
            )
        return self.checkpoints / name


def locate(path: Path | None, root: Path = Path("runs")) -> tuple[RunDirectory, Path | None]:
    """The run at `path`, and the checkpoint if `path` is one; without `path`, the latest run.

    Raises: UsageError where there is no run; CheckpointError where `path` is something else.
    """
    if path is None:
        runs = [pointer.parent.parent for pointer in root.glob("*/checkpoints/latest")]
        if not runs:
            raise UsageError(f"there is no run in {root}/", "train one first: charlm train")
        return RunDirectory(max(runs, key=lambda run: _age(run / "checkpoints" / "latest"))), None
    if not path.exists():
        raise UsageError(f"there is no run {path}", "name a run directory, such as runs/hello-1")
    path = path.absolute()
    if path.parent.name == "checkpoints" and (path / MANIFEST).exists():
        return RunDirectory(path.parent.parent), path
    if (path / "checkpoints").is_dir():
        return RunDirectory(path), None
    if (path / MANIFEST).exists():  # a checkpoint that was copied out of its run
        return RunDirectory(path.parent), path
    raise CheckpointError(f"{path} is not a run of charlm", "name a run directory or a checkpoint")


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    """Replace a file at once: readers and crashes see the old content or the new."""
    temporary = path.with_name(f".{path.name}.writing")
    _write_synced(temporary, content)
    temporary.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
