"""Kinds of texts that have a better preset than `default`, recognised by a sample.

The limits were chosen on 20 lists and 37 running texts: the table of tests/text/test_kinds.py.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median, pstdev
from typing import Literal

from charlm.text.corpus import Corpus

STRETCHES, STRETCH = 4, 50_000
"""Number and length in symbols of the stretches that sample a long text."""
FEWEST_ITEMS = 20
"""Fewest lines of a list: poems often have fewer, lists worth training on seldom."""
FEWEST_OF_CODE = 3_000_000
"""Fewest characters of code for its preset, which has no dropout: it would read a shorter text more
than three times."""

ENDS_SENTENCE = re.compile(r"[.,;:!?…)\"”»\]}>。，、！？—–-]$")
BEGINS_SPEECH = re.compile(r"[^\s:][^:]{0,30}: ")
HANGUL = re.compile("[\uac00-\ud7a3]")
COLUMNS = ",;:=\t|"
SEPARATORS = (", ", ",", "; ", ";", " | ", "|", "\t", " ")
NO_ITEM = re.compile(r"[.!?:;\"]( |$)|[\n{}()=<>]")
DEFINITION = re.compile(r"def \w+\(|class \w+.*:$|import \w|from [\w.]+ import ")
PYTHON = re.compile(
    r"(def \w+\(.*|class \w+.*:|(from [\w.]+ )?import [\w., ()*]+|(if|elif|for|while|with) .*:"
    r"|else:|try:|except.*:|return\b[^;{}]*|self\.\w+[^;{}]*|@\w[\w.]*(\(.*\))?)$"
)


@dataclass(frozen=True)
class Kind:
    """A kind of text, and the preset for it.

    name: its name within a sentence. separator: between the items of a list in one line; "" if the
    items are lines, or there are none.
    """

    name: Literal["a list", "a list of Korean lines", "Python code"]
    preset: str
    separator: str = ""


LIST = Kind("a list", "names")
KOREAN = Kind("a list of Korean lines", "nsmc")
CODE = Kind("Python code", "python")


def sample(corpus: Corpus) -> list[str]:
    """Decode some stretches of the train split, evenly spaced, in whole lines."""
    start, size = corpus.train.start, len(corpus.train)
    count = STRETCHES if size > STRETCHES * STRETCH else 1
    length = STRETCH if count > 1 else size
    stretches = []
    for number in range(count):
        at = start + number * (size - length) // max(1, count - 1)
        text = corpus.vocabulary.decode(corpus.symbols[at : at + length].tolist())
        if number and "\n" in text:
            text = text.partition("\n")[2]
        stretches.append(text)
    return stretches


def kind_of(corpus: Corpus) -> Kind | None:
    """Return the kind of an encoded text; None if there is no better preset than `default`."""
    kind = recognize(sample(corpus))
    is_short = corpus.train.characters < FEWEST_OF_CODE
    return None if kind == CODE and is_short else kind


def recognize(stretches: Sequence[str]) -> Kind | None:
    """Return the kind of a text, by stretches of it; None for any other running text."""
    lines = [line.rstrip() for stretch in stretches for line in stretch.splitlines()]
    filled = [line for line in lines if line]
    if len(filled) < FEWEST_ITEMS:
        separator = _separator("\n".join(stretches))
        return Kind("a list", "names", separator) if separator else None
    if _is_python(filled):
        return CODE
    if len(filled) < 0.98 * len(lines) or not _may_be_items(filled):
        return None
    ended = _share(filled, ENDS_SENTENCE.search)
    is_korean = _share(filled, HANGUL.search) > 0.7
    size = median(map(len, filled))
    if is_korean and 0.1 < ended < 0.8 and _variation(filled) > 0.6:
        return KOREAN  # reviews, comments: only some end like sentences
    words = median(len(line.split()) for line in filled)
    is_single = words == 1 and ended < 0.2
    begins_low = _share(filled, lambda line: line[0].islower())
    if is_single or (ended < 0.1 and begins_low < 0.2):
        return KOREAN if is_korean and size > 15 else LIST
    return None


def _is_python(lines: Sequence[str]) -> bool:
    """Return True if lines have Python's statements, and no braces or semicolons."""
    bare = [line.strip() for line in lines]
    return (
        _share(bare, PYTHON.match) > 0.15
        and _share(bare, DEFINITION.match) > 0.01
        and _share(bare, lambda line: line[-1] in ";{}") < 0.05
    )


def _may_be_items(lines: Sequence[str]) -> bool:
    """Return True if lines could be items: short, distinct, and not code, a table, a log, a
    dialogue or prose wrapped at a margin."""
    sizes = sorted(map(len, lines))
    size = median(sizes)
    fullest = Counter(sizes).most_common(1)[0][1]
    is_wrapped = size > 30 and (_variation(lines) < 0.13 or fullest > 0.6 * len(lines))
    return (
        size <= 80
        and sizes[int(0.95 * len(sizes))] <= 300
        and not is_wrapped
        and len(set(lines)) > 0.7 * len(lines)
        and _share(lines, lambda line: line[0].isspace()) < 0.02
        and _share(lines, BEGINS_SPEECH.match) < 0.5
        and not any(_is_column(lines, mark) for mark in COLUMNS)
        and not _is_log(lines)
    )


def _is_column(lines: Sequence[str], mark: str) -> bool:
    """Return True if most lines have the same number of a mark, like a table's rows."""
    count, lines_with = Counter(line.count(mark) for line in lines).most_common(1)[0]
    return count > 0 and lines_with > 0.8 * len(lines)


def _is_log(lines: Sequence[str]) -> bool:
    """Return True if most lines begin with a time or number of one form, followed by more."""
    forms = Counter(
        re.sub("[^0:./-]", "a", re.sub(r"\d+", "0", line))[:6]
        for line in lines
        if " " in line and re.match(r"\W?\w*\W?\s*\d", line)
    )
    return bool(forms) and forms.most_common(1)[0][1] > 0.5 * len(lines)


def _separator(text: str) -> str:
    """Return the separator of a list that is one line; "" for running text."""
    for separator in SEPARATORS:
        items = [item for item in text.strip().split(separator) if item]
        fewest, distinct = (100, 0.95) if separator == " " else (FEWEST_ITEMS, 0.7)
        if (
            len(items) >= fewest
            and median(map(len, items)) <= 40
            and median(len(item.split()) for item in items) <= 3
            and len(set(items)) >= distinct * len(items)
            and _share(items, NO_ITEM.search) < 0.02
        ):
            return separator
    return ""


def _variation(lines: Sequence[str]) -> float:
    """Return the standard deviation of the lines' lengths, as a share of their mean."""
    sizes = [len(line) for line in lines]
    return pstdev(sizes) / mean(sizes)


def _share(lines: Sequence[str], holds: Callable[[str], object]) -> float:
    """Return the share of lines that satisfy a predicate."""
    return sum(bool(holds(line)) for line in lines) / len(lines)
