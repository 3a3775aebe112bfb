"""`charlm sample`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.options import (
    BestOf,
    CheckCopies,
    Clamps,
    Debug,
    Device,
    Json,
    MinP,
    Novel,
    Precision,
    RepetitionPenalty,
    Run,
    RunsText,
    Seed,
    Temperature,
    Threads,
    TopK,
    TopP,
    Which,
    With,
)
from charlm.cli.source import Source
from charlm.common.errors import UsageError

if TYPE_CHECKING:
    from charlm.api.loaded import Loaded
    from charlm.api.options import SampleOptions
    from charlm.api.plain import PlainLoaded


def sample(
    run: Run = None,
    prompt: Annotated[str, typer.Option(help="Text to continue; - reads stdin.")] = "",
    length: Annotated[int | None, typer.Option(min=1, max=10**9, help="Symbols to write.")] = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    num: Annotated[int, typer.Option(min=1, max=10**9, help="Number of samples.")] = 1,
    best_of: BestOf = 1,
    stop: Annotated[str, typer.Option(help="End before this text.")] = "",
    others: With = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="Learn from the prompt first.")] = False,
    clamps: Clamps = None,
    check_copies: CheckCopies = False,
    novel: Novel = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Write in turns with the model.")
    ] = False,
    data: RunsText = None,
    which: Which = "best",
    precision: Precision = "auto",
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Write text with a trained model (by default on the CPU, where it is fastest)."""
    from charlm.terminal import console

    console.show_log(quiet=True)
    given = {"length": length, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    given |= {"min_p": min_p, "repetition_penalty": repetition_penalty}
    filters = {key: value for key, value in given.items() if value is not None}
    options: SampleOptions = {
        **filters,  # type: ignore[typeddict-item]
        "num": num,
        "stop": stop,
        "threads": threads or 1,
        "precision": precision,
        "best_of": best_of,
        "with_": others or [],
        "adapt": adapt,
        "clamps": clamps or [],
        "novel": novel,
    }
    if seed is not None:
        options["seed"] = seed
    if interactive:
        alone = {"--check-copies": check_copies, "--json": as_json}
        _refuse_in_turns(options, alone | {"--prompt -": prompt == "-"})
    checkpoint = _check(run, which, filters, options, data or [])
    source = Source(checkpoint, data or [], device, threads or 1)
    how = {"check_copies": check_copies, "as_json": as_json, "interactive": interactive}
    _sample(source, prompt, options, **how)


def _sample(
    source: Source,
    prompt: str,
    options: "SampleOptions",
    *,
    check_copies: bool,
    as_json: bool,
    interactive: bool,
) -> None:
    """Write text to stdout as it is generated, all samples as JSON, or in turns with the user."""
    from charlm.api.sampling import begin, takes_torch
    from charlm.terminal import console
    from charlm.terminal import sample as terminal

    plain = None if takes_torch(options) else source.load_plain()
    loaded = plain or source.load()
    prompt, options["stop"] = _texts(loaded, prompt, options["stop"])
    if interactive:
        from charlm.cli.interactive import converse

        converse(loaded, prompt, options)
        return
    if options["adapt"]:
        console.print_status("choosing how fast to learn, on the run's train split")
    writing = begin(loaded, prompt, **options)
    terminal.warn_of_unknown(loaded.vocabulary, prompt)
    if as_json:
        terminal.write_quietly(writing)
    else:
        terminal.write(writing)
    copies = []
    if check_copies:
        console.print_status("searching the train split for copies")
        copies = writing.copies()
    if as_json:
        console.print_json(writing.report(copies))
        return
    terminal.copies(copies)
    if "seed" not in options:
        console.print_status(f"(to repeat: --seed {writing.seed})", "aside")


def _refuse_in_turns(options: "SampleOptions", given: dict[str, bool]) -> None:
    """Refuse options that exclude writing in turns. given: of the command line alone, by name.

    Raises: UsageError.
    """
    given |= {"--num": options["num"] > 1, "--best-of": options["best_of"] > 1}
    given |= {"--adapt": options["adapt"], "--novel": options["novel"]}
    given["--with"] = bool(options["with_"])
    for name, value in given.items():
        if value:
            raise UsageError(f"--interactive and {name} go one at a time", f"leave {name} out")


def _texts(loaded: "Loaded | PlainLoaded", prompt: str, stop: str) -> tuple[str, str]:
    """Return the prompt, from stdin if it is "-", and the text to stop at, with escapes read. Warn
    of a stop that the model cannot write."""
    from charlm.cli.escapes import read_escapes
    from charlm.cli.streams import read_text
    from charlm.terminal import sample as terminal

    vocabulary = loaded.vocabulary
    if prompt == "-":
        prompt = read_text("the prompt", as_bytes=vocabulary.unit == "byte")
    else:
        prompt = read_escapes("--prompt", prompt, vocabulary)
    stop = read_escapes("--stop", stop, vocabulary)
    terminal.warn_of_stop(vocabulary, stop)
    return prompt, stop


def _check(
    run: Path | None,
    which: str,
    filters: dict[str, float],
    options: "SampleOptions",
    data: Sequence[str],
) -> Path:
    """Check the arguments before torch is imported; return the folder of the checkpoint.

    data: paths of the run's text, if it was moved.

    Raises: UsageError, DataError, CheckpointError.
    """
    from charlm.cli.checks import refuse_missing, refuse_partners
    from charlm.config.clamps import parse_clamps, read_clamps
    from charlm.runs.finding import find_checkpoint

    if options["clamps"] and options["with_"]:
        raise UsageError("--clamp and --with go one at a time", "leave one of them out")
    read_clamps(options["clamps"])
    folder = find_checkpoint(run, which)
    from charlm.config import loading  # only now: it takes a moment
    from charlm.runs.state import read_state

    _, config = read_state(folder)
    loading.with_options(config.sample, filters)
    parse_clamps(options["clamps"], config.model)
    if options["novel"] and config.data.records == "none":
        raise UsageError(
            "--novel is for a model of records, and this one was trained on a running text",
            "train with --set data.records=lines, or look for copies with --check-copies",
        )
    refuse_missing(config.data, data)
    refuse_partners(folder, options["with_"])
    return folder
