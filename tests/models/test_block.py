"""Blocks around cells: their equations, their states, and every use of a model with them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Command, words
from torch.nn import functional as F

import charlm
from charlm.cells import CELLS
from charlm.config.schema import ModelConfig
from charlm.models.block import EPSILON, Block
from charlm.models.recurrent import CharModel

V, E, H, T, B = 7, 4, 6, 5, 3
WHOLE: dict[str, Any] = {"residual": True, "normalization": "rms", "feed_forward": 2}
SETTINGS = [
    WHOLE,
    {"residual": True},
    {"normalization": "layer"},
    {"feed_forward": 1, "normalization": "layer"},
]


def made(cell: str, **settings: Any) -> CharModel:
    sizes = {"hidden_size": H, "num_layers": 2, "embedding_size": E}
    model = CharModel(ModelConfig(cell=cell, **(sizes | settings)), V, end=V - 1).double()
    model.reset_parameters(0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator).double()
    return model


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("cell", CELLS)
def test_window_is_its_steps_and_resets_begin_anew(cell: str, settings: dict[str, Any]) -> None:
    model = made(cell, **settings)
    symbols = torch.randint(V, (T, B), generator=torch.Generator().manual_seed(2))
    logits, after = model(symbols, model.initial_states(B))
    states = model.initial_states(B)
    for t in range(T):
        states = model.begin_anew(states, symbols[t])
        x = model.vectors(symbols[t])
        for number, layer in enumerate(model.layers()):
            states[number] = layer.step(x, states[number])
            x = states[number][0]
        torch.testing.assert_close(logits[t], model.head(x), rtol=1e-9, atol=1e-11)
    for state, expected in zip(after, states, strict=True):
        for part, wanted in zip(state, expected, strict=True):
            torch.testing.assert_close(part, wanted, rtol=1e-9, atol=1e-11)


def test_block_is_its_equations() -> None:
    model = made("lstm", **WHOLE)
    first, last = model.layers()
    assert isinstance(first, Block)
    assert isinstance(last, Block)
    x = model.vectors(torch.tensor([1, 2]))
    state = first.initial_state(2)
    named = dict(first.named_parameters())

    def rms(value: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return value / (value.square().mean(-1, keepdim=True) + EPSILON).sqrt() * weight

    stream = x @ named["enter.weight"].T
    h, c = first.cell.step(rms(stream, named["norm.weight"]), state[1:])
    y = stream + h
    inner = rms(y, named["middle.weight"]) @ named["inward.weight"].T + named["inward.bias"]
    y = y + F.gelu(inner) @ named["outward.weight"].T + named["outward.bias"]
    found = first.step(x, state)
    torch.testing.assert_close(found, (y, h, c), rtol=1e-12, atol=1e-12)
    assert first.last is None
    assert last.last is not None
    assert last.enter is None


def test_dropout_leaves_the_stream_alone() -> None:
    """With all outputs of the cells and feed-forwards dropped, the stream is what entered it."""
    model = made("gru", residual=True, dropout=0.5)
    symbols = torch.randint(V, (T, B), generator=torch.Generator().manual_seed(2))
    masks = [torch.zeros(T, B, H, dtype=torch.bool)] * 2
    outputs, _ = model.outputs(symbols, model.initial_states(B), masks)
    first = model.layers()[0]
    assert isinstance(first, Block)
    torch.testing.assert_close(outputs, first.entered(model.vectors(symbols)))


def test_feed_forward_adds_nothing_at_first_and_the_stream_has_variance_one() -> None:
    config = ModelConfig(hidden_size=400, num_layers=1, embedding_size=50, **WHOLE)
    model = CharModel(config, 300)
    model.reset_parameters(0)
    (block,) = model.layers()
    assert isinstance(block, Block)
    x = model.vectors(torch.arange(300))
    stream = block.entered(x)
    assert stream.std().item() == pytest.approx(1, rel=0.05)
    h = block.cell.step(block.norm(stream), block.initial_state(300)[1:])[0]
    assert block.last is not None
    torch.testing.assert_close(block.left(stream, h), block.last(stream + h))


@pytest.mark.parametrize("cell", ["lstm", "mlstm"])
def test_runs_with_blocks_train_resume_sample_score_and_are_inspected(
    tmp_path: Path, command: Command, cell: str
) -> None:
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    changes = [*TINY, f"model.cell={cell}", "model.num_layers=2", "model.dropout=0.1"]
    changes += [f"model.{key}={json.dumps(value).strip(chr(34))}" for key, value in WHOLE.items()]
    sets = [part for change in changes for part in ("--set", change)]
    text, whole, parted = (str(tmp_path / name) for name in ("words.txt", "whole", "parted"))
    constant = ["--set", "train.final_learning_rate=1.0", "-q"]
    assert command("train", text, "--run", whole, *sets, *constant).returncode == 0
    half = ["--set", "train.steps=6"]
    assert command("train", text, "--run", parted, *sets, *constant, *half).returncode == 0
    rest = ["--resume", "--run", parted, "--set", "train.steps=12", "-q"]
    assert command("train", *rest).returncode == 0
    one, other = (charlm.load(path, which="latest").checkpoint.weights for path in (whole, parted))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert command("sample", whole, "--length", "20").returncode == 0
    assert command("score", whole, text).returncode == 0
    done = command("inspect", whole, "--gates", "the", "--json")
    assert done.returncode == 0, done.stderr
    layers = json.loads(done.stdout)["gates"]["layers"]
    assert {"o", "h"} <= set(layers[0])
    refused = command("export", whole, "--to", "html", "--out", str(tmp_path / "a.html"))
    assert refused.returncode == 2
    assert not (tmp_path / "a.html").exists()
