import math

import pytest
import torch
from torch.nn import functional as F

from charlm.backends.step import TorchComputation
from charlm.cells import CELLS
from charlm.cells.base import ProjectedCell
from charlm.common.errors import CheckpointError
from charlm.config.schema import ModelConfig
from charlm.models import dropout
from charlm.models.dropout import Drop, random_bytes, weight_bytes
from charlm.models.recurrent import CharModel
from charlm.training.optimizer import AdamW, update_average

T, B, E, H, V = 5, 3, 4, 6, 11


def made(**changes: object) -> CharModel:
    config = ModelConfig.model_validate(
        {"hidden_size": H, "embedding_size": E, "num_layers": 2, **changes}
    )
    model = CharModel(config, V)
    model.reset_parameters(seed=1)
    return model


def symbols(seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (T, B), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cell", CELLS)
def test_model_maps_symbols_and_states_to_logits_and_states(cell: str) -> None:
    model = made(cell=cell)
    logits, states = model(symbols(), model.initial_states(B))
    assert logits.shape == (T, B, V)
    assert [len(state) for state in states] == [len(CELLS[cell].load().state_parts)] * 2
    assert states[0][0].shape == (B, H)


@pytest.mark.parametrize("cell", CELLS)
def test_model_reads_only_the_past(cell: str) -> None:
    model = made(cell=cell)
    first = symbols()
    changed = first.clone()
    changed[3:] = (changed[3:] + 1) % V
    a, _ = model(first, model.initial_states(B))
    b, _ = model(changed, model.initial_states(B))
    assert torch.equal(a[:3], b[:3])
    assert not torch.equal(a[3:], b[3:])


@pytest.mark.parametrize("cell", CELLS)
def test_a_record_is_read_as_if_nothing_stood_before_it(cell: str) -> None:
    end, given, rest = 7, symbols(), symbols(1)
    config = made(cell=cell).config
    model = CharModel(config, V, end)
    model.reset_parameters(seed=1)
    rest[0] = end
    both, after = model(torch.cat([given, rest]), model.initial_states(B))
    alone, alone_after = model(rest, model.initial_states(B))
    torch.testing.assert_close(both[T:], alone)
    torch.testing.assert_close(after, alone_after)
    both[T:].sum().backward()
    assert all(weight.grad is not None for weight in model.cells.parameters())
    unaware = CharModel(config, V)
    unaware.load_state_dict(model.state_dict())
    assert not torch.allclose(
        unaware(torch.cat([given, rest]), model.initial_states(B))[0][T:], alone
    )


def test_embedding_size_zero_is_one_hot_input() -> None:
    model = made(embedding_size=0, cell="rnn", num_layers=1)
    assert model.embedding is None
    (cell,) = model.cells
    x = model.vectors(torch.tensor([7]))
    torch.testing.assert_close(cell.project(x)[0], cell.weight_ih[:, 7] + cell.bias_ih)


@pytest.mark.parametrize("embedding_size", [0, 4, 90])
@pytest.mark.parametrize("cell", [name for name, entry in CELLS.items() if entry.gates])
def test_every_gate_hears_its_input_alike_whatever_the_embedding(
    cell: str, embedding_size: int
) -> None:
    model = made(cell=cell, embedding_size=embedding_size, hidden_size=400, input_scale=1.5)
    first, second = model.layers()
    assert isinstance(first, ProjectedCell)
    assert isinstance(second, ProjectedCell)
    assert second.weight_ih.std().item() == pytest.approx(1.5 / 20, rel=0.02)  # of 400 inputs
    shares = F.linear(model.vectors(torch.arange(V)), first.weight_ih).detach()
    # The embedding is drawn too: a mean square of its elements beside 1 is the draw's, not the
    # weights'. With 4 inputs, 1,600 normal draws a gate: 4 % are 2 standard deviations and a half.
    drawn = 1.0
    if model.embedding is not None:
        drawn = model.embedding.weight.square().mean().sqrt().item()
    for gate in shares.chunk(len(first.gates), -1):
        assert gate.square().mean().sqrt().item() == pytest.approx(1.5 * drawn, rel=0.05)


def test_input_scale_zero_leaves_the_input_to_the_scheme() -> None:
    plain, xavier = made(input_scale=0.0), made(input_scale=0.0, initialization="xavier")
    for model in (plain, xavier):
        weight = model.layers()[0].weight_ih
        assert isinstance(weight, torch.Tensor)
        assert weight.abs().max() <= (6 / (H + E)) ** 0.5


def test_initial_weights_belong_to_the_seed_and_not_to_the_moment() -> None:
    first = made()
    torch.rand(5)
    second = made()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    second.reset_parameters(seed=2)
    assert not torch.equal(first.head.weight, second.head.weight)


def test_dropout_belongs_to_the_seed_keeps_the_mean_and_is_off_without_one() -> None:
    model = made(dropout=0.4)
    shape = (50, 40, 30)
    draws, threshold = random_bytes(9, 0, shape), dropout.threshold(0.4)
    assert threshold == round(0.4 * 256)
    assert torch.equal(draws, random_bytes(9, 0, shape))
    assert not torch.equal(draws, random_bytes(10, 0, shape))
    assert not torch.equal(draws, random_bytes(9, 1, shape))
    assert torch.equal(draws[:, 10:15], random_bytes(9, 0, (50, 5, 30), range(10, 15)))
    # The share of 60,000 independent draws; five standard deviations.
    kept, share = (draws >= threshold).double().mean().item(), 1 - threshold / 256
    assert kept == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 60_000))
    computation = TorchComputation(model)
    losses = [
        computation.loss_and_gradients(
            symbols(),
            symbols(1),
            model.initial_states(B),
            drop=None if seed is None else Drop(seed),
        )[0]
        for seed in (None, None, 1)
    ]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("cell", CELLS)
