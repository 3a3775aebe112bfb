"""Series of comparisons in one folder, one after another: those of a study, or of several texts.

The plans of all are written before the first run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from charlm.common import outputs
from charlm.common.errors import UsageError
from charlm.common.files import refuse_links
from charlm.comparison.execution import Compared, Comparison, Stage, locked
from charlm.comparison.plan import Plan
from charlm.comparison.plan_file import FILE, PlanFile
from charlm.comparison.result import Result
from charlm.comparison.runs import RunnerEvent
from charlm.text.corpus import Corpus


@dataclass(frozen=True)
class Part:
    """A comparison of a series.

    name: in messages. folder: its name in the series' folder. command: the command line that
    repeats it.
    """

    name: str
    folder: str
    plan: Plan
    command: str


@dataclass(frozen=True)
class PartCompared:
    """The end of one of the comparisons, with its result."""

    part: Part
    comparison: Comparison
    result: Result


SeriesEvents = Iterator[Stage | RunnerEvent | PartCompared]
Agree = Callable[[Sequence[PlanFile]], PlanFile]
"""Writer of the plan of a series. It is called with those of the comparisons, in order."""


class Series:
    """Comparisons in a directory; `run` it again to continue where it stopped.

    kind: of the parts, in messages, as in "text 2 of 3". goes_longer: see `Comparison`. agree:
    called before the first run; None writes no plan of the whole.

    Raises: UsageError if `path` holds something else or cannot be written.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        path: Path,
        kind: str,
        *,
        goes_longer: bool = True,
        agree: Agree | None = None,
    ) -> None:
        self.parts, self.path, self._kind, self._agree = parts, path, kind, agree
        make_folder(path)
        refuse_links(path, [*(part.folder for part in parts), *outputs.SERIES_FOLDERS])
        self._goes_longer, self._stopped = goes_longer, False
        self._comparisons: dict[str, Comparison] = {}
        """By folder, once their folders are there."""
        self.plan_file: PlanFile | None = None

    @property
    def corpora(self) -> dict[str, Corpus]:
        """The different texts, by the name of the first comparison on each."""
        names = {part.plan.corpus.fingerprint: part for part in reversed(self.parts)}
        return {part.name: part.plan.corpus for part in reversed(names.values())}

    def was_stopped(self) -> bool:
        """Return True if `stop` was called."""
        return self._stopped

    def stop(self) -> None:
        """Request that `run` end after the current step (safe in a signal handler)."""
        self._stopped = True
        for comparison in list(self._comparisons.values()):
            comparison.stop()

    def run(self) -> SeriesEvents:
        """Carry out the comparisons, after all plans are written; end early if `stop` was called.

        Raises: as `Comparison.run`.
        """
        with locked(self.path):
            yield from self._prepare()
            if self.was_stopped():
                return
            each = [(part, self._comparisons[part.folder]) for part in self.parts]
            expected = [sum(run.seconds for run in own.expected_runs()) for _, own in each]
            for number, (part, comparison) in enumerate(each):
                if self.was_stopped():
                    return
                yield self._begun(part)
                for event in comparison.run(part.command, sum(expected[number + 1 :])):
                    if isinstance(event, Compared):
                        yield PartCompared(part, comparison, event.result)
                    else:
                        yield event

    def _prepare(self) -> Iterator[Stage | RunnerEvent]:
        """Write the plans of all comparisons, then that of the whole.

        Comparisons that have a plan come first: other terms are refused before a new folder is
        made.
        """
        for part in sorted(self.parts, key=lambda one: not self._has_plan(one)):
            yield self._begun(part)
            folder = self.path / part.folder
            comparison = Comparison(
                part.plan, folder, goes_longer=self._goes_longer, whole=self.path
            )
            self._comparisons[part.folder] = comparison
            if self.was_stopped():
                return
            for event in comparison.prepare():
                assert not isinstance(event, Compared)
                yield event
            if self.was_stopped():
                return
        each = [self._comparisons[part.folder] for part in self.parts]
        if self._agree is not None:
            self.plan_file = self._agree([one.agreed.file for one in each if one.agreed])
            yield Stage(f"the plan of all: {FILE}, SHA-256 {self.plan_file.sha256}")
        runs = [run for comparison in each for run in comparison.expected_runs()]
        if runs:
            yield Stage(
                f"{len(runs)} runs in all, about {_about(sum(run.seconds for run in runs))}"
            )

    def _has_plan(self, part: Part) -> bool:
        return (self.path / part.folder / FILE).is_file()

    def _begun(self, part: Part) -> Stage:
        number = 1 + self.parts.index(part)
        return Stage(f"{self._kind} {number} of {len(self.parts)}: {part.name}")


def make_folder(path: Path) -> None:
    """Create the folder of a series and, if it is empty, mark it as written by charlm: texts in it
    were made by charlm, so none is the user's. Raises: UsageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not any(path.iterdir()):
            outputs.mark(path)
    except OSError as error:
        raise UsageError(
            f"cannot write the comparisons {path}: {error.strerror}",
            "give an --out that you can write to",
        ) from None


def _about(seconds: float) -> str:
    """Format an estimate of a duration."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
