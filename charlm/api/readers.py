"""Readers of texts by a loaded model, alone or with others, static or adapting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING

from charlm.api.options import PathLike
from charlm.api.plain import PlainLoaded
from charlm.evaluation.plain import PlainNetwork, is_short
from charlm.evaluation.reading import (
    Floats,
    ReadCallback,
    Reader,
    ignore,
    log_distributions,
    surprisals,
)
from charlm.evaluation.scoring import network
from charlm.text.stretch import Stretch

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.api.loaded import Loaded
    from charlm.evaluation.adaptation import Pace
    from charlm.evaluation.mixture import Mixture


@dataclass(frozen=True)
class Reading:
    """The reader of one text, for surprisals and for distributions; the mixture, if it is one; the
    pace of each adapting model, by name."""

    read: Reader
    predict: Reader
    mixture: "Mixture | None" = None
    paces: "dict[str, Pace]" = field(default_factory=dict)

    @property
    def powers(self) -> dict[str, float]:
        """The mean power of each model of the mixture, once the text is read."""
        return self.mixture.mean_powers() if self.mixture else {}


def reading_of(
    loaded: "Loaded | PlainLoaded", others: Sequence[PathLike], *, adapt: bool
) -> Callable[[], Reading]:
    """Return a function that makes the reading of a text, each with the trained weights and equal
    powers; the models are loaded, the n-grams counted and the pace is tuned only once.

    others: runs, or "ngram", that are mixed in. Raises: as `Loaded.mixed_with` and `adaptive`.
    """
    if isinstance(loaded, PlainLoaded):
        return _plain_reading(loaded)
    if others:
        mixed = loaded.mixed_with(others)
        tuned = mixed.adaptive() if adapt else {}

        def of_mixture() -> Reading:
            readers = {name: one.anew() for name, one in tuned.items()}
            mixture = mixed.mixture(readers)
            paces = {name: one.pace for name, one in readers.items()}
            return Reading(mixture, mixture.distributions, mixture, paces)

        return of_mixture
    if adapt:
        adaptive = loaded.adaptive()

        def adapting() -> Reading:
            reader = adaptive.anew()
            return Reading(reader, reader.distributions, paces={"the model": reader.pace})

        return adapting
    from charlm.evaluation.surprisal import log_distributions as by_torch  # here: it is slow

    static = Reading(network(loaded.model), partial(by_torch, loaded.model))
    return lambda: static


def _plain_reading(loaded: PlainLoaded) -> Callable[[], Reading]:
    """Return `reading_of` a model loaded without torch."""
    plain = PlainNetwork(loaded.model)

    @cache
    def by_torch() -> Reading:
        from charlm.api.loaded import load  # here: it imports torch

        return reading_of(load(loaded.checkpoint.folder), (), adapt=False)()

    return lambda: Reading(
        _ByLength(loaded, partial(surprisals, plain), lambda: by_torch().read),
        _ByLength(loaded, partial(log_distributions, plain), lambda: by_torch().predict),
    )


@dataclass
class _ByLength:
    """A `Reader` of a text by a plain model; by torch from where the text is too long for one
    thread. plain: reads short texts. by_torch: returns the other reader."""

    loaded: PlainLoaded
    plain: Reader
    by_torch: Callable[[], Reader]
    _symbols: int = 0

    def __call__(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
    ) -> "Tensor | Floats":
        self._symbols += len(stretch)
        read = self.plain if is_short(self._symbols, self.loaded.model) else self.by_torch()
        return read(stretch, window=window, advanced=advanced)
