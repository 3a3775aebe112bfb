"""charlm from Python: `train` a model, `load` it, then sample and score.

>>> run = charlm.train("hello")                      # doctest: +SKIP
>>> charlm.load(run["run"]).sample("h", length=4)    # doctest: +SKIP
'ello'
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm import checkpoint, machine, rundir, runs, sample, score, settings
from charlm.checkpoint import Checkpoint
from charlm.config import SampleConfig
from charlm.evaluate import Score
from charlm.events import Finished
from charlm.model import CharModel
from charlm.sample import Stream
from charlm.vocabulary import Vocabulary


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
        return sample.generate(
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
        return score.text(self.model, self.vocabulary, text, window).score


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
    directory, folder = rundir.locate(Path(run) if run is not None else None)
    saved = checkpoint.read(folder or directory.find(which))
    model = CharModel.from_weights(saved.config.model, len(saved.vocabulary), saved.weights)
    return Loaded(saved, model.to(machine.device(device)), saved.vocabulary)


def train(
    config: str = "hello", set: Sequence[str] = (), run: str | Path | None = None
) -> dict[str, Any]:
    """Train as `charlm train CONFIG --set ... --run RUN` does; returns the summary."""
    planned = runs.plan(settings.load(config, set))
    trainer, directory = runs.begin(planned, Path(run) if run is not None else None)
    try:
        for event in trainer.train(directory):
            if isinstance(event, Finished):
                return event.summary
    finally:
        directory.unlock()
    raise AssertionError("training ends with Finished")
