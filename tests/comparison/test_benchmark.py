"""The benchmark of this machine: which precisions are measured, and the share of memory's speed."""

import pytest

from charlm.comparison import benchmark
from charlm.comparison.measured import read_models
from charlm.training.learner import Learner


@pytest.fixture(autouse=True)
def _few_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "WRITTEN", 20)


def learner_of(cell: str, backend: str) -> Learner:
    (measured,) = read_models([cell], ["32x1"])
    train = measured.config.train.model_copy(update={"precision": "float32"})
    return benchmark._learner(measured.config.model_copy(update={"train": train}), backend)


@pytest.mark.parametrize("cell", ["gru", "mingru", "rnn:nonlinearity=relu"])
def test_cells_whose_states_have_no_bound_are_not_measured_in_int8(
    cell: str, kernel_types: list[str]
) -> None:
    if not kernel_types:
        pytest.skip("there are no kernels here")
    speeds, share = benchmark._writing(learner_of(cell, "native"), 1)
    assert [*speeds] == [name for name in kernel_types if name != "int8" or cell == "gru"]
    assert min(speeds.values()) > 0
    assert (share is None) == ("bfloat16" not in kernel_types)


def test_torch_alone_writes_in_float32_and_reads_at_no_measured_rate() -> None:
    speeds, share = benchmark._writing(learner_of("gru", "torch"), 1)
    assert [*speeds] == ["float32"]
    assert speeds["float32"] > 0
    assert share is None
