"""Export of trained models to formats for other programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from charlm.api.options import PathLike, paths_of, refuse_unknown
from charlm.common.errors import CheckpointError, DataError, UsageError
from charlm.common.files import refuse_no_file
from charlm.exports import page
from charlm.models.plain import PlainModel
from charlm.reports.page import write_page
from charlm.reports.words import LANGUAGES
from charlm.runs.checkpoint import Checkpoint, read_arrays
from charlm.runs.finding import find_checkpoint, home_of
from charlm.runs.own_text import with_text

if TYPE_CHECKING:
    from charlm.inspection.units import Unit

FORMATS = ("html",)
UNITS_ON = 5_000
"""Least symbols of validation text on which units are searched for properties."""


class ExportOptions(TypedDict, total=False):
    """Options of `export`.

    which: the checkpoint of each run. force: True replaces a file that is there. language: of the
    page, "en" or "ko". precision: of its weights, see `choose_precision`. data: paths of the run's
    text, if it was moved.
    """

    which: str | int
    force: bool
    language: str
    precision: Literal["auto", "float32", "int8"]
    data: PathLike | Sequence[PathLike]


@dataclass(frozen=True)
class Exported:
    """A written export. bytes: its size. left_out: a sentence for each part that is not in it."""

    path: Path
    format: str
    bytes: int
    left_out: Sequence[str] = ()

    def report(self) -> dict[str, Any]:
        """Return the output of `export --json`."""
        values = asdict(self) | {"path": str(self.path)}
        return {key: values[key] for key in ("path", "format", "bytes")}


def export(
    *runs: PathLike, to: str, out: PathLike | None = None, **options: Unpack[ExportOptions]
) -> Exported:
    """Write a model, or two, in another format, like `charlm export`.

    runs: one or two; none is the latest run. to: "html". out: the file; None names it after the
        run. options: see `ExportOptions`.

    Raises: UsageError (an existing file, a cell or a size that the format does not hold),
        CheckpointError, DataError, CharlmError if it cannot be written.
    """
    refuse_unknown(options, ExportOptions)
    language = options.get("language", "en")
    _refuse(runs, to, language)
    which = str(options.get("which", "best"))
    folders = [find_checkpoint(Path(run), which) for run in runs] or [find_checkpoint(None, which)]
    opened = [_opened(folder) for folder in folders]
    data = options.get("data")
    if data is not None:
        opened = [(with_text(saved, paths_of(data)), model) for saved, model in opened]
    if len(opened) == 2:
        page.refuse_other_symbols(opened[0][0], opened[1][0])
    models = [model for _, model in opened]
    precision = page.choose_precision(models, options.get("precision", "auto"))
    path = target(folders, out, force=options.get("force", False))
    shown, left_out = [], []
    for saved, model in opened:
        units, why = _units(saved)
        shown.append(page.Shown(saved, model, units))
        left_out += [why] if why else []
    write_page(path, page.live_page(shown, language, precision))
    return Exported(path, to, path.stat().st_size, left_out)


def target(folders: Sequence[Path], out: PathLike | None, *, force: bool) -> Path:
    """Return the file to write. folders: of the checkpoints. Raises: UsageError if it is there."""
    names = [home_of(folder.absolute()).name for folder in folders]
    path = Path(f"{'-'.join(names)}.html") if out is None else Path(out)
    refuse_no_file(path, "--out")
    if path.exists() and not force:
        raise UsageError(f"{path} exists", "name another --out, or replace it: --force")
    return path


def _refuse(runs: Sequence[PathLike], to: str, language: str) -> None:
    """Check the arguments. Raises: UsageError."""
    if to not in FORMATS:
        raise UsageError(f"there is no format {to!r}", f"the formats are {', '.join(FORMATS)}")
    if len(runs) > 2:
        raise UsageError(
            f"{len(runs)} runs for a page", "a page holds one run, or two side by side"
        )
    if language not in LANGUAGES:
        raise UsageError(f"there is no page in {language!r}", f"there is {', '.join(LANGUAGES)}")


def _opened(folder: Path) -> tuple[Checkpoint, PlainModel]:
    """Read a checkpoint. Raises: CheckpointError; UsageError for a cell without an export."""
    try:
        saved, weights = read_arrays(folder)
    except ValueError as error:
        raise CheckpointError(
            f"the weights of {folder} cannot be read: {error}", "use the run that charlm wrote"
        ) from None
    model = PlainModel(saved.config.model, len(saved.vocabulary), saved.vocabulary.end, weights)
    page.refuse_foreign_cell(model)
    return saved, model


def _units(saved: Checkpoint) -> "tuple[list[Unit], str]":
    """Return the units that follow a property of the run's own text; or none, and the reason."""
    import torch  # here: it takes two seconds

    from charlm.api.loaded import load
    from charlm.inspection.excerpt import validation
    from charlm.inspection.units import best_units, read_units
    from charlm.runs.own_text import corpus_of

    try:
        excerpt = validation(corpus_of(saved), UNITS_ON)
    except DataError as error:
        return [], f"no units by name: {error.what}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its steps are too small to share between cores
    try:
        return best_units(*read_units(load(saved.folder).model, excerpt)), ""
    finally:
        torch.set_num_threads(threads)
