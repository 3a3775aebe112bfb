"""Displays of progress: a bar on a terminal, plain lines now and then elsewhere."""

import io
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from charlm.common import progress
from charlm.common.errors import DivergedError
from charlm.comparison.cells import Entry
from charlm.comparison.execution import Stage
from charlm.comparison.plan import PlannedRun
from charlm.comparison.runs import Advanced, Begun, Diverged
from charlm.config.schema import Config, ModelConfig, TrainConfig
from charlm.terminal.comparison import ComparisonProgress
from charlm.terminal.progress import TaskProgress
from charlm.terminal.score import ScoringProgress
from charlm.terminal.training import TrainingProgress
from charlm.training.events import Stalled, Trained

Said = Callable[[], list[str]]


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that all displays read."""
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found)
    return found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Return a function that returns the lines on stderr since its last call."""
    return lambda: capsys.readouterr().err.splitlines()


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Return the lines so far; a bar that is drawn again is a line of its own."""
        text = self.getvalue().replace("\r", "\n")
        return [line.strip() for line in text.splitlines() if line.strip()]


def trained(step: int, seconds: float) -> Trained:
    return Trained(step, 100 * step, seconds, 0.693, 1.25, 0.01, 0.5)


# ---- training -----------------------------------------------------------------------------------


def test_a_training_log_has_a_line_every_ten_seconds(clock: Clock, said: Said) -> None:
    with TrainingProgress(TrainConfig(steps=100), start=0, quiet=False) as shown:
        clock.now += 9
        shown.show(trained(10, 9.0))
        assert said() == []
        clock.now += 1
        shown.show(trained(20, 10.0))
        line = "step 20/100 · loss 0.693 · 1.250 bits/char · 200 chars/s · 0:40 left"
        assert said() == [line]
        clock.now += 9
        shown.show(trained(30, 19.0))
        assert said() == []


def test_the_time_left_ends_with_the_time_budget(clock: Clock, said: Said) -> None:
    config = TrainConfig(steps=100, seconds=30.0)
    with TrainingProgress(config, start=0, quiet=False) as shown:
        for seconds, left in ((10.0, "0:20"), (40.0, "0:00")):
            clock.now += 10
            shown.show(trained(20, seconds))
            (line,) = said()
            assert line.endswith(f" · {left} left")


@pytest.mark.parametrize(
    ("overfits", "advice"),
    [
        (True, "while the training loss falls: the model is learning the text by heart."),
        (False, "and neither does the training loss: it wanders."),
    ],
)
def test_a_validation_that_no_longer_improves_gets_advice(
    overfits: bool, advice: str, said: Said
) -> None:
    with TrainingProgress(TrainConfig(), start=0, quiet=False) as shown:
        shown.show(Stalled(5000, 4, 1200, overfits=overfits))
    (line,) = said()
    since = "the validation has not improved for 4 evaluations, since step 1,200, "
    assert line.startswith(since + advice)


# ---- scoring ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "line"),
    [(5000, "300 symbols scored of at most 5,000"), (None, "300 symbols scored")],
)
def test_scoring_is_logged_every_ten_seconds(
    total: int | None, line: str, clock: Clock, said: Said
) -> None:
    with ScoringProgress(total) as shown:
        for seconds, lines in ((1, []), (10, []), (10.5, [line]), (11, [])):
            clock.now = 1000.0 + seconds
            shown.advanced(100)
            assert said() == lines


def test_scoring_of_over_a_second_has_a_bar(clock: Clock) -> None:
    with redirect_stderr(Screen()) as screen, ScoringProgress(1000) as shown:
        clock.now += 1
        shown.advanced(100)
        assert screen.lines() == []
        clock.now += 0.5
        shown.advanced(100)
        assert "200/1000 symbols" in screen.lines()[-1]
        shown.advanced(5000)  # more than the file had at first
        assert "1000/1000 symbols" in screen.lines()[-1]
        assert shown._bar.disable is False
    assert shown._bar.disable is True  # closed


# ---- tasks --------------------------------------------------------------------------------------


def test_a_task_is_logged_every_ten_seconds_with_the_time_left(clock: Clock, said: Said) -> None:
    with TaskProgress():
        for seconds, done, lines in (
            (0, 0, []),
            (10, 2, []),
            (20, 5, ["counting: 50 % · 0:20 left"]),
            (25, 6, []),
            (31, 8, ["counting: 80 % · 0:08 left"]),
            (60, 10, []),
        ):
            clock.now = 1000.0 + seconds
            progress.report("counting", done, 10)
            assert said() == lines


# ---- comparisons --------------------------------------------------------------------------------


@pytest.fixture
def planned(tmp_path: Path) -> PlannedRun:
    config = Config(model=ModelConfig(cell="gru"), train=TrainConfig(steps=100, seed=3))
    return PlannedRun(Entry("gru", config, ()), config, tmp_path, 0.5)


def test_a_run_from_other_conditions_is_named(planned: PlannedRun, said: Said) -> None:
    changes = ["torch 2.1 instead of 2.0", "2 threads instead of 1"]
    with ComparisonProgress(quiet=False) as shown:
        shown.show(Begun(planned, 1, 4, 100, True, changes))
    assert said() == [
        "warning: gru, seed 3 was not trained under the same conditions: "
        "torch 2.1 instead of 2.0; 2 threads instead of 1",
        "run 1/4 · gru, seed 3 · found finished",
    ]


def test_a_run_that_diverged_is_named_with_its_error(planned: PlannedRun, said: Said) -> None:
    error = DivergedError("the loss is not finite at step 7", "lower it")
    with ComparisonProgress(quiet=False) as shown:
        shown.show(Diverged(planned, error))
    assert said() == ["gru, seed 3: the loss is not finite at step 7"]


def test_a_comparison_on_a_terminal_has_one_bar_over_all_runs(
    planned: PlannedRun, clock: Clock
) -> None:
    with redirect_stderr(Screen()) as screen, ComparisonProgress(quiet=False) as shown:
        shown.show(Stage("training 2 runs"))
        assert "training 2 runs" in screen.lines()
        shown.show(Begun(planned, 2, 2, 0, False, []))
        clock.now += 30
        shown.show(Advanced(planned, trained(20, 10.0), 90.0))
        line = screen.lines()[-1]
        assert line.startswith("25%")
        assert line.endswith(
            "run 2/2 · gru, seed 3 · step 20/100 · 1.250 bits/char · 1:30 left of the runs"
        )
        bar = shown._bar
        assert bar is not None
        assert bar.disable is False
    assert bar.disable is True  # closed
