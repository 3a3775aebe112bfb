"""What a linear probe reads from the states."""

import math
from dataclasses import asdict

from charlm.inspect.probe import Probe
from charlm.reports.view import Section, Table, View


def probe_view(name: str, found: Probe) -> View:
    """Show how well a label is read from the states of a model that never saw one."""
    rows = [
        ("always the commoner label", f"{100 * found.majority:.1f} %"),
        (
            f"the best single unit: layer {found.layer}, unit {found.unit} ({found.state})",
            f"{100 * found.unit_accuracy:.1f} %",
        ),
        ("a linear probe on all units", f"{100 * found.accuracy:.1f} %"),
    ]
    return View(
        "probe",
        _title(name, found),
        [
            f"Always saying the commoner label is right in {100 * found.majority:.0f} of 100.",
            f"A single unit, layer {found.layer}, unit {found.unit}, is right in "
            f"{100 * found.unit_accuracy:.0f}.",
        ],
        [Section("Right on held-out lines", [Table(("what decides", "right"), rows)])],
        asdict(found),
        about=f"{found.lines:,} lines, each read from the initial state; ridge regression on the "
        "state "
        "behind its last symbol, fitted on one half and judged on the other.",
    )


def _title(name: str, found: Probe) -> str:
    """Say whether the probe beats the commoner label by two standard errors at least."""
    one, other = found.labels
    error = math.sqrt(found.majority * (1 - found.majority) / (found.lines / 2))
    if found.accuracy < found.majority + 2 * error:
        return f"{name}: its states do not tell {one!r} from {other!r}"
    return (
        f"{name} tells {one!r} from {other!r} in {100 * found.accuracy:.0f} of 100 lines, without "
        "having seen a label"
    )
