"""The campaign of memory that runs out: whichever allocation fails, charlm says so in one message,
and the same command again ends with the bits of a run that nothing disturbed.

The n-th allocation of at least `LARGE` bytes fails (`memory.c` in place of the C library), and all
others succeed. Smaller ones are tried apart: some libraries end the process where one fails, as a
kill would, so there only the second half of the promise holds. (Libraries in Rust and numpy do so
for some large ones, too.)
"""

import pytest
from fault_scenarios import SCENARIOS, Desk, prepared, sizes, try_cases
from fault_server import NO_MEMORY, Fault

LARGE = 1 << 15
FAILING = {"new": 3, "resumed": 1, "kernels": 1, "sample": 1, "score": 1, "html": 1, "gates": 1}
ABORTING = {"new": 1, "kernels": 1, "html": 1}
"""Number of cases of each scenario in the small size, spread evenly over all of them."""


def allocations(desk: Desk, name: str, least: int) -> int:
    """Count the allocations of a scenario."""
    desk.clear(prepared(desk, name).folder)
    return desk.run(SCENARIOS[name].argv, Fault(0, NO_MEMORY, least)).allocations


@pytest.mark.parametrize(("name", "count"), sizes(FAILING))
def test_large_allocation_that_fails_is_reported(desk: Desk, name: str, count: int) -> None:
    number = allocations(desk, name, LARGE)
    cases = [(Fault(at, NO_MEMORY, LARGE),) for at in range(1, number + 1)]
    try_cases(desk, name, cases, count)


@pytest.mark.parametrize(("name", "count"), sizes(ABORTING))
def test_small_allocation_that_fails_costs_no_result(desk: Desk, name: str, count: int) -> None:
    number = allocations(desk, name, 1)
    cases = [(Fault(at, NO_MEMORY, 1),) for at in range(1, number + 1)]
    try_cases(desk, name, cases, min(count, 2000), may_abort=True)
