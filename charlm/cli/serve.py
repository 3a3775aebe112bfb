"""`charlm serve`."""

from typing import Annotated

import typer

from charlm.cli.options import Debug, Device, Precision, Quiet, Run, Threads, Which
from charlm.cli.source import Source
from charlm.cli.threads import processors

MOST_THREADS = 4
"""Most threads unless the user wants more: each holds a copy of the weights."""


def serve(
    run: Run = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; by default only this machine reaches it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8321,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="CHARLM_KEY", help="Refuse requests without this key, sent as a bearer token."
        ),
    ] = None,
    lanes: Annotated[int, typer.Option(min=1, max=4096, help="Texts to write at once.")] = 32,
    queue: Annotated[
        int, typer.Option(min=0, max=10**6, help="Texts that may wait; more are refused.")
    ] = 256,
    longest: Annotated[
        int, typer.Option(min=1, max=10**7, help="Symbols of a text, its prompt included.")
    ] = 65_536,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=10**6, help="Time limit of a request.")
    ] = 600,
    precision: Precision = "float32",
    which: Which = "best",
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Serve a trained model to other programs, as OpenAI's completions."""
    from charlm.api.serving import refuse_missing
    from charlm.runs.finding import find_checkpoint

    refuse_missing()
    threads = threads or min(processors(), MOST_THREADS)
    source = Source(find_checkpoint(run, which), [], device, threads)
    _serve(
        source,
        {
            "host": host,
            "port": port,
            "key": key or "",
            "lanes": lanes,
            "queue": queue,
            "threads": threads,
            "precision": precision,
        },
        {"longest": longest, "seconds": seconds},
        quiet=quiet,
    )


def _serve(
    source: Source, options: dict[str, object], limits: dict[str, float], *, quiet: bool
) -> None:
    """Load the model and serve it until a signal."""
    from charlm.api import serving
    from charlm.cli.signals import hasten, heeded
    from charlm.serving.request import Limits
    from charlm.serving.server import Address
    from charlm.terminal import console

    given = serving.ServeOptions(**options, limits=Limits(**limits))  # type: ignore[arg-type]
    console.show_log(quiet=quiet)
    loaded = source.load_plain() or source.load()
    if not given.key and not Address(given.host, given.port).is_local:
        console.print_status("anybody on this network may use it; --key limits that", "warning")
    number = serving.serve(loaded, given, lambda running: print(running.url, flush=True), heeded())
    hasten(number)
    raise SystemExit(128 + number)
