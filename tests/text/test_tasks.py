"""Tasks: every answer is checked in another way; tests are apart from the training text."""

import itertools
import random
import re
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from charlm.common.errors import DataError
from charlm.config.schema import DataConfig
from charlm.runs import named
from charlm.text.files import sources
from charlm.text.files.tasks import DEPTH, SEPARATOR, TASKS, TESTS, TIMES, Example, Task, learned

EVERY = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def closed(text: str) -> bool:
    """Return True if removing innermost pairs of brackets leaves nothing of a text."""
    while (shorter := text.replace("()", "").replace("[]", "")) != text:
        text = shorter
    return not text


def deepest(text: str) -> int:
    levels = [sum(1 if c in "([" else -1 for c in text[: at + 1]) for at in range(len(text))]
    return max(levels)


def is_right(name: str, line: str) -> bool:
    """Check a record without the code that makes it."""
    question, _, answer = line.partition(SEPARATOR)
    match name:
        case "parity":
            return answer == str(bin(int("1" + question, 2)).count("1") % 2 ^ 1)
        case "dyck":
            word = question + answer
            return (
                bool(answer) and set(answer) <= {*")]"} and closed(word) and deepest(word) <= DEPTH
            )
        case "copy":
            return set(question) <= {*"abcdefgh"} and line == f"{question}={question}"
        case "recall":
            known = dict(re.findall("([a-z])([0-9])", question.partition("?")[0]))
            unique = 2 * len(known) == question.index("?")
            return unique and known[question.partition("?")[2]] == answer
        case "count":
            is_formed = re.fullmatch("[ac]+=b+", line) is not None
            return is_formed and len(question.replace("c", "")) == len(answer)
    raise AssertionError(name)


def length(task: Task, line: str) -> int:
    return line.index("?") // 2 if task.name == "recall" else line.index(SEPARATOR)


@EVERY
def test_every_answer_is_right_and_of_a_trained_length(task: Task) -> None:
    lines = task.training_text(60_000).splitlines()
    assert all(is_right(task.name, line) for line in lines)
    lengths = {length(task, line) for line in lines}
    assert (min(lengths), max(lengths)) == (1, task.longest)


@EVERY
def test_symbols_of_answers_are_those_of_the_task(task: Task) -> None:
    lines = task.training_text(60_000).splitlines()
    counts = Counter("".join(line.partition(SEPARATOR)[2] for line in lines))
    assert set(counts) == {*task.symbols}
    assert max(counts.values()) < 1.3 * min(counts.values())  # none is the better guess


@EVERY
@pytest.mark.parametrize("times", TIMES)
def test_tests_are_right_long_and_different(task: Task, times: int) -> None:
    lines = [example.line for example in task.tests(times)]
    assert all(is_right(task.name, line) for line in lines)
    assert len(set(lines)) == len(lines)
    lengths = {length(task, line) for line in lines}
    low, high = times * task.longest // 2 + 1, times * task.longest
    assert low <= min(lengths) <= max(lengths) <= high
    assert len(lines) == TESTS
    assert len(lengths) > 0.9 * (high + 1 - low)


@EVERY
def test_tests_are_not_in_the_training_text(task: Task) -> None:
    trained = set(task.training_text().splitlines())
    for times in TIMES:
        assert trained.isdisjoint(example.line for example in task.tests(times))


def test_tests_of_a_task_with_few_examples_are_all_of_them() -> None:
    task = replace(TASKS["copy"], longest=1)
    letters = [*"abcdefgh"]
    reserved = [one for one in letters if Example(f"{one}=", one).is_reserved]
    assert 0 < len(reserved) < len(letters)
    assert sorted(example.answer for example in task.tests(1, 20)) == reserved
    pairs = ["".join(pair) for pair in itertools.product(letters, letters)]
    assert sorted(example.answer for example in task.tests(2, 70)) == pairs  # none is trained


DIGESTS = {
    "parity": "6910307ddc2c1114",
    "dyck": "9de09bea2b9dacba",
    "copy": "44beb3ff21200d94",
    "recall": "9ec8d0ad76711275",
    "count": "2076d187556e8d10",
}
"""Of the texts, without which no finished comparison could be reused."""


@EVERY
def test_text_of_a_task_never_changes(task: Task) -> None:
    random.seed(1)  # of no effect
    assert sha256(task.training_text().encode()).hexdigest()[:16] == DIGESTS[task.name]


def test_length_of_a_question_does_not_give_the_count() -> None:
    rng = random.Random(1)
    counts = Counter(len(TASKS["count"].example(rng, 32).answer) for _ in range(3_200))
    assert set(counts) == {*range(1, 33)}
    assert max(counts.values()) < 150


def test_chance_is_that_of_a_uniform_guess() -> None:
    rng = random.Random(3)
    for name, choices, symbols in (("parity", 2, 1), ("recall", 10, 1), ("copy", 9, 6)):
        example = TASKS[name].example(rng, 5)
        assert TASKS[name].chance(example) == pytest.approx(choices**-symbols)
    assert TASKS["count"].chance(Example("acaca=", "bbb")) == pytest.approx(2**-4)


def test_a_task_is_a_source_of_text(tmp_path: Path) -> None:
    data = DataConfig(path="task:copy")
    sources.refuse_missing(data)
    (file,) = sources.find(data).files
    assert file.read_text() == TASKS["copy"].training_text()
    file.write_text("damaged")
    (again,) = sources.find(data).files
    assert again.read_text() == TASKS["copy"].training_text()
    assert sources.absolute("task:copy") == "task:copy"
    assert named.is_known(data)  # a run from elsewhere may name it: nothing is opened
    for check in (sources.refuse_missing, sources.find):
        with pytest.raises(DataError, match="no task is called 'cpoy'; did you mean 'copy'"):
            check(DataConfig(path="task:cpoy"))


def test_only_records_of_a_task_have_a_score() -> None:
    assert learned(DataConfig(path="task:copy", records="lines")) is TASKS["copy"]
    assert learned(DataConfig(path=["task:copy"], records="lines")) is TASKS["copy"]
    for other in (
        DataConfig(path="task:copy"),
        DataConfig(path="copy", records="lines"),
        DataConfig(path=["task:copy", "task:parity"], records="lines"),
    ):
        assert learned(other) is None
