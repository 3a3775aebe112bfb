"""Writing with several models at once: their probabilities averaged, symbol by symbol."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.models.ngram import NGram
from charlm.sampling.engine import Engine, StepwiseEngine


class MixtureEngine(StepwiseEngine):
    """Writes N texts by the average of K models. See `Engine`.

        p(s) = sum_k w_k p_k(s)

    engines: of the networks. ngram: the last of the K, if it is not None. weights: by the case of
    the n-gram model (see `NGram.cases`), [cases, K]; rows that sum to one.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        ngram: NGram | None,
        weights: NDArray[np.float64],
        num: int,
        vocabulary_size: int,
    ) -> None:
        self._engines, self._ngram = engines, ngram
        self._log_weights = torch.from_numpy(np.log(weights))
        self._logits = torch.zeros(num, vocabulary_size)
        back = ngram.order - 1 if ngram else 0
        self._contexts = np.full((num, back), vocabulary_size, np.int64)
        self._every = np.arange(vocabulary_size)

    @torch.inference_mode()
    def read(self, symbols: Tensor) -> Tensor:
        """Read one more symbol in every text; return the logits."""
        num = len(symbols)
        chances = [engine.read(symbols).cpu().double().log_softmax(-1) for engine in self._engines]
        cases = np.zeros(num, np.int64)
        if self._ngram is not None:
            read = symbols.cpu().numpy()[:, None]
            self._contexts = np.concatenate([self._contexts, read], axis=1)[:, 1:]
            cases = self._ngram.cases(self._contexts)
            counted = self._ngram.probabilities(
                self._contexts.repeat(len(self._every), axis=0), np.tile(self._every, num)
            )[-1]
            chances.append(torch.from_numpy(np.log(counted)).view(num, -1))
        weighted = torch.stack(chances, dim=-1) + self._log_weights[cases][:, None, :]
        self._logits = weighted.logsumexp(-1).float()
        return self._logits
