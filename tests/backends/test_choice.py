"""The choice of a backend: the reason why the kernels do not compute."""

import functools
import logging

import pytest
import torch

from charlm.backends import choice
from charlm.backends.choice import choose_backend
from charlm.common.errors import UsageError
from charlm.config.schema import ModelConfig, TrainConfig
from charlm.models.recurrent import CharModel

NATIVE, AUTO = TrainConfig(backend="native"), TrainConfig(backend="auto")


@pytest.fixture
def model() -> CharModel:
    return CharModel(ModelConfig(hidden_size=40, embedding_size=5), 11)


def test_kernels_are_for_the_processor_alone(model: CharModel) -> None:
    device = torch.device("meta")
    with pytest.raises(UsageError, match="kernels are for the CPU, not for meta") as refused:
        choose_backend(model, NATIVE, device, torch.float32)
    assert refused.value.advice == "use train.backend=auto"
    assert choose_backend(model, AUTO, device, torch.float32).name == "torch"


def test_a_type_that_the_kernels_lack_is_computed_by_torch(
    model: CharModel,
    kernel_types: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not kernel_types:
        pytest.skip("there are no kernels here")
    monkeypatch.setattr(choice, "_warn_once", functools.cache(choice._warn_once.__wrapped__))
    device = torch.device("cpu")
    assert choose_backend(model, NATIVE, device, torch.float32).name == "native"
    with pytest.raises(UsageError, match=r"the kernels have no torch\.float64"):
        choose_backend(model, NATIVE, device, torch.float64)
    with caplog.at_level(logging.WARNING, "charlm"):
        chosen = [choose_backend(model, AUTO, device, torch.float64) for _ in range(2)]
    assert [one.name for one in chosen] == ["torch", "torch"]
    said = "computing with torch: the kernels have no torch.float64 on this processor"
    assert [one for one in caplog.messages if one == said] == [said]  # once
