"""Whole training steps in one call against the same step by parts, and the threads that compute."""

import os
import signal
import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from charlm.backends.choice import Backend
from charlm.config.schema import Config, ModelConfig
from charlm.models.recurrent import CharModel
from charlm.native.interface import Kernels
from charlm.native.steps import Hyperparameters, Learning, NativeSteps, StepNumbers
from charlm.training.learner import Learner
from charlm.training.teachers import Teachers

V = 40
DIFFERENT = {
    "lstm": {},
    "no dropout": {"dropout": 0.0},
    "gru": {"cell": "gru"},
    "gru of the lecture": {"cell": "gru", "reset_gate": "before"},
    "rnn": {"cell": "rnn", "nonlinearity": "relu"},
    "mingru": {"cell": "mingru", "num_layers": 2},
    "minlstm": {"cell": "minlstm", "num_layers": 2, "end": 3, "state_reset": 0.3},
    "indrnn": {"cell": "indrnn", "num_layers": 2, "end": 3, "state_reset": 0.3},
    "indrnn, no bias": {"cell": "indrnn", "bias": False, "hidden_size": 64},
    "mingru, no bias": {"cell": "mingru", "bias": False, "embedding_size": 0},
    "dropped weights": {"weight_dropout": 0.3, "num_layers": 2},
    "dropped weights, gru": {"cell": "gru", "weight_dropout": 0.3, "dropout": 0.0},
    "one-hot": {"embedding_size": 0},
    "two layers": {"num_layers": 2},
    "no bias": {"bias": False},
    "whole vectors": {"hidden_size": 64, "embedding_size": 32},
    "fewer symbols than the vocabulary": {"batch_size": 1, "sequence_length": 20},
    "one-hot, fewer": {"batch_size": 1, "sequence_length": 20, "embedding_size": 0},
    "records": {"end": 3, "num_layers": 2},
    "cold starts, no average": {"state_reset": 0.3, "weight_average": 0.0},
    "clipped": {"clip_norm": 0.01},
}


pytestmark = pytest.mark.usefixtures("kernels")


def learner(end: int | None = None, **changes: object) -> Learner:
    model: dict[str, object] = {"hidden_size": 37, "embedding_size": 5, "dropout": 0.3}
    train: dict[str, object] = {
        "batch_size": 6,
        "sequence_length": 9,
        "weight_average": 0.9,
        "clip_norm": 1.0,
    }
    train |= {"backend": "native", "precision": "float32", "weight_decay": 0.1}
    keys = set(ModelConfig.model_fields)
    model |= {key: value for key, value in changes.items() if key in keys}
    train |= {key: value for key, value in changes.items() if key not in keys}
    config = Config.model_validate({"model": model, "train": train})
    text = np.random.default_rng(1).integers(V, size=600).astype(np.uint16)
    return Learner(config, text, V, end=end)


def learned(one: Learner, steps: int = 12) -> dict[str, Tensor]:
    """Return all that a learner has after some steps: more than the text has windows."""
    norms = [one.take_step().detach().clone() for _ in range(steps)]
    weights = {name: value.clone() for name, value in one.eval_model.state_dict().items()}
    return {**one.state(), **weights, "norms": torch.stack(norms)}


@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT)
def test_a_step_in_one_call_is_the_step_by_parts(changes: dict[str, object]) -> None:
    at_once, by_parts = learner(**changes), learner(**changes)  # type: ignore[arg-type]
    assert at_once._steps is not None
    by_parts._steps = None
    one, other = learned(at_once), learned(by_parts)
    assert {*one} == {*other}
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=2e-4, atol=2e-6, msg=name)


def test_a_taught_step_in_one_call_is_the_step_by_parts() -> None:
    teacher = CharModel(ModelConfig(hidden_size=33, embedding_size=4), V)
    teacher.reset_parameters(3)
    teacher.head.weight.data *= 10
    learners = [learner(teacher_weight=weight) for weight in (0.6, 0.6, 0.0)]
    for one in learners:
        one.teachers = Teachers([teacher], [""], one.groups)
    assert learners[0]._steps is not None
    learners[1]._steps = None
    at_once, by_parts, untaught = (learned(one) for one in learners)
    for name, value in at_once.items():
        torch.testing.assert_close(value, by_parts[name], rtol=2e-4, atol=2e-6, msg=name)
    assert not torch.allclose(at_once["norms"], untaught["norms"], rtol=0.01)


@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT)
def test_a_step_in_one_call_is_a_step_by_torch(changes: dict[str, object]) -> None:
    at_once, by_torch = (learner(**changes, backend=b) for b in ("native", "torch"))  # type: ignore[arg-type]
    assert by_torch._steps is None
    one, other = learned(at_once), learned(by_torch)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("cell", ["lstm", "mingru", "minlstm", "indrnn"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_has_the_same_bits_with_any_number_of_threads(
    kernels: Kernels, precision: str, cell: str
) -> None:
    if precision not in kernels.types:
        pytest.skip(f"this processor computes no {precision}")
    results = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(1)  # torch's orthogonal weights depend on its threads
        one = learner(cell=cell, num_layers=2, batch_size=14, precision=precision)
        torch.set_num_threads(threads)
        results.append(learned(one))
    for other in results[1:]:
        for name, value in other.items():
            assert torch.equal(value, results[0][name]), name


def test_a_symbol_out_of_bounds_is_refused_and_changes_nothing() -> None:
    one = learner()
    one.take_step()
    before = {name: value.clone() for name, value in one.state().items()}
    steps = one._steps
    assert isinstance(steps, NativeSteps)
    wrong = one.batches.symbols(1)
    wrong[2, 3] = V
    with pytest.raises(IndexError):
        steps.take(
            wrong,
            one.states[0],
            torch.zeros(6, dtype=torch.uint8),
            StepNumbers(1, 0.1, 0.1, 2),
        )
    for name, value in one.state().items():
        assert torch.equal(value, before[name]), name


def test_a_window_without_memory_is_refused(kernels: Kernels) -> None:
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the sanitizers' own allocator ends the process")
    one = learner()
    weights = dict(one.model.named_parameters())
    learning = Learning(weights, one.optimizer.first, one.optimizer.second, None, one.loss_sum)
    constants = Hyperparameters((0.9, 0.99), 0.1, 1.0)
    with pytest.raises(MemoryError, match="no memory for the buffers"):
        Backend(kernels).steps(one.model, learning, constants, (1 << 45, 1), torch.float32)


def test_learners_of_several_threads_at_once_learn_as_alone() -> None:
    torch.set_num_threads(2)
    expected = learned(learner(batch_size=16), 40)
    results: list[dict[str, Tensor]] = []
    learners = [learner(batch_size=16) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda one=one: results.append(learned(one, 40)))
        for one in learners
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 3
    for result in results:
        for name, value in result.items():
            assert torch.equal(value, expected[name]), name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_computes_with_threads_of_its_own() -> None:
    torch.set_num_threads(2)
    one = learner(batch_size=16, weight_average=0.0)
    learned(one, 3)
    child = os.fork()
    if child == 0:  # no test's clean-up, and no hang
        signal.alarm(30)
        one.take_step()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    one.take_step()
