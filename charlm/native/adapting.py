"""Dynamic evaluation by the kernels: a model reads one text and learns from it.

Symbols: T the length of a window, V vocabulary size, H hidden size, G gate blocks.
"""

import copy
import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells.base import GatedCell, ProjectedCell, State
from charlm.native.interface import Adapter, AdaptingLayer, Kernels, LayerArgs, Learned, address
from charlm.native.model import Parts

NEVER = -1e30
"""The logit of the padding in the last vector of the vocabulary; also in kernels/step.h."""


class NativeAdapter:
    """A learner from the windows of one text, on copies of a model's weights.

        w <- w - share steps g;   w <- w + pulls (trained w - w)

    g is the gradient of the window's mean loss with respect to all parameters; share clips its norm
    to `longest`.

    model: the trained weights. steps, pulls: for each of its elements. window: the longest T.
    """

    def __init__(
        self,
        kernels: Kernels,
        model: Parts,
        steps: Parts,
        pulls: Parts,
        *,
        window: int,
        longest: float,
    ) -> None:
        self._kernels, self._model, self._longest_window = kernels, model, window
        self._kept: dict[int, Tensor] = {}
        """Tensors that the C structures point to, by address."""
        self._vocabulary_size, self._hidden = model.head.weight.shape
        self._H = self._rounded_up(self._hidden)
        self._columns = self._rounded_up(self._vocabulary_size)
        parts = list(zip(model.cells, steps.cells, pulls.cells, strict=True))
        embedding = self._embedding(model.embedding, steps.embedding, pulls.embedding)
        learns = model.embedding is not None
        self._layers = (AdaptingLayer * len(parts))()
        below = embedding.columns
        for number, cells in enumerate(parts):
            self._layers[number] = self._layer(*cells, below, backward=learns or number > 0)
            below = self._H
        modules = (model.head, steps.head, pulls.head)
        padding = (0, self._H - self._hidden, 0, self._columns - self._vocabulary_size)
        bias_padding, packed_size = padding[2:], self._columns * self._H
        biases = [F.pad(m.bias, bias_padding) for m in modules]
        biases[0] = F.pad(model.head.bias, bias_padding, value=NEVER)
        self._adapter = Adapter(
            layers=len(parts),
            end=-1 if model.end is None else model.end,
            threads=torch.get_num_threads(),
            layer=ctypes.addressof(self._layers),
            embedding=embedding,
            head=self._learned(*(F.pad(m.weight, padding) for m in modules)),
            head_bias=self._learned(*biases),
            head_forward=self._buffer(packed_size),
            head_backward=self._buffer(packed_size),
            vectors=self._buffer(window * embedding.columns),
            d_vectors=self._buffer(window * embedding.columns) if learns else None,
            d_embedding=self._buffer(embedding.rows * embedding.columns) if learns else None,
            logits=self._buffer(window * self._columns),
            resets=self._keep(torch.zeros(window, dtype=torch.uint8)),
            longest=longest,
        )
        kernels.call("pack_adapter", "float32", self._adapter)

    def adapt(self, symbols: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Read a window, then learn from it. Return -ln p of every target, [T], and the logits,
        [T, V], both before the update.

        Shapes: symbols and targets [T] (int64). Raises: IndexError for a symbol outside V.
        """
        T, V = len(symbols), self._vocabulary_size
        assert 0 < T <= self._longest_window
        assert symbols.dtype == targets.dtype == torch.int64
        for read in (symbols, targets):
            low, high = read.aminmax()
            if int(low) < 0 or int(high) >= V:
                raise IndexError(f"symbols are 0 to {V - 1}")
        losses, logits = torch.empty(T), torch.empty(T, self._columns)
        self._kernels.call(
            "adapt", "float32", self._adapter, symbols.contiguous(), targets.contiguous(), T,
            losses, logits,
        )  # fmt: skip
        return losses, logits[:, :V]

    @torch.no_grad()
    def carry(self, states: Sequence[State]) -> None:
        """Continue from other states of one lane, [1, H] each part."""
        for layer, state in zip(self._layers, states, strict=True):
            for place, part in zip(("h", "c"), state, strict=False):
                self._at(getattr(layer.window, place))[: self._hidden] = part[0]
            self._at(layer.window.state)[: self._hidden] = state[0][0]

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the learned weights to the model's parameters. Two biases that are added share the
        change of their sum equally, because they have the same gradient."""
        model, adapter = self._model, self._adapter
        if model.embedding is not None:
            model.embedding.weight.copy_(self._unpadded(adapter.embedding, model.embedding.weight))
        model.head.weight.copy_(self._unpadded(adapter.head, model.head.weight))
        model.head.bias.copy_(self._unpadded(adapter.head_bias, model.head.bias))
        for cell, layer in zip(model.cells, self._layers, strict=True):
            G = len(cell.gates)
            cell.weight_ih.copy_(self._unpadded(layer.weight_ih, cell.weight_ih, blocks=G))
            if (recurrent := _recurrent(cell)) is not None:
                recurrent.copy_(self._unpadded(layer.weight_hh, recurrent, blocks=G))
            if cell.bias_ih is None:
                continue
            merged, bias_n = cell.merged_biases()
            learned = self._unpadded(layer.bias, merged, blocks=G) - merged
            counts = _counts(cell)
            cell.bias_ih.add_(learned / counts)
            if isinstance(cell, GatedCell) and cell.bias_hh is not None:
                cell.bias_hh.add_(torch.where(counts > 1, learned / counts, 0.0))
            if bias_n is not None:
                bias_n.copy_(self._unpadded(layer.bias_n, bias_n))

    def _embedding(self, *modules: nn.Embedding | None) -> Any:
        """Make the vectors of all symbols, which are learned if they are an embedding."""
        V = self._vocabulary_size
        if modules[0] is None:
            return self._learned(F.pad(torch.eye(V), (0, self._columns - V)))
        size = modules[0].embedding_dim
        padding = (0, self._rounded_up(size) - size)
        return self._learned(*(F.pad(m.weight, padding) for m in modules if m is not None))

    def _layer(
        self,
        cell: ProjectedCell,
        steps: ProjectedCell,
        pulls: ProjectedCell,
        below: int,
        *,
        backward: bool,
    ) -> Any:
        T, H, G = self._longest_window, self._H, len(cell.gates)
        kind, cells = self._kernels.kinds[cell.variant], (cell, steps, pulls)
        args = LayerArgs(kind=kind.number, T=T, B=1, H=H, threads=1, below_size=below)
        layer = AdaptingLayer()
        layer.weight_ih = self._learned(*(self._blocks(c.weight_ih, G, below) for c in cells))
        recurrent = [w for c in cells if (w := _recurrent(c)) is not None]
        has_matrix = bool(recurrent) and recurrent[0].dim() == 2
        if recurrent:
            columns = H if has_matrix else 0
            layer.weight_hh = self._learned(*(self._blocks(w, G, columns) for w in recurrent))
        if has_matrix:
            args.forward_weights, args.backward_weights = (
                self._buffer(G * H * H) for _ in range(2)
            )
        else:
            args.own_weights = layer.weight_hh.weights
        self._biases(layer, args, cells)
        args.below_weights = self._buffer(G * H * below)
        layer.packed_below = self._buffer(G * H * below) if backward else None
        args.h = self._buffer((T + 1) * H)
        args.outputs = self._buffer(T * H) if has_matrix else args.h + H * 4
        args.state, args.d_output = self._buffer(H), self._buffer(T * H)
        args.d_state = args.d_c = self._buffer(H)
        if kind.saved_blocks:
            args.gates = self._buffer(T * H * kind.saved_blocks)
        args.d_projected = self._buffer(T * H * (G + (cell.variant == "gru_after")))
        if cell.variant == "lstm":
            args.c, args.c_before = self._buffer(H), self._buffer(T * H)
        if cell.variant == "gru_before":
            args.reset_h = self._buffer(T * H)
        args.scratch = self._buffer(H)
        layer.window = args
        return layer

    def _biases(self, layer: Any, args: Any, cells: Sequence[ProjectedCell]) -> None:
        """Fill in biases, merged as the kernels expect them: a sum has the steps of both added and
        the pull of each, because their gradients are the same."""
        cell, G = cells[0], len(cells[0].gates)
        if cell.bias_ih is None:
            args.below_bias = self._buffer(G * self._H)
            return
        merged = [c.merged_biases() for c in cells]
        trained, steps, pulls = (self._blocks(bias, G) for bias, _ in merged)
        layer.bias = self._learned(
            trained, steps, pulls / self._blocks(_counts(cell), G).clamp(min=1)
        )
        args.below_bias = layer.bias.weights
        rest = [F.pad(b, (0, self._H - self._hidden)) for _, b in merged if b is not None]
        if rest:
            layer.bias_n = self._learned(*rest)
            args.bias = layer.bias_n.weights

    def _learned(self, weights: Tensor, *steps_and_pulls: Tensor) -> Any:
        """Make a matrix that is learned or, without steps and pulls, one that stays constant."""
        rows, columns = weights.shape if weights.dim() == 2 else (1, len(weights))
        learned = Learned(weights=self._keep(weights), rows=rows, columns=columns)
        if steps_and_pulls:
            learned.trained = self._keep(weights.clone())
            learned.steps, learned.pulls = map(self._keep, steps_and_pulls)
        return learned

    def _unpadded(self, learned: Any, parameter: Tensor, blocks: int = 1) -> Tensor:
        """Return the weights of a learned matrix in the shape of its parameter."""
        padded, rows = self._at(learned.weights), len(parameter) // blocks
        if parameter.dim() == 1:
            return padded.view(blocks, -1)[:, :rows].flatten()
        whole = padded.view(blocks, -1, learned.columns)
        return whole[:, :rows, : parameter.shape[1]].reshape(parameter.shape)

    def _blocks(self, parameter: Tensor, count: int, columns: int = 0) -> Tensor:
        """Add the padding units of each block of rows, and pad to `columns` columns."""
        blocks = parameter.detach().view(count, self._hidden, *parameter.shape[1:])
        wider = (0, columns - parameter.shape[1]) if columns else ()
        return F.pad(blocks, (*wider, 0, self._H - self._hidden)).flatten(0, 1)

    def _rounded_up(self, size: int) -> int:
        """Round a size up to whole vectors."""
        return size + -size % self._kernels.width

    def _buffer(self, count: int) -> int:
        return self._keep(torch.zeros(count))

    def _keep(self, tensor: Tensor) -> int:
        """Keep a tensor alive as long as this object; return the address of its elements."""
        tensor = tensor.detach().contiguous()
        at = address(tensor)
        assert at is not None
        self._kept[at] = tensor
        return at

    def _at(self, address: int) -> Tensor:
        """Return the kept tensor at an address."""
        return self._kept[address]


def _recurrent(cell: ProjectedCell) -> nn.Parameter | None:
    """Return the weights of the state, W_hh, if the cell has them."""
    return dict(cell.named_parameters(recurse=False)).get("weight_hh")


@torch.no_grad()
def _counts(cell: ProjectedCell) -> Tensor:
    """Return the number of biases that each merged one is the sum of. Shape: [G*H]."""
    ones = copy.deepcopy(cell)
    for parameter in ones.parameters():
        parameter.fill_(1)
    return ones.merged_biases()[0]