def test_only_cells_with_a_matrix_for_the_state_drop_weights(cell: str) -> None:
    matrices = made(cell=cell).dropped_matrices()
    assert len(matrices) == (2 if CELLS[cell].weight_hh == 2 else 0)
    if not matrices:
        with pytest.raises(ValueError, match=f"W_hh, a matrix that {cell} does not have"):
            made(cell=cell, weight_dropout=0.1)
        return
    model = made(cell=cell, weight_dropout=0.5)
    computation, drop = TorchComputation(model), Drop(9)
    computation.loss_and_gradients(symbols(), symbols(1), model.initial_states(B), drop=drop)
    for layer, matrix in enumerate(model.dropped_matrices().values()):
        kept = weight_bytes(9, layer, tuple(matrix.shape)) >= dropout.threshold(0.5)
        assert matrix.grad is not None
        assert torch.equal(matrix.grad != 0, kept)  # what was dropped learns nothing


def test_a_rate_that_rounds_to_nothing_drops_nothing() -> None:
    losses = []
    for rate in (0.0, 0.001):
        model = made(dropout=0.4, weight_dropout=rate)
        start = model.initial_states(B)
        computation = TorchComputation(model)
        losses.append(computation.loss_and_gradients(symbols(), symbols(1), start, drop=Drop(1))[0])
    assert torch.equal(*losses)


def test_dropped_weights_are_zero_and_the_rest_doubled_in_the_whole_window() -> None:
    model = made(cell="gru", weight_dropout=0.5, num_layers=1)
    start, drop = model.initial_states(B), Drop(4)
    found, _ = TorchComputation(model).loss_and_gradients(symbols(), symbols(1), start, drop=drop)
    (matrix,) = model.dropped_matrices().values()
    with torch.no_grad():
        matrix *= 2 * (weight_bytes(4, 0, tuple(matrix.shape)) >= 128)
    expected, _ = TorchComputation(model).surprisals(symbols(), symbols(1), start)
    torch.testing.assert_close(found, expected)


