"""The run directory: configuration, metrics, summary, vocabulary, checkpoints.

Importing this does not import torch, so that a wrong name is refused quickly.
"""

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from charlm.common.errors import CharlmError, CheckpointError, UsageError
from charlm.common.files import (
    json_bytes,
    read_regular,
    refuse_links,
    refuse_undecodable,
    replace,
    sync_folder,
)
from charlm.common.outputs import BARELY_BEGUN
from charlm.runs.manifest import MOST_OF_CONFIG, NAMED, UNFINISHED, intact, name_of, step_of

if TYPE_CHECKING:
    from filelock import FileLock
    from torch import Tensor

    from charlm.config.schema import Config
    from charlm.runs.logs import Logs
    from charlm.runs.state import SavedState
    from charlm.text.vocabulary import Vocabulary

KEPT = 2
"""Checkpoints kept in addition to the best one."""
MOST_OF_POINTER = 100  # bytes

log = logging.getLogger(__name__)


class RunDirectory:
    """One run on disk: configuration, metrics, summary, vocabulary, checkpoints.

    Methods that write raise CharlmError if the disk is full or read-only; the checkpoints stay.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lock: FileLock | None = None
        self._logs: Logs | None = None
        self._repeated: set[tuple[str, int]] = set()
        """Kinds and steps of the rows that a resumed run repeats."""

    # ---- creating, locking -----------------------------------------------------------------------

    @classmethod
    def create(
        cls, path: Path, config: "Config", vocabulary: "Vocabulary", *, anew: bool = False
    ) -> "RunDirectory":
        """Create a new run, locked; also in the folder of one without a checkpoint.

        anew: True skips the check that the folder is empty: it is known to be a run without
            checkpoints.

        Raises: UsageError if `path` is taken, in use, or cannot be written.
        """
        refuse_undecodable(path, "give another --run")
        run = cls(path)
        if not anew:
            refuse_taken(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            run.lock()
            if run.has_checkpoints():
                raise UsageError(f"{path} has just been used by another process", "try again")
            run._write_first(config, vocabulary)
        except OSError as error:
            run.unlock()
            raise cannot_write(path, error) from None
        except CharlmError:
            run.unlock()
            raise
        return run

    def _write_first(self, config: "Config", vocabulary: "Vocabulary") -> None:
        (self.path / "summary.json").unlink(missing_ok=True)
        replace(self.path / "metrics.jsonl", b"")  # so that its name is flushed to disk
        self.checkpoints.mkdir(exist_ok=True)
        replace(self.path / "vocabulary.json", json_bytes(vocabulary.to_json()))
        replace(self.path / "config.toml", _as_toml(config))
        sync_folder(self.path.parent)

    def lock(self) -> None:
        """Lock the run against training by other processes.

        Raises: UsageError if another process holds the lock, or if the checkpoints are a link.
        """
        refuse_undecodable(self.path, "rename the run")
        from filelock import FileLock, Timeout  # 7 ms: not needed to refuse a mistyped command

        refuse_links(self.path, [self.checkpoints.name])
        self._lock = self._lock or FileLock(self.path / ".lock")
        try:
            self._lock.acquire(timeout=0.3)  # `charlm runs` holds it for a moment
        except Timeout:
            raise UsageError(
                f"{self.path} is being trained by another process", "wait for it, or stop it"
            ) from None
        except OSError as error:
            raise UsageError(
                f"cannot write to the run {self.path}: {error.strerror}", "check its permissions"
            ) from None

    def unlock(self) -> None:
        if self._lock:
            self._lock.release()

    # ---- writing ---------------------------------------------------------------------------------

    def write_config(self, config: "Config") -> None:
        with self._writing("config.toml"):
            replace(self.path / "config.toml", _as_toml(config))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        with self._writing("summary.json"):
            replace(self.path / "summary.json", json_bytes(summary))

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        with self._writing("metrics.jsonl"), self._metrics() as file:
            file.write((json.dumps(row) + "\n").encode())
        if self._logs:
            with self._writing("the logs of other programs"):
                self._logs.add(row)

    @contextlib.contextmanager
    def copying_metrics(self, names: Sequence[str], config: str) -> Iterator[None]:
        """Copy metrics to the logs of other programs. Raises: UsageError if one is missing."""
        if not names:
            yield
            return
        from charlm.runs.logs import Logs

        self._logs = Logs(names, self.path, config, self._repeated)
        try:
            yield
        finally:
            self._logs.close()
            self._logs = None

    def _metrics(self) -> BinaryIO:
        """Open metrics.jsonl at its end. A link in its place is not followed: OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        return os.fdopen(os.open(self.path / "metrics.jsonl", flags, 0o644), "ab")

    def forget_metrics_after(self, step: int) -> None:
        """Drop rows of later steps, which a resumed run repeats, and an incomplete last line."""
        path = self.path / "metrics.jsonl"
        with self._writing("metrics.jsonl"):
            try:
                rows = read_regular(path).decode("utf-8", "replace").splitlines(keepends=True)
            except FileNotFoundError:
                return
            kept = [row for row in rows if _is_of_step(row, step)]
            replace(path, "".join(kept).encode())
        for row in set(rows) - set(kept):
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                values = json.loads(row)
                self._repeated.add((values["kind"], values["step"]))

    def save(
        self,
        step: int,
        *,
        weights: Mapping[str, "Tensor"],
        training: Mapping[str, "Tensor"],
        state: "SavedState",
        best: bool,
    ) -> Path:
        """Write the checkpoint of `step`, make it `latest` (and `best`), drop superseded ones."""
        from charlm.runs import checkpoint  # here: it imports torch

        folder = self.checkpoints / name_of(step)
        with self._writing(f"checkpoints/{folder.name}"):
            with self._metrics() as metrics:  # a resumed run needs the rows before the checkpoint
                os.fsync(metrics.fileno())
            checkpoint.write(folder, weights, training, state)
            for pointer in ("latest", "best") if best else ("latest",):
                self._point(pointer, step)
        self._prune()
        return folder

    def rewind(self, step: int, best: int | None) -> None:
        """Make the checkpoint of `step` the latest, that of `best` the best, and drop later ones,
        whose steps a resumed run repeats."""
        with self._writing("checkpoints"):
            self._point("latest", step)
            if best is not None and (self.checkpoints / name_of(best)).is_dir():
                self._point("best", best)
            elif step_of(self._pointed("best") or "") > step:
                (self.checkpoints / "best").unlink()
        for folder in self._folders():
            if step_of(folder.name) > step:
                shutil.rmtree(folder, ignore_errors=True)

    def _point(self, pointer: str, step: int) -> None:
        replace(self.checkpoints / pointer, f"{name_of(step)}\n".encode())

    def _prune(self) -> None:
        """Keep the last checkpoints and the best; remove those left incomplete by a crash."""
        try:
            best = self._pointed("best")
        except OSError:  # it may be any of them
            return
        folders = self._folders()
        for folder in folders[:-KEPT]:
            if folder.name != best:
                shutil.rmtree(folder, ignore_errors=True)
        for left in filter(_is_real_folder, self.checkpoints.glob(f"{UNFINISHED}*")):
            shutil.rmtree(left, ignore_errors=True)

    @contextlib.contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Turn a failure of the system into an error for the user."""
        try:
            yield
        except OSError as error:
            raise CharlmError(
                f"cannot write {self.path / what}: {error.strerror or error}",
                f"make room or mend the disk, then continue: charlm train --resume --run "
                f"{self.path}",
            ) from None

    # ---- reading ---------------------------------------------------------------------------------

    def read_config(self) -> str:
        """Return config.toml. Raises: OSError, UnicodeDecodeError."""
        return read_regular(self.path / "config.toml", MOST_OF_CONFIG).decode("utf-8")

    def has_checkpoints(self) -> bool:
        """Return True if there is a checkpoint."""
        return bool(self._folders())

    def find(self, which: str = "best") -> Path:
        """Return the folder of a checkpoint: "best" (else the latest), "latest", or a step number.

        If the pointer to the best is invalid, the latest is returned; if that to the latest is,
        too, the newest intact one, with a warning.

        Raises: UsageError if there is no such checkpoint, or none yet; CheckpointError if none is
            intact.
        """
        if re.fullmatch("[0-9]{1,12}", which):
            return self._numbered(int(which))
        if which not in ("best", "latest"):
            raise UsageError(
                f"--checkpoint {which} is no checkpoint", "name best, latest or a step's number"
            )
        for pointer in ("best", "latest") if which == "best" else ("latest",):
            try:
                name = self._pointed(pointer)
            except OSError as error:
                log.warning(f"{self.checkpoints / pointer} cannot be read: {error.strerror}")
                continue
            if name is None:
                continue
            if NAMED.fullmatch(name) and (self.checkpoints / name).is_dir():
                return self.checkpoints / name
            log.warning(f"{self.checkpoints / pointer} names no checkpoint: {name!r}")
        return self.newest_intact()

    def newest_intact(self) -> Path:
        """Return the newest intact checkpoint, and log a warning.

        Raises: UsageError if there is none yet; CheckpointError if none is intact.
        """
        if not self.has_checkpoints():
            raise UsageError(f"{self.path} has no checkpoint yet", self._how_to_train())
        for folder in self.newest_first():
            if intact(folder):
                log.warning(f"taking the newest intact checkpoint of {self.path}: {folder.name}")
                return folder
        raise CheckpointError(
            f"{self.path} has no intact checkpoint", "use a copy of it, or train again"
        )

    def newest_first(self) -> list[Path]:
        """List the folders of checkpoints, newest first."""
        return self._folders()[::-1]

    def _numbered(self, step: int) -> Path:
        folder = self.checkpoints / name_of(step)
        if folder.is_dir():
            return folder
        there = ", ".join(other.name for other in self._folders())
        raise UsageError(
            f"{self.path} has no checkpoint {folder.name}",
            f"it has {there}; name one: --checkpoint STEP" if there else self._how_to_train(),
        )

    def _how_to_train(self) -> str:
        """Return the advice to train the run on its own text: without `--resume`, a new one, of the
        preset, would take its place."""
        return f"train it: charlm train --resume --run {shlex.quote(str(self.path))}"

    def _pointed(self, pointer: str) -> str | None:
        """Return the folder's name in `latest` or `best`; None if there is no such file. Raises:
        OSError."""
        try:
            content = read_regular(self.checkpoints / pointer, MOST_OF_POINTER)
        except FileNotFoundError:
            return None
        return content.decode("utf-8", "replace").strip()

    def _folders(self) -> list[Path]:
        """List the folders of checkpoints, oldest first."""
        folders = self.checkpoints.glob("step-*")
        own = (path for path in folders if step_of(path.name) >= 0 and _is_real_folder(path))
        return sorted(own, key=lambda path: step_of(path.name))


def _is_real_folder(path: Path) -> bool:
    """Return True for a folder: not for a link, which is not followed, nor a FIFO, which would
    block."""
    return path.is_dir() and not path.is_symlink()


def _is_of_step(row: str, step: int) -> bool:
    """Return True if a line of metrics is complete, and of a step up to `step`."""
    try:
        return row.endswith("\n") and bool(json.loads(row)["step"] <= step)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _as_toml(config: "Config") -> bytes:
    from charlm.config.schema import to_toml  # here: it takes a moment

    return to_toml(config).encode()


def refuse_taken(path: Path) -> None:
    """Check that a new run can be created at a path. Raises: UsageError."""
    try:
        if not is_taken(path):
            return
        is_folder = path.is_dir()
    except OSError as error:
        raise cannot_write(path, error) from None
    if not is_folder:
        raise UsageError(f"{path} is a file, not the folder of a run", "give another --run")
    raise UsageError(
        f"{path} exists and is not empty",
        f"continue it (--resume --run {path}) or give another --run",
    )


def cannot_write(path: Path, error: OSError) -> UsageError:
    """Make the error for a run that cannot be written."""
    return UsageError(
        f"cannot write the run {path}: {error.strerror}", "give a --run that you can write to"
    )


def is_taken(path: Path) -> bool:
    """Return True if a path exists and is not the folder of a run without a checkpoint."""
    return path.exists() and not (path.is_dir() and is_barely_begun(path))


def is_barely_begun(path: Path) -> bool:
    """Return True if a folder is empty, or that of a run without a checkpoint."""
    names = {entry.name for entry in path.iterdir()}
    return names <= BARELY_BEGUN and not any(path.glob("checkpoints/step-*"))
