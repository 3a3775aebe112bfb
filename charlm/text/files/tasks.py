"""Generated texts that separate cells: records of a question and an answer that it determines.

A linear recurrence whose factors are positive and do not depend on its state cannot track a parity
at all lengths, and a state of fixed size cannot hold copies of every length. Each task asks for one
ability, at lengths beyond those trained.

Sources: Grazzi et al. 2024 (arXiv 2411.12537), parity; Merrill et al. 2024 (arXiv 2404.08819),
state tracking; Hewitt et al. 2020 (arXiv 2010.07515), brackets of bounded depth; Arora et al. 2023
(arXiv 2312.04927), associative recall; Weiss et al. 2018 (arXiv 1805.04908), counting.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from charlm.common.errors import DataError
from charlm.common.wording import suggestion

if TYPE_CHECKING:
    from charlm.config.schema import DataConfig

PREFIX = "task:"
"""Beginning of a path of `data.path` that names a task."""
TIMES = (1, 2, 4)
"""Lengths of the tests, as multiples of the longest one trained."""
TESTS = 200
"""Most examples of a test."""
DRAWS = 20
"""Draws for each example of a test: of a task with few examples, all are found."""
CHARACTERS = 1_000_000
"""Length of the text, with its ends of lines."""
RESERVED = 5
"""One in this number of examples, by a hash of its content, is for the tests alone."""
SEPARATOR = "="

Drawn = tuple[str, str]


@dataclass(frozen=True)
class Example:
    """A record of a task. question: with the separator. answer: determined by the question."""

    question: str
    answer: str

    @property
    def line(self) -> str:
        """The record as a line of the text."""
        return self.question + self.answer

    @property
    def is_reserved(self) -> bool:
        """True if the example is for the tests alone."""
        digest = hashlib.blake2b(self.line.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % RESERVED == 0


@dataclass(frozen=True)
class Task:
    """A task.

    about: the question, or the answer in words, as a sentence. longest: length of the longest
    example trained. draw: draws a question without its separator, and its answer, of a length.
    symbols: those of answers. ends: True if the end of the record, too, is determined by the
    question.
    """

    name: str
    about: str
    longest: int
    draw: Callable[[random.Random, int], Drawn]
    symbols: str
    ends: bool

    def example(self, rng: random.Random, length: int) -> Example:
        """Draw an example."""
        question, answer = self.draw(rng, length)
        return Example(question + SEPARATOR, answer)

    def lengths(self, times: int) -> range:
        """Return the lengths of a test: those above half of the longest, up to it."""
        most = times * self.longest
        return range(most // 2 + 1, most + 1)

    def training_text(self, characters: int = CHARACTERS) -> str:
        """Return lines of examples from length 1 to the longest; none of them is reserved."""
        rng = random.Random(f"{self.name}, training")  # noqa: S311 (no secret)
        lines, size = [], 0
        while size < characters:
            example = self.example(rng, rng.randint(1, self.longest))
            if not example.is_reserved:
                lines.append(example.line)
                size += len(example.line) + 1
        return "\n".join([*lines, ""])

    def tests(self, times: int, most: int = TESTS) -> list[Example]:
        """Draw different examples that are not in the training text, in the lengths of a test."""
        return list(self._tests(times, most))

    def _tests(self, times: int, most: int) -> Iterator[Example]:
        rng = random.Random(f"{self.name}, tests at {times}")  # noqa: S311 (no secret)
        found: set[Example] = set()
        for _ in range(DRAWS * most * RESERVED):
            example = self.example(rng, rng.choice(self.lengths(times)))
            if example in found or (times == 1 and not example.is_reserved):
                continue
            found.add(example)
            yield example
            if len(found) == most:
                return

    @property
    def choices(self) -> int:
        """Number of the symbols that an answer may have, with the end of the record."""
        return len(self.symbols) + self.ends

    def chance(self, example: Example) -> float:
        """Return the probability that a uniform guess of every symbol of an answer is right."""
        return float(self.choices) ** -(len(example.answer) + self.ends)


BRACKETS = {"(": ")", "[": "]"}
DEPTH = 4
"""Most brackets open at once."""
LETTERS, KEYS, VALUES = "abcdefgh", "abcdefghijklmnopqrstuvwxyz", "0123456789"


def _parity(rng: random.Random, length: int) -> Drawn:
    """Draw bits, and whether their sum is odd."""
    bits = rng.choices("01", k=length)
    return "".join(bits), str(bits.count("1") % 2)


def _dyck(rng: random.Random, length: int) -> Drawn:
    """Draw the beginning of a word of brackets, and the brackets that close it."""
    text, opened = [], list[str]()
    for left in range(length, 0, -1):
        closes = opened and (len(opened) == DEPTH or rng.random() < 0.5)
        if closes and not (left == 1 and len(opened) == 1):  # something stays open
            text.append(BRACKETS[opened.pop()])
        else:
            opened.append(rng.choice("(["))
            text.append(opened[-1])
    return "".join(text), "".join(BRACKETS[one] for one in reversed(opened))


def _copy(rng: random.Random, length: int) -> Drawn:
    """Draw letters, and the same again."""
    letters = "".join(rng.choices(LETTERS, k=length))
    return letters, letters


def _recall(rng: random.Random, length: int) -> Drawn:
    """Draw pairs of different keys with values, then one of the keys, and its value."""
    keys, values = rng.sample(KEYS, length), rng.choices(VALUES, k=length)
    asked = rng.randrange(length)
    pairs = "".join(key + value for key, value in zip(keys, values, strict=True))
    return f"{pairs}?{keys[asked]}", values[asked]


def _count(rng: random.Random, length: int) -> Drawn:
    """Draw letters a among letters c, and as many letters b as there are a."""
    letters = ["a"] * rng.randint(1, length)
    letters += "c" * (length - len(letters))
    rng.shuffle(letters)
    return "".join(letters), "b" * letters.count("a")


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("parity", "is the number of ones odd?", 20, _parity, "01", ends=False),
        Task("dyck", "which brackets are open?", 20, _dyck, ")]", ends=True),
        Task("copy", "the same letters again.", 8, _copy, LETTERS, ends=True),
        Task("recall", "which value has the key?", 6, _recall, VALUES, ends=False),
        Task("count", "as many letters b as a.", 32, _count, "b", ends=True),
    )
}


def named_by(path: str) -> Task:
    """Return the task that a path of `data.path` names. Raises: DataError for an unknown one."""
    name = path.removeprefix(PREFIX)
    if name not in TASKS:
        raise DataError(
            f"no task is called {name!r}{suggestion(name, TASKS)}",
            f"the tasks are {', '.join(TASKS)}",
        )
    return TASKS[name]


def settings(name: str) -> dict[str, str]:
    """Return the values of [data] for the text of a task, by dotted key. Raises: DataError."""
    path = PREFIX + name
    named_by(path)
    return {"data.path": path, "data.records": "lines"}


def learned(data: "DataConfig") -> Task | None:
    """Return the task whose records are the text of a configuration; None for any other text."""
    path = data.path if isinstance(data.path, str) else ",".join(data.path)
    is_task = data.records == "lines" and path.startswith(PREFIX)
    return TASKS.get(path.removeprefix(PREFIX)) if is_task else None