def test_parameters_of_rnn_gru_and_lstm_are_in_the_ratio_1_3_4() -> None:
    counts = [made(cell=cell).recurrent_parameters() for cell in ("rnn", "gru", "lstm")]
    assert counts == [counts[0], 3 * counts[0], 4 * counts[0]]


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    model = made()
    weights = dict(model.state_dict())
    again = CharModel.from_weights(model.config, V, weights)
    assert torch.equal(again.head.weight, model.head.weight)
    for wrong in (
        {**weights, "head.weight": torch.zeros(V, H + 1)},
        {**weights, "head.weight": weights["head.weight"].double()},
        {**weights, "extra": torch.zeros(1)},
        {k: v for k, v in weights.items() if k != "head.weight"},
    ):
        with pytest.raises(CheckpointError, match=r"head\.weight|extra"):
            CharModel.from_weights(model.config, V, wrong)


def test_a_configuration_of_a_billion_weights_is_refused_before_memory_is_taken() -> None:
    huge = ModelConfig(hidden_size=16_384, num_layers=32)
    with pytest.raises(CheckpointError):
        CharModel.from_weights(huge, V, dict(made().state_dict()))


# ---- optimizer ----------------------------------------------------------------------------------


def loss_of(model: CharModel, step: int) -> torch.Tensor:
    logits, _ = model(symbols(step), model.initial_states(B))
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), symbols(step + 1).flatten())


def test_adamw_gives_the_bits_of_torchs_own() -> None:
    ours, theirs = made(), made()
    optimizer = AdamW(dict(ours.named_parameters()), betas=(0.8, 0.95), weight_decay=0.1)
    decayed = [p for p in theirs.parameters() if p.dim() > 1]
    plain = [p for p in theirs.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95), fused=True)
    for step in range(4):
        loss_of(ours, step).backward()
        optimizer.step(0.01)
        reference.zero_grad()
        loss_of(theirs, step).backward()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.grad is None


@pytest.mark.parametrize("cell", [{"cell": "lstm"}, {"cell": "gru", "reset_gate": "before"}])
@pytest.mark.parametrize("clip_norm", [0.05, 1e6])
def test_adamw_clips_as_torch_does(clip_norm: float, cell: dict[str, str]) -> None:
    ours, theirs = made(**cell), made(**cell)
    computation = TorchComputation(ours)
    optimizer = AdamW(dict(ours.named_parameters()), betas=(0.8, 0.95), weight_decay=0.0)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.8, 0.95), weight_decay=0)
    for step in range(4):
        computation.loss_and_gradients(symbols(step), symbols(step + 1), ours.initial_states(B))
        norm = optimizer.step(0.01, clip_norm=clip_norm)
        reference.zero_grad()
        loss_of(theirs, step).backward()
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        reference.step()
        assert norm == pytest.approx(expected.item(), rel=1e-6)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_adamw_continues_from_its_saved_state() -> None:
    first = made()
    optimizer = AdamW(dict(first.named_parameters()), betas=(0.9, 0.99), weight_decay=0.0)
    loss_of(first, 0).backward()
    optimizer.step(0.01)
    second = made()
    second.load_state_dict(first.state_dict())
    continued = AdamW(dict(second.named_parameters()), betas=(0.9, 0.99), weight_decay=0.0)
    continued.load({name: value.clone() for name, value in optimizer.state().items()})
    for model, chosen in ((first, optimizer), (second, continued)):
        loss_of(model, 1).backward()
        chosen.step(0.01)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_average_forgets_the_start_and_then_moves_slowly() -> None:
    average, weight = torch.tensor([8.0]), torch.tensor([0.0])
    update_average([average], [weight], decay=0.99, step=0)
    assert average.item() == pytest.approx(0.8)
    update_average([average], [weight], decay=0.5, step=1000)
    assert average.item() == pytest.approx(0.4)
