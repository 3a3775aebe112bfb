"""The exact score: against reading symbol by symbol, and of models whose score is known."""

import numpy as np
import pytest
import torch

from charlm.comparison.answers import answer
from charlm.config.schema import ModelConfig
from charlm.models.recurrent import CharModel
from charlm.text.files.tasks import TASKS, TIMES, Example
from charlm.text.vocabulary import Vocabulary


def vocabulary_of(text: str) -> Vocabulary:
    return Vocabulary("char", "none", tuple(map(ord, text)), has_unknown=False, has_end=True)


BITS = vocabulary_of("01=")


def adder() -> CharModel:
    """Make an RNN by hand: two units hold the parity, as OR and AND; one sees '='."""
    config = ModelConfig(cell="rnn", hidden_size=3, embedding_size=0)
    model = CharModel(config, len(BITS), BITS.end).requires_grad_(False)
    weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    (inputs,) = [name for name in weights if name.endswith("weight_ih")]
    (states,) = [name for name in weights if name.endswith("weight_hh")]
    (bias,) = [name for name in weights if "bias" in name and name.startswith("cells")][:1]
    one, equals = BITS.encode("1=").tolist()
    weights[inputs][:2, one] = 20.0
    weights[inputs][2, equals] = 20.0
    weights[states][:2, 0], weights[states][:2, 1] = 10.0, -10.0  # odd: OR without AND
    weights[bias][:] = torch.tensor([-10.0, -30.0, -10.0])
    zero = int(BITS.encode("0")[0])
    weights["head.weight"][one] = torch.tensor([5.0, -5.0, 0.0])
    weights["head.weight"][zero] = torch.tensor([-5.0, 5.0, 0.0])
    weights["head.bias"][zero] = 10.0
    weights["head.bias"][equals] = weights["head.bias"][BITS.end] = -50.0
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("times", TIMES)
def test_a_perfect_model_is_right_at_every_length(times: int) -> None:
    found = answer(adder(), BITS, TASKS["parity"].tests(times), ends=False)
    assert found.right.all()
    assert (found.symbols == 1).all()
    assert found.right.shape == (200,)


def test_a_model_that_says_the_same_is_right_as_often_as_that_is() -> None:
    model = adder()
    model.head.weight.zero_()  # '0' whatever was read
    tests = TASKS["parity"].tests(1)
    found = answer(model, BITS, tests, ends=False)
    assert found.right.tolist() == [example.answer == "0" for example in tests]
    assert 0.4 < found.right.mean() < 0.6


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("ends", [False, True])
def test_answers_are_those_of_reading_one_symbol_at_a_time(cell: str, ends: bool) -> None:
    known = vocabulary_of("abcdefgh=")
    model = CharModel(ModelConfig(cell=cell, hidden_size=16, embedding_size=4), 10, known.end)
    model.reset_parameters(1)
    model.requires_grad_(False)
    model.head.bias.normal_(std=0.3, generator=torch.Generator().manual_seed(2))
    examples = [*TASKS["copy"].tests(2, 70), Example("a=", "a")]
    found = answer(model, known, examples, ends=ends)
    some = False
    for at, example in enumerate(examples):
        target = [*known.encode(example.answer).tolist(), *([known.end] if ends else [])]
        states, said = model.initial_states(1), []
        read = [known.end, *known.encode(example.line).tolist()]
        for symbol in read:
            logits, states = model(torch.tensor([[symbol]]), states)
            said.append(int(logits[0, 0].argmax()))
        first = len(example.question)  # its last symbol, after the end that is read first
        hits = [a == b for a, b in zip(said[first : first + len(target)], target, strict=True)]
        assert found.right[at] == all(hits)
        assert found.symbols[at] == pytest.approx(np.mean(hits))
        some |= any(hits)
    assert some  # or it would show nothing
