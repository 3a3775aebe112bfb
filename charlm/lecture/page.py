"""The lecture's page: all chapters in the order of the notes, as one view."""

import time
from collections.abc import Callable, Iterator

from charlm.common.progress import within
from charlm.lecture import gru, memory, recurrence, tracking, usage
from charlm.lecture.chapter import Chapter
from charlm.lecture.lab import Lab
from charlm.reports.view import View
from charlm.reports.words import Words

CHAPTERS: list[Callable[[Lab, Words], Chapter]] = [
    recurrence.same_function,
    recurrence.kinds,
    recurrence.hello,
    recurrence.zero_centred,
    recurrence.truncated,
    recurrence.vanishing_toy,
    recurrence.vanishing,
    memory.gates,
    memory.keep_or_erase,
    memory.belt,
    gru.two_forms,
    gru.one_three_four,
    gru.faster,
    gru.as_good,
    memory.addition,
    tracking.parity,
    usage.parameters,
    usage.shapes,
    usage.output_and_last,
    usage.initialisation,
    usage.early_steps,
    usage.packing,
    usage.vocabulary,
    usage.korean,
]


def chapters(lab: Lab, words: Words) -> Iterator[Chapter]:
    """Measure the chapters one after another. Raises: DataError for a text that is too short."""
    usage.line_lengths(lab)  # before a minute of training
    for number, make in enumerate(CHAPTERS):
        with within("the lecture", number, number + 1, len(CHAPTERS)):
            chapter = make(lab, words)
        yield chapter


def lecture(lab: Lab, words: Words, began: float) -> View:
    """Measure everything, and return it as a page. began: by `time.perf_counter`."""
    every = list(chapters(lab, words))
    judged = [chapter.holds for chapter in every if chapter.holds is not None]
    values = {
        "holds": sum(judged),
        "claims": len(judged),
        "parameters": round(lab.trained["lstm"].parameters, -3),
        "text": lab.name or words.text("page", "library"),
        "seconds": time.perf_counter() - began,
    }
    return View(
        "lecture",
        words.text("page", "title", values),
        [words.text("page", "first")],
        [chapter.section(words) for chapter in every],
        [chapter.as_json(words) for chapter in every],
        about=words.text("page", "about", values),
        language=words.language,
        again=words.text("page", "again"),
    )
