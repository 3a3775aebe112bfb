"""Sampling from several models together: the product of their probabilities, symbol by symbol."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.models.ngram import NGram
from charlm.sampling.engine import Engine, StepwiseEngine


class MixtureEngine(StepwiseEngine):
    """An `Engine` of K models together, for N texts.

        p(s) ~ prod_k p_k(s)^a_k

    engines: of the networks. ngram: the last of the K, if it is not None. powers: a, by the case of
    the n-gram model (see `NGram.cases`), [cases, K].
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        ngram: NGram | None,
        powers: NDArray[np.float64],
        num: int,
        vocabulary_size: int,
    ) -> None:
        self._engines, self._ngram = engines, ngram
        self._powers = torch.from_numpy(powers)
        self._logits = torch.zeros(num, vocabulary_size)
        back = ngram.order - 1 if ngram else 0
        self._contexts = np.full((num, back), vocabulary_size, np.int64)

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
            chances.append(torch.from_numpy(np.log(self._ngram.distributions(self._contexts))))
        weighted = torch.stack(chances, dim=-1) * self._powers[cases][:, None, :]
        self._logits = weighted.sum(-1).float()
        return self._logits
