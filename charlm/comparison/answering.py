"""Exact scores of a comparison on a task, and the lengths at which each cell solves it.

A cell solves a task at a length if at least `SOLVED` of the examples are right with every seed.
"""

import itertools
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from charlm.comparison.analysis import RunAnalysis
from charlm.comparison.plan import Plan
from charlm.comparison.table import and_, runs_of, spread
from charlm.text.files.tasks import TESTS, TIMES, Task

SOLVED = 0.99
"""Least share of right examples."""

Row = dict[str, Any]


def methods(task: Task) -> list[str]:
    """Return the statistics of the answers, as stated in the plan."""
    lengths = (task.lengths(times) for times in TIMES)
    listed = ", ".join(
        f"{times}x: {one[0]} to {one[-1]}" for times, one in zip(TIMES, lengths, strict=True)
    )
    return [
        "answers: share of the examples that are right at every symbol, each the likeliest; the "
        "last weights of a run answer, not the checkpoint that validation selects",
        f"tests of {task.name}, at most {TESTS} examples each, none of them in the training text; "
        f"lengths at {listed}",
        f"a cell solves the task up to a length if at least {100 * SOLVED:g} % of the examples are "
        "right with every seed, there and at every shorter length",
    ]


def task_result(plan: Plan, analyses: Sequence[RunAnalysis]) -> dict[str, Any] | None:
    """Return the exact scores as JSON; None if the text is not that of a task.

    Values over seeds are in the order of the plan's seeds.
    """
    if (task := plan.task) is None:
        return None
    rows = [_row(e.label, runs_of(e.label, plan, analyses)) for e in plan.entries]
    return {
        "name": task.name,
        "about": task.about,
        "example": task.tests(1, 1)[0].line,
        "longest_trained": task.longest,
        "least_share": SOLVED,
        "tests": [_test(task, times) for times in TIMES],
        "rows": rows,
        "solved": [row["cell"] for row in rows if row["solved_to"] == TIMES[-1]],
        "sentences": task_sentences(task, rows, len(plan.seeds)),
    }


def _test(task: Task, times: int) -> dict[str, Any]:
    examples, lengths = task.tests(times), task.lengths(times)
    return {
        "times": times,
        "lengths": [lengths[0], lengths[-1]],
        "examples": len(examples),
        "chance": fmean(map(task.chance, examples)),
        "chance_symbols": 1 / task.choices,
    }


def _row(label: str, group: Sequence[RunAnalysis]) -> Row:
    scores = []
    for at, times in enumerate(TIMES):
        right = [float(one.answers[at].right.mean()) for one in group]
        count = sum(share >= SOLVED for share in right)
        scores.append(
            {
                "times": times,
                "right": spread(right),
                "symbols": spread([float(one.answers[at].symbols.mean()) for one in group]),
                "seeds_solved": count,
                "solved": count == len(group),
            }
        )
    return {"cell": label, "scores": scores, "solved_to": solved_to(scores)}


def solved_to(scores: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the longest length up to which all are solved, as a multiple; None if there is none.

    scores: by length, the shortest first.
    """
    solved = list(itertools.takewhile(lambda one: one["solved"], scores))
    return int(solved[-1]["times"]) if solved else None


def task_sentences(task: Task, rows: Sequence[Row], seeds: int) -> list[str]:
    """Describe the lengths to which each cell solves the task, the longest first."""
    with_seeds = "With its one seed" if seeds == 1 else f"With each of {seeds} seeds"
    sentences = []
    for times in [*reversed(TIMES), None]:
        cells = [row["cell"] for row in rows if row["solved_to"] == times]
        if not cells:
            continue
        named, plural = and_(cells), len(cells) > 1
        solves = f"{with_seeds} {named} solve{'' if plural else 's'} {task.name}"
        if times is None:
            verb = "do" if plural else "does"
            sentences.append(f"{named} {verb} not solve {task.name} at the lengths trained.")
        elif times == 1:
            sentences.append(f"{solves} at the lengths trained, but not beyond.")
        else:
            sentences.append(f"{solves} up to {times} times the lengths trained.")
    return sentences
