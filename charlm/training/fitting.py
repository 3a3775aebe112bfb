"""Adaptation of a preset's values to a text that is too short for them.

Presets are made for texts of 50 KB and more. Values set by the user are never changed.
"""

import math
from dataclasses import dataclass

from charlm.config.layers import ConfigLayers, ConfigSource, Rank, Resolved
from charlm.config.schema import Table, TrainConfig
from charlm.text import corpus
from charlm.text.corpus import Corpus
from charlm.text.splits import EmptySplitError, TextStats, TooRareError

ORIGIN = "fitted to the text"
KEYS = {"data.split", "data.minimum_count", "train.batch_size", "train.sequence_length"}

FEWEST_HELD_OUT = 10
"""Least characters of a held-out split; fewer do not measure a model."""
MOST_UNKNOWN = 0.05
"""Largest share of the train split that `data.minimum_count` may make unknown: in a Korean poem of
300 characters, 2 makes a third unknown."""
WINDOWS = 16
"""Least windows per lane, if there is more than one lane: a lane of few windows learns mostly from
the zero state. Parts of tinyshakespeare in windows of 32, bits per character on a fifth held out
(mean of three parts):

    lanes               16      8     3-4      1
    1,000 characters  4.466  3.912  3.906  3.748
    2,000             3.421  3.482  3.278  3.235
    4,500             3.356  3.322  3.273  3.260    (16 windows and more: 4 lanes and 1)
"""


@dataclass(frozen=True)
class Fitted:
    """A configuration fitted to its encoded text.

    added: the layers with the fitted values. note: describes the changes; "" if none.
    """

    resolved: Resolved
    corpus: Corpus
    added: tuple[ConfigSource, ...]
    note: str = ""


def fit(layers: ConfigLayers, text: TextStats, *, keep: bool, processes: int = 1) -> Fitted:
    """Encode a text, lowering those values of the preset that are too large for it.

    keep: as for `corpus.prepare`. processes: number of processes that share the lanes.

    Raises: DataError if a value that the user has set is too large.
    """
    added: list[ConfigSource] = []
    notes: list[str] = []

    def resolve() -> Resolved:
        return layers.with_layers(added).resolve(text.characters)

    while True:
        resolved = resolve()
        free = KEYS - resolved.chosen
        data = resolved.config.data
        try:
            encoded, error = corpus.prepare(data, text, keep=keep), None
        except (EmptySplitError, TooRareError) as refused:
            encoded, error = None, refused
        holds_out = data.split[0] < 1 and "data.split" in free
        counts = data.minimum_count > 1 and "data.minimum_count" in free
        is_limited = "data.held_out_limit" in resolved.chosen  # the user wants few held out
        holds_too_little = not is_limited and _holds_too_little(encoded)
        if holds_out and (isinstance(error, EmptySplitError) or holds_too_little):
            added.append(_layer({"data": {"split": [1.0, 0.0, 0.0]}}))
            notes.append("nothing held out")
        elif counts and (isinstance(error, TooRareError) or _knows_too_little(encoded)):
            added.append(_layer({"data": {"minimum_count": 1}}))
            notes.append(f"minimum_count 1, not {data.minimum_count}")
        elif error:
            raise error
        else:
            break
    assert encoded is not None
    train = resolved.config.train
    fitted = fitted_lanes(train, len(encoded.train), free, processes)
    if fitted != (train.batch_size, train.sequence_length):
        lanes, window = fitted
        values = {"batch_size": lanes, "sequence_length": window}
        values = {key: value for key, value in values.items() if f"train.{key}" in free}
        added.append(_layer({"train": values}))
        notes.insert(0, _lanes_note(fitted, train))
        resolved = resolve()
    if math.prod((*fitted, train.accumulate)) >= len(encoded.train):
        notes = []  # refused later because of the user's values
    said = "; ".join(notes)
    note = f"fitted to {text.characters:,} characters: {said} (configuration {layers.name})"
    return Fitted(resolved, encoded, tuple(added), note if notes else "")


def _layer(values: Table) -> ConfigSource:
    return ConfigSource(ORIGIN, values, Rank.FITTED)


def _lanes_note(fitted: tuple[int, int], train: TrainConfig) -> str:
    """Describe the lanes and windows that differ from the preset's."""
    (lanes, window), plural = fitted, "s" * (fitted[0] > 1)
    if window == train.sequence_length:
        return f"{lanes} lane{plural}, not {train.batch_size}"
    if lanes == train.batch_size:
        return f"windows of {window}, not {train.sequence_length}"
    before = f"{train.batch_size} in windows of {train.sequence_length}"
    return f"{lanes} lane{plural} in windows of {window}, not {before}"


def _holds_too_little(encoded: Corpus | None) -> bool:
    """Return True if a held-out split is too short to measure a model."""
    if encoded is None:
        return False
    held_out = [split for name, split in encoded.splits.items() if name != "train" and len(split)]
    return any(split.characters < FEWEST_HELD_OUT for split in held_out)


def _knows_too_little(encoded: Corpus | None) -> bool:
    """Return True if too many characters of the train split are outside the vocabulary."""
    if encoded is None:
        return False
    unknown = sum(encoded.train.unknown.values())
    return unknown > MOST_UNKNOWN * encoded.train.characters


def fitted_lanes(
    train: TrainConfig, symbols: int, free: set[str], processes: int
) -> tuple[int, int]:
    """Return the batch_size and the sequence_length for a train split of `symbols` symbols.

    free: the keys that may be lowered. Raises: DataError for a train split of one symbol.
    """
    lanes, window, targets = train.batch_size, train.sequence_length, symbols - 1
    if targets < 1:
        return lanes, window  # `BatchStream` refuses them
    if "train.batch_size" in free:
        most = targets // (WINDOWS * window * train.accumulate)
        lanes = min(lanes, max(1, most // processes) * processes)
    lane = targets // (lanes * train.accumulate)
    if "train.sequence_length" in free and 1 <= lane < WINDOWS * window:
        window = lane // -(-lane // window)  # equal windows, which cover nearly all of a lane
    return lanes, window
