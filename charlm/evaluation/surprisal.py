"""Surprisal of every symbol of a text under a model of torch's, by any backend and on any device.

The protocols are those of `reading`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.backends.choice import computation_of
from charlm.backends.step import Computation
from charlm.distributed.ranks import ALONE, Ranks
from charlm.evaluation import reading
from charlm.evaluation.reading import LANES, Floats, Integers, ReadCallback, fill_statefully, ignore
from charlm.evaluation.tally import Score, Tally
from charlm.models.recurrent import CharModel, States
from charlm.text.corpus import Corpus
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Symbols


@dataclass
class _Lanes:
    """Lanes that a computation reads. See `reading.Lanes`."""

    computation: Computation
    states: States

    @torch.inference_mode()
    def read(self, symbols: Integers, targets: Integers | None) -> Floats:
        """Read symbols; return predictions."""
        device = self.computation.model.head.weight.device
        read = torch.from_numpy(symbols).to(device)
        if targets is None:
            found, self.states = self.computation.log_probabilities(read, self.states)
        else:
            wanted = torch.from_numpy(targets).to(device)
            found, self.states = self.computation.surprisals(read, wanted, self.states)
        array: Floats = found.cpu().numpy()
        return array

    @torch.inference_mode()
    def restart(self) -> None:
        """Set the first lane to the initial state."""
        initial = self.computation.model.initial_states(1)
        for state, start in zip(self.states, initial, strict=True):
            for part, fresh in zip(state, start, strict=True):
                part[0] = fresh[0]


@dataclass(frozen=True)
class _Network:
    """A computation as a `reading.Network`."""

    computation: Computation

    @property
    def vocabulary_size(self) -> int:
        return self.computation.model.vocabulary_size

    @torch.inference_mode()
    def lanes(self, count: int) -> _Lanes:
        """Return lanes in the initial state."""
        return _Lanes(self.computation, self.computation.model.initial_states(count))


def surprisals(
    computation: Computation,
    stretch: Stretch,
    *,
    window: int = 0,
    lanes: int = LANES,
    advanced: ReadCallback = ignore,
) -> Tensor:
    """Return -ln p of each symbol of a stretch. Arguments, shapes: `reading.surprisals`."""
    network = _Network(computation)
    found = reading.surprisals(network, stretch, window=window, lanes=lanes, advanced=advanced)
    return torch.from_numpy(found)


def log_distributions(
    model: CharModel, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
) -> Tensor:
    """Return ln p of every symbol at each position. Shapes: [N, V]. See `surprisals`."""
    network = _Network(computation_of(model))
    found = reading.log_distributions(network, stretch, window=window, advanced=advanced)
    return torch.from_numpy(found)


def evaluate(
    computation: Computation,
    corpus: Corpus,
    name: str,
    *,
    window: int = 0,
    lanes: int = LANES,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, Score]:
    """Return the surprisals of a split's symbols, in nats, and its score.

    The first symbol of the text, which has no context, is left out of both. name: "train",
    "validation" or "test". ranks: each rank reads its share of the lanes, statefully; its
    surprisals of other lanes are zero, its score is that of all lanes.
    """
    stretch = corpus.stretch(name).with_context()
    if ranks.size == 1:
        each = surprisals(computation, stretch, window=window, lanes=lanes)
    else:
        assert not window
        each = torch.zeros(len(stretch))
        network = _Network(computation)
        fill_statefully(network, stretch, each.numpy(), lanes, share=ranks.share)
    tally = Tally(corpus.vocabulary)
    tally.add_nats(ranks.sum(each.sum(dtype=torch.float64).item()), len(each))
    tally.add_split(corpus, name)
    return each, tally.score()


@torch.inference_mode()
def distributions(model: CharModel, symbols: Symbols) -> Tensor:
    """Predict the distribution after each symbol of a short text read from the zero state.

    Shapes: [len(symbols), V].
    """
    inputs = torch.from_numpy(symbols.astype(np.int64)).unsqueeze(1).to(model.head.weight.device)
    logits, _ = model(inputs, model.initial_states(1))
    chances: Tensor = logits.squeeze(1).float().softmax(-1).cpu()
    return chances
