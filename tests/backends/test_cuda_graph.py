"""On an NVIDIA GPU a step is a CUDA graph: it learns what the plain step learns, and waits for
nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor

from charlm.backends.cuda_graph import CudaGraph
from charlm.config import loading
from charlm.training.learner import Learner

VARIANTS = [
    ("rnn", "model.nonlinearity=tanh"),
    ("rnn", "model.nonlinearity=relu"),
    ("lstm", "model.dropout=0.2"),
    ("gru", "model.weight_dropout=0.3"),
    ("gru", "model.reset_gate=after"),
    ("gru", "model.reset_gate=before"),
    ("lstm", "model.bias=false"),
    ("gru", "model.hidden_size=47"),
    ("rnn", "model.embedding_size=0"),
    ("lstm", "train.batch_size=256"),
]


@pytest.fixture(autouse=True)
def _on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no cuda device here")


def learner(*changes: str) -> Learner:
    common = ("train.device=cuda", "train.batch_size=8", "train.sequence_length=24")
    sizes = ("model.hidden_size=48", "model.num_layers=2", "model.embedding_size=12")
    config = loading.load("default", [*common, *sizes, *changes]).resolve().config
    count = 12 * 24 * config.train.batch_size + 1
    symbols = np.random.default_rng(1).integers(0, 20, count).astype(np.uint8)
    return Learner(config, symbols, 20)


@pytest.mark.parametrize(("cell", "option"), VARIANTS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_replayed_step_learns_what_the_plain_step_learns(
    cell: str, option: str, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    changes = (f"model.cell={cell}", option, f"train.precision={precision}")
    replayed, plain = learner(*changes), learner(*changes, "train.backend=torch")
    assert replayed.backend.records_graph
    assert not plain.backend.records_graph
    for _ in range(15):  # past the lanes' end
        norms = [learner.take_step() for learner in (replayed, plain)]
        torch.testing.assert_close(*norms, rtol=1e-2, atol=1e-5)
    assert replayed.pop_mean_loss() == pytest.approx(plain.pop_mean_loss(), rel=1e-3)
    assert not caplog.records


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize(("cell", "option"), VARIANTS)
def test_no_step_waits_for_the_gpu(cell: str, option: str) -> None:
    steps = learner(f"model.cell={cell}", option, "train.weight_average=0.99")
    steps.take_step()
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            steps.take_step()
    finally:
        torch.cuda.set_sync_debug_mode(mode)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_bfloat16_is_not_float16(cell: str) -> None:
    """Gradients of 1e-6 survive, where autocast's float16 would round most of them to nothing."""
    norms = []
    for precision in ("float32", "bfloat16"):
        steps = learner(f"model.cell={cell}", f"train.precision={precision}", "train.backend=torch")
        layer = steps.model.layers()[0]
        x = torch.ones(24, 8, 12, device="cuda", requires_grad=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            output, _ = layer(x, layer.initial_state(8))
        assert output.dtype == getattr(torch, precision)
        (gradient,) = torch.autograd.grad((output.float() * 1e-7).sum(), x)
        norms.append(gradient.float().norm().item())
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


def test_what_cannot_be_recorded_is_computed_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def compute(given: list[Tensor]) -> list[Tensor]:
        return [given[0] * given[0].sum().item()]  # .item() waits, which a graph cannot

    replay = CudaGraph()
    for value in (1.0, 2.0):
        (found,) = replay(compute, [torch.full((3,), value, device="cuda")])
        assert found.tolist() == [3 * value * value] * 3
    assert len(caplog.records) == 1
    assert "without a CUDA graph" in caplog.text
