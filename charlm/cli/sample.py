"""`charlm sample`."""

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from charlm.api import Loaded
from charlm.config.schema import SampleConfig
from charlm.errors import UsageError
from charlm.sampling.engine import choice
from charlm.sampling.generate import Stream, bits_per_character, named
from charlm.terminal import console


def sample(
    loaded: Loaded,
    prompt: str,
    given: Mapping[str, Any],
    *,
    seed: int | None,
    num: int,
    stop: str,
    threads: int | None,
    precision: str,
    as_json: bool,
) -> None:
    """Write text to stdout as it comes, or all samples as JSON."""
    kernels, precision = choice(loaded.model, precision)
    options = _options(loaded.checkpoint.config.sample, given)
    chosen_seed = secrets.randbelow(2**32) if seed is None else seed
    unknown = loaded.vocabulary.unknown_in(prompt)
    if unknown:
        fate = "read as unknown" if loaded.vocabulary.has_unknown else "left out"
        console.warn(f"not in the vocabulary, so {fate}: {named(unknown)}")
    streams: list[Stream] = []
    pieces = loaded.stream(
        prompt,
        options=options,
        seed=chosen_seed,
        num=num,
        stop=stop,
        thread_count=threads or 1,
        streams=streams,
        precision=precision,
    )
    if as_json:
        _exhaust(pieces)
        samples = [
            {
                "text": stream.text.encode("utf-8", "replace").decode(),
                "bits_per_character": bits_per_character(stream, loaded.vocabulary),
            }
            for stream in streams
        ]
        by = {"engine": "native" if kernels else "torch", "precision": precision}
        print(json.dumps({"prompt": prompt, "seed": chosen_seed, **by, "samples": samples}))
        return
    writer = console.Writer()
    if num == 1:
        writer.write(prompt)
        for piece in pieces:
            writer.write(piece)
        writer.end_line()
    else:
        _exhaust(pieces)
        for number, stream in enumerate(streams, start=1):
            writer.write(f"--- {number} of {num} ---\n{prompt}{stream.text}")
            writer.end_line()
    if seed is None:
        console.say(f"(to repeat: --seed {chosen_seed})", "dim")


def _exhaust(pieces: Iterator[str]) -> None:
    for _ in pieces:
        pass


def _options(defaults: SampleConfig, given: Mapping[str, Any]) -> SampleConfig:
    try:
        return SampleConfig.model_validate({**defaults.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        what = first["msg"].replace("Input should be", "should be")
        raise UsageError(f"{option} {first['input']} {what}", "see charlm sample --help") from None
