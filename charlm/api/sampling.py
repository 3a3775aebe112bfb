"""Writing of texts by a model alone or with others, adapted to the prompt, with clamped units."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np

from charlm.api.options import LoadOptions, PathLike, SampleOptions, WritingOptions, paths_of
from charlm.api.plain import PlainLoaded
from charlm.api.records import NewRecords, known_records
from charlm.common.errors import UsageError
from charlm.config.clamps import parse_clamps
from charlm.inspection.copies import Copied, copies_data, shared_spans
from charlm.inspection.excerpt import characters
from charlm.inspection.novelty import KnownRecords
from charlm.models.plain import kernels_for, resolve_precision
from charlm.runs.own_text import corpus_of
from charlm.sampling.best import BestOf, Candidates
from charlm.sampling.generate import Generation, Sample, bits_per_character
from charlm.sampling.loops import runs_in_circles

if TYPE_CHECKING:
    from charlm.api.loaded import Loaded
    from charlm.sampling.engine import Engine

OWN = {"best_of", "with_", "adapt", "clamps", "novel", "num", "seed", *LoadOptions.__annotations__}


@dataclass(frozen=True)
class Writers:
    """The model that writes. make: the engine factory of a mixture or of clamped units, else None.
    powers: of a mixture, the mean of each model's, by name."""

    loaded: "Loaded | PlainLoaded"
    make: "Callable[[int], Engine] | None" = None
    powers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Writing:
    """Texts that are written while it is iterated over: it yields pieces of the first one.

    seed: repeats the texts. known: the records of the run's own text, for a model of records.
    options: as for `sample`.
    """

    writers: Writers
    prompt: str
    seed: int
    known: KnownRecords | None
    options: SampleOptions
    _candidates: Candidates

    def __iter__(self) -> Iterator[str]:
        return iter(self._candidates)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("\n\n".join(self.texts))

    @property
    def samples(self) -> list[Sample]:
        """The texts, without the prompt, each with its symbols and their surprisal."""
        return self._candidates.samples

    @property
    def texts(self) -> list[str]:
        """Each text, with the prompt before it."""
        return [self.prompt + one.text for one in self.samples]

    @property
    def comes_in_pieces(self) -> bool:
        """True if the pieces come as they are written, not once the text is chosen."""
        return isinstance(self._candidates, Generation)

    @cached_property
    def loops(self) -> list[bool]:
        """For each text: True if it runs in circles."""
        return [runs_in_circles(one.text) for one in self.samples]

    @cached_property
    def new(self) -> list[bool]:
        """For each text: True if it is a complete record that the run's own text lacks."""
        opening = self._candidates.prompt
        return [
            self.known is not None and self.known.lacks([*opening, *one.indices])
            for one in self.samples
        ]

    def copies(self) -> list[Copied]:
        """Find the spans that each text copies from the run's train split.

        Raises: DataError if it has changed.
        """
        loaded = self.writers.loaded
        train = corpus_of(loaded.checkpoint)
        split = train.symbols[train.train.start : train.train.stop]
        found = []
        for number, one in enumerate(self.samples, start=1):
            symbols = np.array(one.indices, loaded.vocabulary.dtype)
            letters = characters(loaded.vocabulary, symbols)
            found.append(Copied(f"sample {number}", letters, shared_spans(symbols, split)))
        return found

    def report(self, copies: Sequence[Copied] = ()) -> dict[str, Any]:
        """Return the output of `sample --json`, once all is written."""
        loaded, options = self.writers.loaded, self.options
        backend, precision = _chosen(loaded, options.get("precision", "auto"))
        if options.get("clamps"):
            backend, precision = "torch", "float32"
        samples: list[dict[str, Any]] = [
            {
                "text": one.text.encode("utf-8", "replace").decode(),
                "bits_per_character": bits_per_character(one, loaded.vocabulary),
                "loops": loops,
            }
            for one, loops in zip(self.samples, self.loops, strict=True)
        ]
        for row, one in zip(samples, copies, strict=False):
            row["copied"] = copies_data(one)
        if self.known is not None:
            for row, new in zip(samples, self.new, strict=True):
                row["novel"] = new
        report: dict[str, Any] = {
            "prompt": self.prompt,
            "seed": self.seed,
            "backend": backend,
            "precision": precision,
            "samples": samples,
            "adapted": options.get("adapt", False),
        }
        report |= {"mixture": self.writers.powers} if options.get("with_") else {}
        report |= {"clamped": list(clamps)} if (clamps := options.get("clamps")) else {}
        return report | {"best_of": options.get("best_of", 1)}


