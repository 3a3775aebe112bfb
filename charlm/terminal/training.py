"""The progress of a training run: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from typing import Any

from tqdm import tqdm

from charlm.config.schema import TrainConfig
from charlm.terminal.console import duration, say
from charlm.training.events import Evaluated, Event, Finished, Trained

SECONDS_BETWEEN_LINES = 10.0


def bar(total: float, start: float, status: str) -> "tqdm[Any] | None":
    """A bar on a terminal, followed by `status` in tqdm's terms; None elsewhere."""
    if not sys.stderr.isatty():
        return None
    return tqdm(
        total=total,
        initial=start,
        dynamic_ncols=True,
        file=sys.stderr,
        bar_format="{percentage:3.0f}% {bar:20} " + status,
        leave=False,
    )


class Progress:
    """Shows the events of one training run. Use as a context manager around the loop."""

    def __init__(self, settings: TrainConfig, *, start: int, quiet: bool) -> None:
        self.settings, self.quiet = settings, quiet
        self._last_line = time.monotonic()
        self._bar = None if quiet else bar(settings.steps, start, "{n_fmt}/{total_fmt} {desc}")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, event: Event) -> None:
        match event:
            case Trained():
                self._trained(event)
            case Evaluated():
                self._evaluated(event)
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
            say(f"step {event.step}/{self.settings.steps} · {status}")

    def _seconds_left(self, event: Trained) -> float:
        by_steps = (self.settings.steps - event.step) * event.seconds / event.step
        if self.settings.seconds:
            return max(0.0, min(by_steps, self.settings.seconds - event.seconds))
        return by_steps

    def _evaluated(self, event: Evaluated) -> None:
        if self.quiet:
            return
        line = (
            f"step {event.step:>6} · {event.seconds:7.1f} s · evaluated: loss {event.loss:.4f} · "
            f"{event.bits_per_character:.4f} bits/char{' · best' if event.is_best else ''}"
        )
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            say(line)
