"""`charlm sample`."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from charlm.api import Loaded
from charlm.cli import records
from charlm.cli.escapes import read_escapes
from charlm.cli.streams import read_text
from charlm.inspect.copies import Copied, copies_data, shared_spans
from charlm.inspect.excerpt import characters, own_text
from charlm.inspect.novelty import KnownRecords
from charlm.sampling.best import BestOf
from charlm.sampling.clamp import parse_clamps
from charlm.sampling.clamped import ClampedEngine
from charlm.sampling.engine import Engine, choose_precision
from charlm.sampling.generate import Generation, bits_per_character
from charlm.sampling.loops import runs_in_circles
from charlm.terminal import console
from charlm.terminal import sample as terminal
from charlm.terminal.progress import TaskProgress
from charlm.text.display import named
from charlm.text.vocabulary import Vocabulary

Written = Generation | records.Novel | BestOf
"""A generator of texts, iterated over once, with all texts in `samples`."""


def sample(
    loaded: Loaded,
    prompt: str,
    options: Mapping[str, Any],
    *,
    seed: int | None,
    writers: "Writers",
    check_copies: bool,
    novel: bool,
    best_of: int,
    as_json: bool,
) -> None:
    """Write text to stdout as it is generated, or all samples as JSON. prompt: "-" reads stdin.
    options: of `Loaded.generation`. novel: True draws until no text is a record of the run's own.
    best_of: candidates for each text."""
    if prompt == "-":
        prompt = read_text("the prompt", as_bytes=loaded.vocabulary.unit == "byte")
    else:
        prompt = read_escapes("--prompt", prompt, loaded.vocabulary)
    options = {**options, "stop": _readable_stop(options["stop"], loaded.vocabulary)}
    num = options["num"] * best_of
    torch.set_num_threads(options["threads"])
    chosen_seed = secrets.randbelow(2**32) if seed is None else seed
    loaded, make, report = writers.prepare(loaded, prompt, options["precision"])
    draw = partial(loaded.generation, prompt, make=make, **options | {"num": num})
    generation: Written = draw(seed=chosen_seed)
    known = records.known(loaded, needed=novel)
    if novel and known is not None:
        generation = records.Novel(draw, chosen_seed, num, known)
    if best_of > 1:
        generation = BestOf(generation, best_of, loaded.vocabulary)
    if unknown := loaded.vocabulary.unknown_in(prompt):
        fate = "read as unknown" if loaded.vocabulary.has_unknown else "left out"
        console.warn(f"not in the vocabulary, so {fate}: {named(unknown)}")
    if as_json:
        told = _report(loaded, generation, prompt, chosen_seed, options["precision"], known)
        if check_copies:
            for one, found in zip(told["samples"], _copies(loaded, generation), strict=True):
                one["copied"] = copies_data(found)
        console.print_json(told | report | {"best_of": best_of})
        return
    _print(generation, prompt, known, is_records=loaded.vocabulary.has_end)
    running = [runs_in_circles(one.text) for one in generation.samples]
    terminal.circles(sum(running), len(running))
    if check_copies:
        terminal.copies(_copies(loaded, generation))
    if seed is None:
        console.print_status(f"(to repeat: --seed {chosen_seed})", "aside")


def _readable_stop(stop: str, vocabulary: Vocabulary) -> str:
    """Read escapes in --stop, and warn of a text that the model cannot write."""
    stop = read_escapes("--stop", stop, vocabulary)
    if unknown := vocabulary.unknown_in(stop):
        console.warn(f"--stop can never match, since the model cannot write {named(unknown)}")
    return stop


@dataclass(frozen=True)
class Writers:
    """The writing models: one alone or with others, adapted to the prompt, with clamped units."""

    others: Sequence[str]
    adapt: bool
    clamps: Sequence[str]

    def prepare(
        self, loaded: Loaded, prompt: str, precision: str
    ) -> tuple[Loaded, Callable[[int], Engine] | None, dict[str, Any]]:
        """Return the (adapted) model, an engine factory or None, and extra fields for the JSON
        report."""
        make, report = None, dict[str, Any](adapted=self.adapt)
        if self.adapt:
            console.print_status("choosing how fast to learn, on the run's train split")
        if self.others:
            adapted_to = prompt if self.adapt else None
            make, report["mixture"] = _mixing(loaded, self.others, adapted_to, precision)
        elif self.adapt:
            loaded = loaded.adapted_to(prompt)
        if self.clamps:
            held = parse_clamps(self.clamps, loaded.model.config)
            make = partial(ClampedEngine, loaded.model, held)
            report["clamped"] = list(self.clamps)
        return loaded, make, report


def _print(
    generation: Written, prompt: str, known: KnownRecords | None, *, is_records: bool
) -> None:
    """Print a text as it is generated, or several once all are complete."""
    writer, num = console.Writer(), len(generation.samples)
    if num == 1:
        writer.write(prompt)
    streams = num == 1 and isinstance(generation, Generation)
    with TaskProgress(quiet=streams):
        for piece in generation:
            if num == 1:
                writer.write(piece)
    samples = generation.samples
    texts = [prompt + one.text for one in samples]
    new = [known is not None and known.lacks([*generation.prompt, *s.indices]) for s in samples]
    is_list = is_records and not any("\n" in text for text in texts)
    for number, text in enumerate(texts if num > 1 else [], start=1):
        writer.write(text if is_list else f"--- {number} of {num} ---\n{text}")
        if is_list and new[number - 1]:
            writer.write_mark("  (new)")
        if is_list:
            writer.write("\n")  # after an empty one, too
        writer.end_line()
    writer.end_line()
    if known is not None:
        terminal.novelty(sum(new), num, len(known))


def _mixing(
    loaded: Loaded, others: Sequence[str], adapted_to: str | None, precision: str
) -> tuple[Callable[[int], Engine], dict[str, float]]:
    """Return an engine factory of a mixture, and the mean power of each model."""
    mixed = loaded.mixed_with(others)
    learned = mixed.learned()
    if adapted_to is not None:
        mixed = mixed.adapted_to(adapted_to)
    return partial(mixed.engine, learned.powers, precision=precision), learned.mean_powers()


def _copies(loaded: Loaded, generation: Written) -> list[Copied]:
    """Find each text's copies of the run's train split. Raises: DataError if it has changed."""
    console.print_status("searching the train split for copies")
    train = own_text(loaded.checkpoint)
    split = train.symbols[train.train.start : train.train.stop]
    found = []
    for number, one in enumerate(generation.samples, start=1):
        symbols = np.array(one.indices, loaded.vocabulary.dtype)
        letters = characters(loaded.vocabulary, symbols)
        found.append(Copied(f"sample {number}", letters, shared_spans(symbols, split)))
    return found


def _report(
    loaded: Loaded,
    generation: Written,
    prompt: str,
    seed: int,
    precision: str,
    known: KnownRecords | None,
) -> dict[str, Any]:
    """Write all samples, and return the output of `sample --json`."""
    with TaskProgress():
        list(generation)
    kernels, precision = choose_precision(loaded.model, precision)
    told: dict[str, Any] = {
        "prompt": prompt,
        "seed": seed,
        "backend": "native" if kernels else "torch",
        "precision": precision,
        "samples": [
            {
                "text": one.text.encode("utf-8", "replace").decode(),
                "bits_per_character": bits_per_character(one, loaded.vocabulary),
                "loops": runs_in_circles(one.text),
            }
            for one in generation.samples
        ],
    }
    if known is not None:
        for one, text in zip(told["samples"], generation.samples, strict=True):
            one["novel"] = known.lacks([*generation.prompt, *text.indices])
    return told
