"""Initialisation of a model with the weights of another run, symbol by symbol."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from charlm.common.errors import UsageError
from charlm.config.schema import Config
from charlm.runs import checkpoint
from charlm.runs.finding import find_checkpoint
from charlm.runs.named import shape_of
from charlm.text.vocabulary import Vocabulary
from charlm.training.learner import Learner

log = logging.getLogger(__name__)


@torch.no_grad()
def start_from(learner: Learner, config: Config, vocabulary: Vocabulary) -> None:
    """Load the weights of the run `config.train.start_from` into a learner at step 0.

    Weights of a symbol are assigned to the same symbol of `vocabulary`. A symbol that the run does
    not know keeps its random weights, with the least bias of all known ones.

    Raises: UsageError if the two models differ in shape; as `checkpoint.read`.
    """
    saved = checkpoint.read(find_checkpoint(Path(config.train.start_from)))
    own, theirs = shape_of(config.model), shape_of(saved.config.model)
    own["unit"], theirs["unit"] = vocabulary.unit, saved.vocabulary.unit
    if unlike := [key for key in own if own[key] != theirs[key]]:
        differences = ", ".join(f"{key} = {theirs[key]!r}, not {own[key]!r}" for key in unlike)
        raise UsageError(
            f"the run {config.train.start_from} has {differences}",
            "leave these keys out: they are taken from the run",
        )
    rows = _rows(saved.vocabulary, vocabulary)
    by_symbol = {"head.weight": 0, "head.bias": 0, "embedding.weight": 0}
    if not config.model.embedding_size:
        by_symbol["cells.0.weight_ih"] = 1  # one-hot: a column is a symbol
    weights = learner.model.state_dict()
    for name, tensor in weights.items():
        given = saved.weights[name].to(tensor.device)
        if name not in by_symbol:
            tensor.copy_(given)
            continue
        _place(tensor, given, rows, by_symbol[name])
        if name == "head.bias":
            tensor[rows < 0] = given.min()
    learner.model.load_state_dict(weights)
    learner.eval_model.load_state_dict(weights)
    known = int((rows >= 0).sum())
    log.info(f"starting from {saved.folder}, which knows {known} of the {len(vocabulary)} symbols")


def _rows(theirs: Vocabulary, own: Vocabulary) -> Tensor:
    """Return the index in `theirs` of each symbol of `own`; -1 if it is missing. The end of a
    record counts as the end of a line if `theirs` has none. Shapes: [len(own)]."""
    at = {code: index for index, code in enumerate(theirs.code_points)}
    rows = [at.get(code, -1) for code in own.code_points]
    if own.has_unknown:
        rows.append(-1 if theirs.unknown is None else theirs.unknown)
    if own.has_end:
        rows.append(at.get(ord("\n"), -1) if theirs.end is None else theirs.end)
    return torch.tensor(rows)


def _place(tensor: Tensor, given: Tensor, rows: Tensor, dimension: int) -> None:
    """Copy the slices `rows` of `given` into `tensor`, along a dimension; skip rows of -1."""
    known = rows >= 0
    into = known.nonzero().squeeze(1).to(tensor.device)
    tensor.index_copy_(dimension, into, given.index_select(dimension, rows[known].to(given.device)))
