"""Progress of a training run: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from typing import Any

from tqdm import tqdm

from charlm.config.schema import TrainConfig
from charlm.terminal.console import duration, print_status
from charlm.text.display import visible
from charlm.training.events import Evaluated, Event, Finished, Sampled, Stalled, Trained

SECONDS_BETWEEN_LINES = 10.0


def bar(
    total: float,
    start: float,
    status: str,
    *,
    bar_format: str = "{percentage:3.0f}% {bar:20} ",
) -> "tqdm[Any] | None":
    """Make a bar on a terminal, followed by `status` in tqdm's terms; None elsewhere."""
    if not sys.stderr.isatty():
        return None
    return tqdm(
        total=total,
        initial=start,
        dynamic_ncols=True,
        file=sys.stderr,
        bar_format=bar_format + status,
        leave=False,
    )


class TrainingProgress:
    """Display of a training run's events. Use it as a context manager around the loop."""

    def __init__(self, config: TrainConfig, *, start: int, quiet: bool) -> None:
        self.config, self.quiet = config, quiet
        self._last_line = time.monotonic()
        self._bar = None if quiet else bar(config.steps, start, "{n_fmt}/{total_fmt} {desc}")

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, event: Event) -> None:
        """Show an event; some kinds are ignored."""
        match event:
            case Trained():
                self._trained(event)
            case Evaluated():
                self._evaluated(event)
            case Sampled():
                self._sampled(event)
            case Stalled():
                self._stalled(event)
            case Finished():
                if self._bar is not None:
                    self._bar.close()

    def _trained(self, event: Trained) -> None:
        rate = event.characters / max(event.seconds, 1e-9)
        left = self._seconds_left(event)
        status = (
            f"loss {event.loss:.3f} · {event.bits_per_character:.3f} bits/char · "
            f"{rate:,.0f} chars/s · {duration(left)} left"
        )
        if self._bar is not None:
            self._bar.n = event.step
            self._bar.set_description_str(status, refresh=True)
        elif not self.quiet and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            print_status(f"step {event.step}/{self.config.steps} · {status}")

    def _seconds_left(self, event: Trained) -> float:
        by_steps = (self.config.steps - event.step) * event.seconds / event.step
        if self.config.seconds:
            return max(0.0, min(by_steps, self.config.seconds - event.seconds))
        return by_steps

    def _evaluated(self, event: Evaluated) -> None:
        self._line(
            f"step {event.step:>6} · {event.seconds:7.1f} s · evaluated: loss {event.loss:.4f} · "
            f"{event.bits_per_character:.4f} bits/char{' · best' if event.is_best else ''}"
        )

    def _sampled(self, event: Sampled) -> None:
        """Show a sample on a terminal; elsewhere it is in metrics.jsonl only."""
        if self._bar is not None and event.text.strip():
            lines = visible(event.text).strip("\n").splitlines()
            self._line("\n".join(f"    {line}" for line in lines))

    def _stalled(self, event: Stalled) -> None:
        since = (
            f"the validation has not improved for {event.evaluations} evaluations, since step "
            f"{event.best_step:,}"
        )
        if event.overfits:
            advice = (
                "while the training loss falls: the model is learning the text by heart. The best "
                "checkpoint is kept; more text, more model.dropout or fewer steps would help"
            )
        else:
            advice = (
                "and neither does the training loss: it wanders. A lower train.learning_rate would "
                "help"
            )
        self._line(f"{since}, {advice}.")

    def _line(self, text: str) -> None:
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print_status(text)
