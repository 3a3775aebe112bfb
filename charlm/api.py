"""charlm from Python: `train` a model, `load` it, then sample and score.

>>> run = charlm.train("hello")                      # doctest: +SKIP
>>> charlm.load(run["run"]).sample("h", length=4)    # doctest: +SKIP
'ello'
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.backends.device import resolve_device
from charlm.config import loading
from charlm.config.schema import SampleConfig
from charlm.evaluation import scoring
from charlm.evaluation.surprisal import Score
from charlm.models.recurrent import CharModel
from charlm.runs import checkpoint, directory
from charlm.runs.checkpoint import Checkpoint
from charlm.sampling import generate
from charlm.sampling.generate import Stream
from charlm.text.vocabulary import Vocabulary
from charlm.training import setup
from charlm.training.events import Finished


@dataclass(frozen=True)
class Loaded:
    """A trained model with its vocabulary."""

    checkpoint: Checkpoint
    model: CharModel
    vocabulary: Vocabulary

    def stream(
        self,
        prompt: str = "",
        *,
        options: SampleConfig | None = None,
        seed: int = 0,
        num: int = 1,
        stop: str = "",
        thread_count: int = 1,
        streams: list[Stream] | None = None,
        precision: str = "auto",
    ) -> Iterator[str]:
        """The pieces of a text as they are written; see `charlm.sample.generate`."""
        return generate.generate(
            self.model,
            self.vocabulary,
            options or self.checkpoint.config.sample,
            prompt=prompt,
            seed=seed,
            num=num,
            stop=stop,
            thread_count=thread_count,
            streams=streams,
            precision=precision,
        )

    def sample(self, prompt: str = "", *, seed: int = 0, stop: str = "", **options: Any) -> str:
        """A text that continues `prompt`. options: `length`, `temperature`, `top_k`, `top_p`."""
        merged = {**self.checkpoint.config.sample.model_dump(), **options}
        chosen = SampleConfig.model_validate(merged)
        return "".join(self.stream(prompt, options=chosen, seed=seed, stop=stop))

    def score(self, text: str, *, window: int = 0) -> Score:
        """How well the model predicts a text, in float32; see `charlm.evaluate`."""
        return scoring.text(self.model, self.vocabulary, text, window).score


def load(
    run: str | Path | None = None,
    *,
    which: str = "best",
    device: str = "cpu",
) -> Loaded:
    """The model of a run directory, of a checkpoint in one, or of the latest run in `runs/`.

    which: "best", "latest" or a step's number. device: as `--device`.

    Raises: UsageError (no such run), CheckpointError (damaged, foreign).
    """
    found, folder = directory.locate(Path(run) if run is not None else None)
    saved = checkpoint.read(folder or found.find(which))
    model = CharModel.from_weights(saved.config.model, len(saved.vocabulary), saved.weights)
    return Loaded(saved, model.to(resolve_device(device)), saved.vocabulary)


def train(
    config: str = "hello", set: Sequence[str] = (), run: str | Path | None = None
) -> dict[str, Any]:
    """Train as `charlm train CONFIG --set ... --run RUN` does; returns the summary."""
    planned = setup.plan(loading.load(config, set))
    trainer, begun = setup.begin(planned, Path(run) if run is not None else None)
    try:
        for event in trainer.train(begun):
            if isinstance(event, Finished):
                return event.summary
    finally:
        begun.unlock()
    raise AssertionError("training ends with Finished")