def sample(
    run: "Loaded | PathLike | None" = None, prompt: str = "", **options: Unpack[SampleOptions]
) -> Writing:
    """Write texts that continue `prompt`; return them, in `texts`.

    run: a loaded model, a run, or None for the latest run. options: see `SampleOptions`; without a
        seed, one is drawn.

    Raises: UsageError, CheckpointError; DataError if the run's text is needed and has changed.
    """
    from charlm.api.loaded import open_run  # here: it imports torch

    writing = begin(open_run(run, options), prompt, **options)
    for _ in writing:
        pass
    return writing


def begin(loaded: "Loaded | PlainLoaded", prompt: str, **options: Unpack[SampleOptions]) -> Writing:
    """Prepare texts that are written while the result is iterated over. Otherwise as `sample`.

    loaded: a plain one only without the options that `takes_torch`.
    """
    options = {**options, "with_": paths_of(options.get("with_", ()))}
    options["clamps"] = paths_of(options.get("clamps", ()))
    best_of, num = options.get("best_of", 1), options.get("num", 1)
    if best_of < 1:
        raise UsageError(f"best_of = {best_of} is no number of candidates", "1 is one text")
    seed = options["seed"] if "seed" in options else secrets.randbelow(2**32)
    written = {name: value for name, value in options.items() if name not in OWN}
    writers = _writers(loaded, prompt, options)
    draw = partial(
        writers.loaded.generation,
        prompt,
        writers.make,
        num=num * best_of,
        **cast("WritingOptions", written),
    )
    candidates: Candidates = draw(seed=seed)
    novel = options.get("novel", False)
    if novel and loaded.vocabulary.end is None:
        raise UsageError(
            "novel is for a model of records, and this one was trained on a running text",
            "train with data.records=lines, or look for copies",
        )
    known = known_records(loaded, needed=novel)
    if novel and known is not None:
        candidates = NewRecords(draw, seed, num * best_of, known)
    if best_of > 1:
        candidates = BestOf(candidates, best_of, loaded.vocabulary)
    return Writing(writers, prompt, seed, known, options, candidates)


def takes_torch(options: SampleOptions) -> bool:
    """Return True for options that need more of a model than its weights."""
    return any(options.get(name) for name in ("with_", "adapt", "clamps"))


def _chosen(loaded: "Loaded | PlainLoaded", precision: str) -> tuple[str, str]:
    """Return the backend and the precision of sampling. Raises: UsageError."""
    if isinstance(loaded, PlainLoaded):
        kernels = kernels_for(loaded.model)
        return "native", resolve_precision(kernels, precision, {loaded.model.variant})
    from charlm.sampling.engine import choose_precision  # here: it imports torch

    kernels, precision = choose_precision(loaded.model, precision)
    return "native" if kernels else "torch", precision


def _writers(loaded: "Loaded | PlainLoaded", prompt: str, options: SampleOptions) -> Writers:
    """Prepare the models that write. Raises: UsageError, DataError, CheckpointError."""
    if isinstance(loaded, PlainLoaded):
        return Writers(loaded)
    others, adapt = options.get("with_", ()), options.get("adapt", False)
    clamps = options.get("clamps", ())
    if clamps and others:
        raise UsageError("clamped units and a mixture go one at a time", "leave one of them out")
    if others:
        mixed = loaded.mixed_with(others)
        learned = mixed.learned()
        if adapt:
            mixed = mixed.adapted_to(prompt)
        precision = options.get("precision", "auto")
        make = partial(mixed.engine, learned.powers, precision=precision)
        return Writers(loaded, make, learned.mean_powers())
    if adapt:
        loaded = loaded.adapted_to(prompt)
    if clamps and options.get("precision", "auto") not in ("auto", "float32"):
        raise UsageError("clamped units are computed in float32", "leave the precision out")
    if clamps:
        from charlm.sampling.clamped import ClampedEngine  # here: it imports torch

        held = parse_clamps(clamps, loaded.model.config)
        return Writers(loaded, partial(ClampedEngine, loaded.model, held))
    return Writers(loaded)
