"""View of a linear probe of the states."""

import math
from dataclasses import asdict

from charlm.inspection.probe import Probe
from charlm.reports.view import Section, Table, View


def probe_view(name: str, probe: Probe) -> View:
    """Show the accuracy of a label predicted from the states of a model not trained on labels."""
    rows = [
        ("always the commoner label", f"{100 * probe.majority:.1f} %"),
        (
            f"the best single unit: layer {probe.layer}, unit {probe.unit} ({probe.state})",
            f"{100 * probe.unit_accuracy:.1f} %",
        ),
        ("a linear probe on all units", f"{100 * probe.accuracy:.1f} %"),
    ]
    return View(
        "probe",
        _title(name, probe),
        [
            f"Always saying the commoner label is right in {100 * probe.majority:.0f} of 100.",
            f"A single unit, layer {probe.layer}, unit {probe.unit}, is right in "
            f"{100 * probe.unit_accuracy:.0f}.",
        ],
        [Section("Right on held-out lines", [Table(("decided by", "right"), rows)])],
        asdict(probe),
        about=f"{probe.lines:,} lines, each read from the initial state; ridge regression on the "
        "state "
        "after its last symbol, fitted on one half and judged on the other.",
    )


def _title(name: str, probe: Probe) -> str:
    """Return the title: the probe succeeds if it beats the more frequent label by at least two
    standard errors."""
    one, other = probe.labels
    error = math.sqrt(probe.majority * (1 - probe.majority) / (probe.lines / 2))
    if probe.accuracy < probe.majority + 2 * error:
        return f"{name}: its states do not distinguish {one!r} from {other!r}"
    return (
        f"{name} distinguishes {one!r} from {other!r} in {100 * probe.accuracy:.0f} of 100 lines, "
        "without having seen a label"
    )
