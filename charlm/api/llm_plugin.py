"""A plugin for the command `llm`: `llm -m charlm "Once upon a time" -o run runs/my-1`.

The package llm loads it by an entry point of charlm's.
"""

from collections.abc import Callable, Iterator
from typing import Any

import llm
from pydantic import Field

from charlm.api.options import WritingOptions

NAMES = ("length", "temperature", "top_k", "top_p", "min_p", "seed", "stop")


@llm.hookimpl
def register_models(register: Callable[[llm.Model], None]) -> None:
    """Register the model `charlm`."""
    register(Charlm())


class Charlm(llm.Model):
    """The models of charlm: the option `run` names one; the default is the latest run in runs/."""

    model_id = "charlm"
    can_stream = True

    class Options(llm.Options):
        """Options of a prompt; the run's values are the defaults."""

        run: str | None = Field(default=None, description="A run directory; default: the latest")
        length: int | None = Field(default=None, description="Symbols to write")
        temperature: float | None = Field(default=None, description="0 is the most probable")
        top_k: int | None = Field(default=None, description="Only the K most probable symbols")
        top_p: float | None = Field(default=None, description="Only those that reach P together")
        min_p: float | None = Field(default=None, description="Only those P times as probable")
        seed: int | None = Field(default=None, description="The same seed gives the same text")
        stop: str | None = Field(default=None, description="End before this text")

    def execute(
        self, prompt: Any, stream: bool, response: Any, conversation: Any = None
    ) -> Iterator[str]:
        """Yield pieces of the text that continues a prompt, and all of a conversation before it.

        Raises: UsageError, CheckpointError as `api.load` and `Loaded.sample`.
        """
        from charlm.api.loaded import load  # here: it imports torch

        given = {name: getattr(prompt.options, name) for name in NAMES}
        options: WritingOptions = {k: v for k, v in given.items() if v is not None}  # type: ignore[assignment]
        before = "".join(
            f"{turn.prompt.prompt}{turn.text()}" for turn in getattr(conversation, "responses", [])
        )
        yield from load(prompt.options.run).stream(before + prompt.prompt, **options)
