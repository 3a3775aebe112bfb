"""`charlm export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from charlm.cli.options import Debug, Json, RunsText, Which
from charlm.common.wording import byte_size

if TYPE_CHECKING:
    from charlm.api.exporting import ExportOptions


def export(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN [RUN2]",
            help="A run or checkpoint; a page shows two side by side.",
            show_default="the latest run",
        ),
    ] = None,
    to: Annotated[
        Literal["html", "onnx", "torch", "hub"],
        typer.Option(
            help="A page that holds the model and computes it; a graph for other runtimes (with "
            "charlm\\[onnx]); weights for torch's modules, with a script; a folder for a model hub."
        ),
    ] = ...,  # type: ignore[assignment]
    out: Annotated[
        Path | None,
        typer.Option(help="The file or folder.", show_default="<run's name>.html and so on"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file, or a folder of an export.")
    ] = False,
    language: Annotated[Literal["en", "ko"], typer.Option(help="The language of the page.")] = "en",
    precision: Annotated[
        Literal["auto", "float32", "int8"],
        typer.Option(help="Of the weights; auto: float32 if the page stays below 1 MB, else int8."),
    ] = "auto",
    data: RunsText = None,
    which: Which = "best",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a trained model as a page that anybody can open, or for other programs."""
    from charlm.api.exporting import export as written
    from charlm.terminal import console
    from charlm.terminal.progress import TaskProgress

    console.show_log(quiet=True)
    options: ExportOptions = {"which": which, "force": force, "language": language}
    options["precision"] = precision
    if data:
        options["data"] = data
    with TaskProgress():
        done = written(*runs or [], to=to, out=out, **options)
    for reason in done.left_out:
        console.print_status(reason, "aside")
    if as_json:
        console.print_json(done.report())
    else:
        console.print_status(f"{to}  {done.path}, {byte_size(done.bytes)}")
        if to == "html":
            console.print_page(done.path)
        elif to == "hub":
            console.print_next("charlm", "sample", done.path)
        elif done.script:
            console.print_next("python", done.script)
