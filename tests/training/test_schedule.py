import pytest

from charlm.training.schedule import learning_rate


def rate(step: int, **changes: float) -> float:
    settings = {"peak": 0.3, "warmup_steps": 10, "steps": 110, "final_fraction": 0.1, **changes}
    return learning_rate(step, **settings)  # type: ignore[arg-type]


def test_schedule_warms_up_linearly_and_never_starts_at_zero() -> None:
    assert [rate(s) for s in (0, 4, 9)] == pytest.approx([0.03, 0.15, 0.3])


def test_schedule_falls_along_half_a_cosine_to_its_final_fraction() -> None:
    assert rate(10) == pytest.approx(0.3)
    assert rate(60) == pytest.approx(0.3 * (0.1 + 0.9 * 0.5))
    assert rate(110) == rate(10_000) == pytest.approx(0.03)


def test_schedule_of_a_single_step_after_the_warm_up_ends_at_its_final_fraction() -> None:
    assert rate(11, steps=11) == pytest.approx(0.03)
    assert rate(10, steps=10) == pytest.approx(0.3)


def test_schedule_without_warm_up_starts_at_its_peak() -> None:
    assert rate(0, warmup_steps=0) == 0.3
