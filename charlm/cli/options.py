"""The options that several commands share."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from charlm.config.devices import DEVICES, refuse_unknown_device


class Debugging:
    """State of --debug, which may be before or after the command."""

    wanted = False


def _want_debug(value: bool) -> None:
    Debugging.wanted = Debugging.wanted or value


def _known_device(name: str | None) -> str | None:
    if name is not None:
        refuse_unknown_device(name)
    return name


Debug = Annotated[
    bool, typer.Option("--debug", callback=_want_debug, help="Show tracebacks of errors.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Data = Annotated[
    list[str] | None, typer.Option(help="A file or folder of text; - is stdin. Repeatable.")
]
Texts = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="A file or folder of text; - is stdin. Repeatable: each is compared separately, then "
        "all together.",
    ),
]
RunsText = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Path of the run's text, if it was moved or the run is a copy. Repeatable.",
    ),
]
Init = Annotated[
    str | None, typer.Option(metavar="RUN", help="Start from the weights of another run.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Resolve, count, estimate; write nothing.")]
TeacherRuns = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        metavar="RUN",
        help="Also learn the predictions of a run (distillation). Repeatable.",
    ),
]
Log = Annotated[
    list[str] | None,
    typer.Option(
        metavar="tensorboard|trackio",
        help="Also log the metrics for another program. Repeatable.",
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        min=1,
        max=1024,
        help="Number of local worker processes (data parallel). For several machines use torchrun.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a configuration value, as in train.steps=500. Repeatable.",
    ),
]
Device = Annotated[str | None, typer.Option(callback=_known_device, help=f"{DEVICES}.")]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="Processor threads to use.")]
Run = Annotated[
    Path | None,
    typer.Argument(help="A run directory, or a checkpoint in one.", show_default="the latest run"),
]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="RUN|ngram",
        help="Predict together with another run, or with the text's n-gram model. Repeatable.",
    ),
]
CheckCopies = Annotated[
    bool, typer.Option("--check-copies", help="Report spans copied from the training text.")
]
Clamps = Annotated[
    list[str] | None,
    typer.Option(
        "--clamp",
        metavar="LAYER.UNIT=VALUE",
        help="Hold a unit at a value, as in 0.17=2.5. Repeatable.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same text."),
]
Novel = Annotated[
    bool, typer.Option("--novel", help="Draw until every record is new, not one of the run's text.")
]
Temperature = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Below 1: safer, more repetitive; above 1: more surprising; 0: the most probable.",
    ),
]
TopK = Annotated[
    int | None, typer.Option(min=0, max=10**9, help="Only the K most probable symbols; 0: all.")
]
TopP = Annotated[
    float | None, typer.Option(help="Only the most probable symbols that reach P together.")
]
MinP = Annotated[
    float | None,
    typer.Option(
        help="Only symbols at least P times as probable as the most probable one; 0: all. 0.05 to "
        "0.1 lets the temperature be 1.",
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Against loops: divide the logit (multiply a negative one) of a symbol that would "
        "repeat 6 symbols of the last 1,000 written; 1: off. 1.2 to 2 suit characters.",
    ),
]
BestOf = Annotated[
    int,
    typer.Option(
        min=1,
        max=10**9,
        metavar="N",
        help="Write N candidates for each sample; print the one of fewest bits per character.",
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "int8"],
    typer.Option(help="Precision of the weights; int8 is fastest, and a little worse."),
]
Match = Annotated[
    Literal["parameters", "hidden", "time", "operations"],
    typer.Option(help="The quantity that is equal for all cells; hidden is the width."),
]
Task = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A generated text with an exact score, instead of --data: parity, dyck, copy, recall, "
        "count.",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(min=1, max=1000, help="Runs of each cell.", show_default="5, or the study's"),
]
Search = Annotated[
    int | None,
    typer.Option(
        min=2,
        max=100,
        metavar="K",
        help="First try K random learning rates and dropouts of each cell, the same for all.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The directory; finished runs in it are reused.",
        show_default="runs/<compare or NAME>-<n>",
    ),
]
Which = Annotated[str, typer.Option("--checkpoint", help="best, latest or a step's number.")]


def flags(
    data: list[str] | None,
    device: str | None,
    threads: int | None,
    init: str | None = None,
    teachers: list[str] | None = None,
    log: list[str] | None = None,
) -> dict[str, Any]:
    """Return the values of options that stand for a key of the configuration, if given."""
    path = (data[0] if len(data) == 1 else data) if data else None
    found = {
        "data.path": path,
        "train.device": device,
        "train.threads": threads,
        "train.start_from": init,
        "train.teachers": teachers,
        "train.log": log,
    }
    return {key: value for key, value in found.items() if value is not None}
