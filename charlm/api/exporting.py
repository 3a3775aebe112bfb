"""Export of trained models to formats for other programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from charlm.api.options import PathLike, paths_of, refuse_unknown
from charlm.common.errors import CharlmError, DataError, UsageError
from charlm.common.files import cannot_write, refuse_no_file, size_of_tree, write_whole
from charlm.exports import hub, modules, page
from charlm.exports.graph import onnx_bytes
from charlm.exports.trained import Trained, open_trained, refuse_foreign_cell
from charlm.reports.page import write_page
from charlm.reports.words import LANGUAGES
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.finding import find_checkpoint
from charlm.runs.own_text import with_text

if TYPE_CHECKING:
    from charlm.inspection.units import Unit

SUFFIXES = {"html": ".html", "onnx": ".onnx", "torch": modules.SUFFIX, "hub": ""}
"""The formats, and how the names of their files end."""


class ExportOptions(TypedDict, total=False):
    """Options of `export`.

    which: the checkpoint of each run. force: True replaces a file that is there, or a folder that
    `export` has made. language: of the page, "en" or "ko". precision: of its weights, see
    `choose_precision`. data: paths of the run's text, if it was moved.
    """

    which: str | int
    force: bool
    language: str
    precision: Literal["auto", "float32", "int8"]
    data: PathLike | Sequence[PathLike]


@dataclass(frozen=True)
class Exported:
    """A written export. bytes: its size. left_out: a sentence for each part that is not in it.
    script: for torch's modules, the file beside the weights that loads them; else None."""

    path: Path
    format: str
    bytes: int
    left_out: Sequence[str] = ()
    script: Path | None = None

    def report(self) -> dict[str, Any]:
        """Return the output of `export --json`."""
        values = asdict(self) | {"path": str(self.path)}
        return {key: values[key] for key in ("path", "format", "bytes")}


def export(
    *runs: PathLike, to: str, out: PathLike | None = None, **options: Unpack[ExportOptions]
) -> Exported:
    """Write a model in another format, like `charlm export`.

    runs: one; none is the latest run; for a page also two, side by side. to: "html" (a page),
        "onnx", "torch" (weights for torch's modules, with a script that loads them) or "hub" (a
        folder for a model hub, which `load` takes, too). out: the file or folder; None names it
        after the run. options: see `ExportOptions`.

    Raises: UsageError (an existing file, a cell or a size that the format does not hold),
        CheckpointError, DataError, CharlmError if it cannot be written.
    """
    refuse_unknown(options, ExportOptions)
    _refuse(runs, to, options)
    which = str(options.get("which", "best"))
    folders = [find_checkpoint(Path(run), which) for run in runs] or [find_checkpoint(None, which)]
    models = [open_trained(folder) for folder in folders]
    for one in models:
        refuse_foreign_cell(one.model, to)
    if (data := options.get("data")) is not None:
        paths = paths_of(data)
        models = [replace(one, saved=with_text(one.saved, paths)) for one in models]
    named = "-".join(one.name for one in models) + SUFFIXES[to]
    path = Path(named if out is None else out)
    script = modules.script_beside(path)
    force = options.get("force", False)
    refuse_existing(path, force, is_folder=to == "hub")
    if to == "torch":
        refuse_existing(script, force)
    if to == "html":
        return _export_page(models, path, options)
    (one,) = models
    if to == "hub":
        try:
            hub.write(path, one.saved, one.model, one.name)
        except OSError as error:
            raise cannot_write(path, error) from None
        return Exported(path, to, size_of_tree(path))
    make = onnx_bytes if to == "onnx" else modules.torch_bytes
    content = make(one.saved, one.model)
    is_new = not path.exists()
    write_whole(path, content)
    if to == "torch":
        try:
            write_whole(script, modules.loader(path.name).encode())
        except CharlmError:
            if is_new:  # the two are of use together
                path.unlink()
            raise
    return Exported(path, to, len(content), script=script if to == "torch" else None)


def _export_page(models: Sequence[Trained], path: Path, options: ExportOptions) -> Exported:
    """Write the page of one model or two."""
    if len(models) == 2:
        page.refuse_other_symbols(models[0].saved, models[1].saved)
    plain = [one.model for one in models]
    precision, _ = page.choose_precision(plain, options.get("precision", "auto"))
    shown, left_out = [], []
    for one in models:
        units, why = _units(one.saved)
        shown.append(replace(one, units=units))
        left_out += [why] if why else []
    write_page(path, page.live_page(shown, options.get("language", "en"), precision))
    return Exported(path, "html", path.stat().st_size, left_out)


def refuse_existing(path: Path, force: bool, *, is_folder: bool = False) -> None:
    """Check a file or folder to write. Raises: UsageError if it is there without `force`, or cannot
    be written."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists", "name another --out, or replace it: --force")
    if not (is_folder and path.is_dir()):
        refuse_no_file(path, "--out")


def _refuse(runs: Sequence[PathLike], to: str, options: ExportOptions) -> None:
    """Check the arguments. Raises: UsageError."""
    language = options.get("language", "en")
    if to not in SUFFIXES:
        raise UsageError(f"there is no format {to!r}", f"the formats are {', '.join(SUFFIXES)}")
    if len(runs) > (2 if to == "html" else 1):
        raise UsageError(
            f"{len(runs)} runs for {to}", "html holds one run, or two side by side; others hold one"
        )
    if language not in LANGUAGES:
        raise UsageError(f"there is no page in {language!r}", f"there is {', '.join(LANGUAGES)}")


def _units(saved: Checkpoint) -> "tuple[list[Unit], str]":
    """Return the units that follow a property of the run's own text; or none, and the reason."""
    import torch  # here: it takes two seconds

    from charlm.api.loaded import load
    from charlm.inspection.excerpt import validation
    from charlm.inspection.units import LEAST, best_units, read_units
    from charlm.runs.own_text import corpus_of

    try:
        excerpt = validation(corpus_of(saved), LEAST)
    except DataError as error:
        return [], f"no units by name: {error.what}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its steps are too small to share between cores
    try:
        return best_units(*read_units(load(saved.folder).model, excerpt)), ""
    finally:
        torch.set_num_threads(threads)
