"""A loaded model, with methods to sample, score, mix, adapt and analyse it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

import numpy as np
import torch
from torch import nn

from charlm.api.mixed import Mixed, adapted, train_split
from charlm.api.notebook import ShownScore
from charlm.api.options import LoadOptions, PathLike, WritingOptions, paths_of
from charlm.api.plain import generation
from charlm.backends.device import exact_float32, resolve_device
from charlm.common.errors import UsageError
from charlm.evaluation.adaptation import AdaptiveReader, adaptive_reader
from charlm.evaluation.ngram import ngram_of
from charlm.evaluation.scoring import score_text
from charlm.evaluation.tally import Score
from charlm.inspection.excerpt import characters
from charlm.inspection.gates import gates_of, known_symbols
from charlm.inspection.influence import influence
from charlm.inspection.trace import Table, Trace
from charlm.models.modules import to_torch
from charlm.models.recurrent import CharModel
from charlm.runs import checkpoint
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.finding import find_checkpoint, find_partners
from charlm.runs.own_text import with_text
from charlm.sampling.best import BestOf
from charlm.sampling.engine import Engine
from charlm.sampling.generate import Generation
from charlm.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from charlm.reports.inspection.views import Inspection


@dataclass(frozen=True, repr=False)
class Loaded:
    """A trained model with its vocabulary."""

    checkpoint: Checkpoint
    model: CharModel
    vocabulary: Vocabulary

    def __repr__(self) -> str:
        cell, place = self.checkpoint.config.model.cell, self.checkpoint.folder
        return f"<charlm.Loaded: {cell}, {len(self.vocabulary)} symbols, {place}>"

    def sample(
        self, prompt: str = "", *, best_of: int = 1, **options: Unpack[WritingOptions]
    ) -> str:
        """Write a text that continues `prompt`.

        best_of: number of candidates, of which the most probable is returned, see `sampling.best`.
            options: see `WritingOptions`. For mixtures, adaptation and several texts: `api.sample`.

        Raises: UsageError for an unknown option or an invalid value.
        """
        if best_of < 1:
            raise UsageError(f"best_of = {best_of} is no number of candidates", "1 is one text")
        _refuse_several(options)
        candidates = self.generation(prompt, num=best_of, **options)
        return "".join(BestOf(candidates, best_of, self.vocabulary))

    def stream(self, prompt: str = "", **options: Unpack[WritingOptions]) -> Iterator[str]:
        """Write like `sample`; yield the pieces of the text as they are written."""
        _refuse_several(options)
        return iter(self.generation(prompt, **options))

    def generation(
        self,
        prompt: str = "",
        make: Callable[[int], Engine] | None = None,
        *,
        num: int = 1,
        **options: Unpack[WritingOptions],
    ) -> Generation:
        """Prepare `num` texts; iterating over the result writes them into its `samples`.

        make: an engine factory, called with `num`; None samples from this model alone.

        See `Generation` and `sample`.
        """
        return generation(self, prompt, make, num, options)

    def mixed_with(self, others: Sequence[PathLike]) -> "Mixed":
        """Return a mixture of this model and others: runs, or "ngram" for the n-gram model of this
        run's train split.

        Raises: UsageError (named twice, of another vocabulary), DataError, CheckpointError.
        """
        own, models = self.name, {self.name: self.model}
        for other, folder in find_partners(self.checkpoint.folder, others).items():
            loaded = load(folder, device=str(self.model.head.weight.device))
            if loaded.vocabulary != self.vocabulary:
                raise UsageError(
                    f"{other} reads other symbols than {own}",
                    "mix runs that were trained on the same text, cut in the same way",
                )
            models[other] = loaded.model
        ngram = ngram_of(self.checkpoint) if "ngram" in others else None
        return Mixed(self.checkpoint, self.vocabulary, models, ngram)

    def adaptive(self) -> AdaptiveReader:
        """Return a reader for dynamic evaluation, its learning rate tuned on the train split.

        Raises: DataError if the run's text has changed.
        """
        return adaptive_reader(self.model, train_split(self.checkpoint))

    def adapted_to(self, text: str) -> "Loaded":
        """Return this model adapted to a text by the reader of `adaptive`.

        Raises: UsageError for a text of fewer than two symbols; as `adaptive`.
        """
        (model,) = adapted([self.model], self.checkpoint, self.vocabulary.encode(text))
        return replace(self, model=model)

    @property
    def name(self) -> str:
        """See `Checkpoint.name`."""
        return self.checkpoint.name

    def states(self, text: str) -> Trace:
        """Return every part of the state of each layer over a text, read from the initial state.

        Shapes: [T, H] each. Raises: UsageError for an empty or too long text.
        """
        return self._trace(text, [p for cell in self.model.layers() for p in cell.state_parts])

    def gates(self, text: str) -> Trace:
        """Return the value of every gate over a text, by the letters of the equations: i, f, g, o
        of an LSTM; r, z, n of a GRU.

        Shapes, Raises: as for `states`; UsageError for a cell without gates.
        """
        letters = [letter for cell in self.model.layers() for letter in cell.letters]
        if set(letters) <= {"h"}:
            raise UsageError(
                f"the cell {self.model.config.cell} has no gates", "its states: loaded.states(text)"
            )
        return self._trace(text, letters)

    def _trace(self, text: str, letters: Sequence[str]) -> Trace:
        return gates_of(self.model, self.vocabulary, text).only(letters)

    def logits(self, text: str) -> Table:
        """Return the logits of the symbol after each one of a text, read from the initial state.

        Shapes: [T, V]; the columns are the symbols. Raises: as `states`.
        """
        symbols = known_symbols(self.vocabulary, text)
        given = torch.from_numpy(symbols.astype(np.int64)).unsqueeze(1)
        with torch.inference_mode():
            found, _ = self.model(
                given.to(self.model.head.weight.device), self.model.initial_states(1)
            )
        every = [self.vocabulary.symbol(index) for index in range(len(self.vocabulary))]
        return Table(characters(self.vocabulary, symbols), every, found.squeeze(1).cpu().numpy())

    def gradients(self, text: str) -> Table:
        """Return the influence of each symbol of a text on the prediction of each later one: row t,
        column s. See `charlm.inspection.influence.influence`.

        Shapes: [T, T]. Raises: UsageError for a too short or too long text.
        """
        symbols = known_symbols(self.vocabulary, text)
        read = characters(self.vocabulary, symbols)
        return Table(read, read, influence(self.model, symbols))

    def to_torch(self) -> nn.RNNBase:
        """Return the cells as an `nn.LSTM`, `nn.GRU` or `nn.RNN`. See `models.modules.to_torch`."""
        return to_torch(self.model)

    def inspect(self) -> "Inspection":
        """Return the analyses of `charlm inspect`, with a method for each view: a view has `data`,
        and `pictures` whose `figure()` is one of matplotlib's.

        >>> loaded.inspect().gates("Once upon").pictures[0].figure()      # doctest: +SKIP
        """
        from charlm.reports.inspection.views import Inspection  # here: it imports matplotlib

        return Inspection(Path(self.name).name, self.checkpoint, self.model, self.vocabulary)

    def score(self, text: str) -> Score:
        """Return the model's score on a text, in float32, read statefully.

        Units: `loss` in nats per symbol; `bits_per_character`, `bits_per_byte` of the text.

        Raises: DataError for a text without a known symbol.
        """
        return self.surprisals(text).score

    def surprisals(self, text: str) -> ShownScore:
        """Return `score` with the surprisal of every symbol, which a notebook shows as coloured
        text. Shapes: symbols, surprisals [N].

        Units: surprisals in nats. Raises: as `score`.
        """
        own = self.checkpoint.config.data
        found = score_text(self.model, self.vocabulary, text, data=own)
        return ShownScore(found.score, found.symbols, found.surprisals, self.vocabulary)


def load(
    run: PathLike | None = None,
    *,
    which: str | int = "best",
    device: str = "cpu",
    data: PathLike | Sequence[PathLike] | None = None,
) -> Loaded:
    """Load the model of a run directory, of a checkpoint in one, or of the latest run in `runs/`.

    which: "best", "latest" or a step's number. device: "cpu", "cuda", "cuda:N", "mps" or "auto"; on
        CUDA, cuDNN's TF32 is switched off in this process, so that float32 is float32. data: paths
        of the run's text, if it was moved or the run is a copy.

    Raises: UsageError (no such run or device), CheckpointError (damaged, foreign), DataError
        (`data` is another text).
    """
    on = resolve_device(device)
    saved = checkpoint.read(find_checkpoint(Path(run) if run is not None else None, str(which)))
    model = CharModel.from_weights(
        saved.config.model, len(saved.vocabulary), saved.weights, saved.vocabulary.end
    )
    exact_float32(on)
    if data is not None:
        saved = with_text(saved, paths_of(data))
    return Loaded(saved, model.to(on), saved.vocabulary)


def _refuse_several(options: Mapping[str, object]) -> None:
    """Check that one text is requested. Raises: UsageError."""
    if "num" in options:
        raise UsageError(
            f"num = {options['num']!r}, but this writes one text",
            "for several: charlm.sample(loaded, num=3).texts",
        )


def open_run(run: Loaded | PathLike | None, options: LoadOptions) -> Loaded:
    """Return a loaded model as it is, or load a run. options: those of `load` are read.

    Raises: as `load`; UsageError for options of `load` with a loaded model.
    """
    own = {name: value for name, value in options.items() if name in LoadOptions.__annotations__}
    if not isinstance(run, Loaded):
        return load(run, **cast("LoadOptions", own))
    if own:
        raise UsageError(f"{', '.join(own)}: the model is loaded already", "give it to charlm.load")
    return run


def inspect(run: PathLike | None = None, **options: Unpack[LoadOptions]) -> "Inspection":
    """Return the analyses of a run's model, see `Loaded.inspect`. Arguments, Raises: as `load`."""
    return load(run, **options).inspect()
