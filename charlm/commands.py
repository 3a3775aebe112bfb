"""What each command does, once its line is parsed: call, show, signal."""

import json
import secrets
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pydantic import ValidationError

from charlm import api, console, runs, settings
from charlm import score as scoring
from charlm.api import Loaded
from charlm.config import SampleConfig
from charlm.errors import UsageError
from charlm.evaluate import distributions
from charlm.events import Finished
from charlm.progress import Progress
from charlm.rundir import RunDirectory
from charlm.runs import Plan
from charlm.sample import Stream, bits_per_character, named
from charlm.train import Trainer

SMALL_ENOUGH_TO_SHOW = 32
"""Symbols of a text whose every prediction fits on the screen, as in the lecture's example."""

SPLITS = {"val": "validation", "validation": "validation", "test": "test", "train": "train"}

# ---- train --------------------------------------------------------------------------------------


def train(
    config: str | None,
    path: Path | None,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    *,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Begin a run or resume one, and train it; returns the number of the signal that ended it."""
    signal.signal(signal.SIGTERM, _exit_at_once)
    if resume:
        trainer, directory = _resume(config, path, changes, flags, quiet=quiet)
    else:
        trainer, directory = _begin(config, path, changes, flags, quiet=quiet)
    try:
        finished, signalled = _watch(trainer, directory, quiet=quiet)
    finally:
        directory.unlock()
    if as_json:
        print(json.dumps(finished.summary))
    elif not quiet:
        _conclude(finished, trainer)
    return signalled


def dry_run(
    config: str | None, changes: Sequence[str], flags: Mapping[str, Any], *, as_json: bool
) -> None:
    """Show what a run would be, and write nothing."""
    planned = _plan(config, changes, flags, keep=False)
    estimate = Trainer(planned.config, planned.corpus).estimate()
    if as_json:
        report = {
            "config": planned.config.model_dump(),
            "origins": planned.origins,
            "characters": {name: s.characters for name, s in planned.corpus.splits.items()},
        }
        print(json.dumps({**report, **estimate}))
        return
    console.settings_table(planned.config, planned.origins)
    console.describe(planned.corpus)
    console.estimated(estimate)


def _plan(
    config: str | None, changes: Sequence[str], flags: Mapping[str, Any], *, keep: bool = True
) -> Plan:
    name = config or ("default" if "data.path" in flags else "hello")
    return runs.plan(settings.load(name, changes, flags), keep=keep)


def _begin(
    config: str | None,
    path: Path | None,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    *,
    quiet: bool,
) -> tuple[Trainer, RunDirectory]:
    planned = _plan(config, changes, flags)
    trainer, directory = runs.begin(planned, path)
    if not quiet:
        console.describe(planned.corpus)
        count = trainer.learner.model.parameter_count()
        console.introduce(planned.config, count, trainer.place(), directory.path)
    return trainer, directory


def _resume(
    config: str | None,
    path: Path | None,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    *,
    quiet: bool,
) -> tuple[Trainer, RunDirectory]:
    if config is not None:
        console.warn(f"--resume goes on with the run's own configuration, not with {config}")
    resumed = runs.resume(path, changes, flags)
    if resumed.differences:
        listed = "; ".join(resumed.differences)
        console.warn(f"not as when the run stopped, so the last bits may differ: {listed}")
    if not quiet:
        console.say(f"resuming {resumed.run.path} at step {resumed.checkpoint.step}")
    return resumed.trainer, resumed.run


def _watch(trainer: Trainer, directory: RunDirectory, *, quiet: bool) -> tuple[Finished, int]:
    """Run the loop; a first SIGINT or SIGTERM ends it after the step under way."""
    start = trainer.progress.step
    with (
        _stopping_on_signals(trainer) as received,
        Progress(trainer.config.train, start=start, quiet=quiet) as progress,
    ):
        for event in trainer.train(directory):
            progress.show(event)
            if isinstance(event, Finished):
                return event, received[0] if received else 0
    raise AssertionError("training ends with Finished")


@contextmanager
def _stopping_on_signals(trainer: Trainer) -> Iterator[list[int]]:
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:  # asked twice: do not wait for the step
            raise KeyboardInterrupt
        received.append(number)
        trainer.stop()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _conclude(finished: Finished, trainer: Trainer) -> None:
    corpus, prompt = trainer.corpus, ""
    if len(corpus.train) <= SMALL_ENOUGH_TO_SHOW:
        given = corpus.symbols[corpus.train.start : corpus.train.stop]
        symbols = [corpus.vocabulary.symbol(index) for index in range(len(corpus.vocabulary))]
        shown = [symbols[index] for index in given]
        rows = distributions(trainer.learner.judged, given[:-1])
        console.predictions_table(shown[:-1], shown[1:], symbols, rows.tolist())
        prompt = shown[0]
    console.conclude(finished.summary, prompt)


# ---- sample and score ---------------------------------------------------------------------------


def load(run: Path | None, which: str, device: str | None) -> Loaded:
    """A trained model; on the CPU unless told otherwise, where one character is fastest."""
    return api.load(run, which=which, device=device or "cpu")


def sample(
    loaded: Loaded,
    prompt: str,
    given: Mapping[str, Any],
    *,
    seed: int | None,
    num: int,
    stop: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write text to stdout as it comes, or all samples as JSON."""
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
        print(json.dumps({"prompt": prompt, "seed": chosen_seed, "samples": samples}))
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


def score(
    loaded: Loaded,
    file: str | None,
    split: str | None,
    *,
    window: int,
    threads: int | None,
    per_character: bool,
    as_json: bool,
) -> None:
    """Score a file or a split of the run's own data."""
    if threads:
        torch.set_num_threads(threads)
    if (file is None) == (split is None):
        raise UsageError("give a FILE or a --split, one of them", "charlm score RUN my.txt")
    if file is not None:
        content = scoring.content_of(file, loaded.vocabulary)
        result = scoring.text(loaded.model, loaded.vocabulary, content, window)
    else:
        if split not in SPLITS:
            raise UsageError(f"there is no split {split!r}", "the splits are val, test and train")
        result = scoring.split(loaded.checkpoint, loaded.model, SPLITS[split], window)
    if per_character:
        console.surprisal_lines(result, loaded.vocabulary)
    elif as_json:
        print(json.dumps(result.summary()))
    else:
        console.scored(result)
