"""The lecture's claims, judged by a comparison's runs.

A claim holds, does not hold, or is not shown by these runs.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from statistics import fmean, geometric_mean
from typing import Any

from charlm.cells import CELLS
from charlm.cells.gru import GRU
from charlm.cells.lstm import LSTM
from charlm.cells.rnn import RNN
from charlm.common.wording import byte_size
from charlm.comparison.analysis import RunAnalysis
from charlm.comparison.cells import Entry
from charlm.comparison.plan import Plan, recurrent_parameters
from charlm.comparison.statistics import Interval, difference, ratio
from charlm.comparison.step_cost import StepCost
from charlm.comparison.table import Row
from charlm.inspection.gradients import LAGS

SIMILAR = 0.02
"""Relative difference of loss up to which two cells are called similar."""
NOTHING = 1e-300
"""Replaces a gradient of zero, so that it has a logarithm."""
LAG = 20
"""Steps back at which gradients are compared."""
GATE_BLOCKS = {"rnn": len(RNN.gates), "gru": len(GRU.gates), "lstm": len(LSTM.gates)}
ABSENT = "did not take part"
"""End of the evidence of a claim about cells that were not compared."""
SAME_MEMORY = 0.1
"""Relative difference below which memory peaks count as equal: repeats differed by up to 8 %."""


@dataclass(frozen=True)
class Claim:
    """A claim and its verdict. holds: None if the runs do not show it."""

    claim: str
    holds: bool | None
    evidence: str

    @property
    def verdict(self) -> str:
        return {True: "holds", False: "does not hold", None: "not shown"}[self.holds]

    def as_json(self) -> dict[str, Any]:
        return {
            "claim": self.claim,
            "holds": self.holds,
            "verdict": self.verdict,
            "evidence": self.evidence,
        }


@dataclass(frozen=True)
class Findings:
    """Evidence for judging claims. Of several entries with the same cell, the first counts.

    costs: of the cells' steps at the same width, by label.
    """

    plan: Plan
    rows: Sequence[Row]
    analyses: Sequence[RunAnalysis]
    costs: Mapping[str, StepCost]

    def entry(self, cell: str) -> Entry | None:
        return next((e for e in self.plan.entries if e.cell == cell), None)

    def same_width(self, cell: str) -> Entry | None:
        return next((e for e in self.plan.same_width if e.cell == cell), None)

    def bits(self, cell: str) -> list[float] | None:
        """Return every seed's bits per character on validation."""
        entry = self.entry(cell)
        if entry is None:
            return None
        row = next(row for row in self.rows if row["cell"] == entry.label)
        values: list[float] = row["bits_per_character"]["values"]
        return values

    def unlike_at_same_width(self, *cells: str) -> str:
        """Return a key that makes cells of equal width incomparable; "" if there is none."""
        entries = [entry for cell in cells if (entry := self.entry(cell))]
        searched = {"dropout"} if self.plan.searches else set[str]()
        return _unlike(*entries, but=searched) if self.plan.match == "hidden" else ""

    def gradients(self, cell: str, *, trained: bool) -> list[float] | None:
        """Return the gradient `LAG` steps back of every seed, in the order of the seeds."""
        entry = self.entry(cell)
        if entry is None:
            return None
        own = [one for one in self.analyses if one.planned.entry.label == entry.label]
        own.sort(key=lambda one: one.planned.config.train.seed)
        by_lag = [one.trained if trained else one.fresh for one in own]
        return [max(values["h"][LAG], NOTHING) for values in by_lag] if all(by_lag) else None


def judge(findings: Findings) -> list[dict[str, Any]]:
    """Judge every claim: its verdict and evidence. Claims about the prediction of text, and about
    the gradient over it, are left out on a task.
    """
    about_cells = [
        _recurrent_parameters(findings),
        _gru_trains_faster(findings),
        _gru_needs_less_memory(findings),
    ]
    if findings.plan.task is not None:
        return [claim.as_json() for claim in about_cells]
    terms = {
        "parameters": "with as many parameters",
        "hidden": "at the same width",
        "time": "after as long a training",
        "operations": "with as many multiply-adds a symbol",
    }[findings.plan.match]
    about_text = [
        _beats_rnn(findings, "lstm", terms),
        _beats_rnn(findings, "gru", terms),
        _gru_is_similar(findings, terms),
    ]
    about_gradients = [
        _reaches_further(findings, cell, trained=trained)
        for trained in (True, False)
        for cell in ("lstm", "gru")
    ]
    first, *others = about_cells
    every = [first, *about_text, *others, *about_gradients]
    return [claim.as_json() for claim in every]


def _recurrent_parameters(findings: Findings) -> Claim:
    entries = {cell: findings.same_width(cell) for cell in GATE_BLOCKS}
    there = {cell: entry for cell, entry in entries.items() if entry}
    shown = list(there) if len(there) > 1 else list(GATE_BLOCKS)
    named = " and ".join(", ".join(shown).rsplit(", ", 1))
    ratio_named = " : ".join(str(GATE_BLOCKS[cell]) for cell in shown)
    text = f"recurrent parameters of {named} are as {ratio_named} at the same width"
    if len(there) < 2:
        return _missing(text, [cell for cell in GATE_BLOCKS if cell not in there])
    size = len(findings.plan.corpus.vocabulary)
    counts = {c: recurrent_parameters(e.config.model, size) for c, e in there.items()}
    per_block = {counts[cell] / GATE_BLOCKS[cell] for cell in counts}
    listed = ", ".join(f"{there[cell].label} {count:,}" for cell, count in counts.items())
    if unlike := _unlike(*there.values()):
        return Claim(text, None, f"they differ in {unlike}: {listed}")
    width = next(iter(there.values())).config.model.hidden_size
    return Claim(text, len(per_block) == 1, f"{listed}, each with {width} units a layer")


def _beats_rnn(findings: Findings, cell: str, terms: str) -> Claim:
    text = f"{_article(cell)} predicts better than a plain RNN {terms}"
    own, rnn = findings.bits(cell), findings.bits("rnn")
    if own is None or rnn is None:
        return _missing(text, [c for c, v in ((cell, own), ("rnn", rnn)) if v is None])
    if unlike := findings.unlike_at_same_width(cell, "rnn"):
        return Claim(text, None, f"they differ in {unlike}")
    gap = difference(own, rnn)
    return Claim(
        text,
        True if gap.is_below_zero else False if gap.is_above_zero else None,
        f"{_named(findings, cell)} {fmean(own):.3f}, "
        f"{_named(findings, 'rnn')} {fmean(rnn):.3f} bits per character; "
        f"difference {_interval(gap)}",
    )


def _gru_is_similar(findings: Findings, terms: str) -> Claim:
    text = f"a GRU is at most {100 * SIMILAR:.0f} % worse than an LSTM {terms}"
    gru, lstm = findings.bits("gru"), findings.bits("lstm")
    if gru is None or lstm is None:
        return _missing(text, [c for c, v in (("gru", gru), ("lstm", lstm)) if v is None])
    if unlike := findings.unlike_at_same_width("gru", "lstm"):
        return Claim(text, None, f"they differ in {unlike}")
    gap, margin = difference(gru, lstm), SIMILAR * fmean(lstm)
    holds = True if gap.high <= margin else False if gap.low > margin else None
    share = 100 * gap.mean / fmean(lstm)
    return Claim(
        text,
        holds,
        f"{_named(findings, 'gru')} {fmean(gru):.3f}, "
        f"{_named(findings, 'lstm')} {fmean(lstm):.3f} bits per character: the GRU is "
        f"{abs(share):.1f} % {'worse' if share > 0 else 'better'}; difference {_interval(gap)}",
    )


def _gru_trains_faster(findings: Findings) -> Claim:
    text = "a GRU trains faster than an LSTM of the same width"
    pair = _pair_of_same_width(findings, text)
    if isinstance(pair, Claim):
        return pair
    gru, lstm = pair
    speedup = ratio(lstm.step_seconds, gru.step_seconds)
    holds = True if speedup.low > 1 else False if speedup.high < 1 else None
    speeds = [1000 * one.seconds_a_step for one in (gru, lstm)]
    return Claim(
        text,
        holds,
        f"a step takes {speeds[0]:.3g} ms with the GRU, {speeds[1]:.3g} ms with the LSTM, both "
        f"{gru.config.model.hidden_size} wide: {speedup.mean:.2f} times as fast "
        f"(95 %: {speedup.low:.2f} to {speedup.high:.2f}, {len(gru.step_seconds)} rounds in turn)",
    )


def _gru_needs_less_memory(findings: Findings) -> Claim:
    text = "a GRU needs less memory than an LSTM of the same width"
    pair = _pair_of_same_width(findings, text)
    if isinstance(pair, Claim):
        return pair
    gru, lstm = (one.memory_bytes for one in pair)
    if not gru or not lstm:
        return Claim(text, None, "this system does not report how much memory training takes")
    share = gru / lstm - 1
    holds = None if abs(share) < SAME_MEMORY else share < 0
    return Claim(
        text,
        holds,
        f"training holds {byte_size(gru)} with the GRU, {byte_size(lstm)} with the LSTM, both "
        f"{pair[0].config.model.hidden_size} wide ({100 * share:+.0f} %)",
    )


def _reaches_further(findings: Findings, cell: str, *, trained: bool) -> Claim:
    when = "trained" if trained else "freshly initialised"
    text = (
        f"the gradient that reaches back {LAG} steps is larger in {_article(cell)} than in an RNN, "
        f"both {when}"
    )
    own, rnn = (findings.gradients(c, trained=trained) for c in (cell, "rnn"))
    absent = [c for c in (cell, "rnn") if findings.entry(c) is None]
    if absent:
        return _missing(text, absent)
    if own is None or rnn is None:
        return Claim(text, None, f"the gradient could not be followed {LAGS} steps back")
    if max(*own, *rnn) <= NOTHING:
        return Claim(text, None, "no gradient reaches as far: the records end sooner")
    times = ratio(own, rnn)
    holds = True if times.low > 1 else False if times.high < 1 else None
    return Claim(
        text,
        holds,
        f"{_named(findings, cell)} {geometric_mean(own):.1e}, "
        f"{_named(findings, 'rnn')} {geometric_mean(rnn):.1e}: "
        f"{_times(times.mean)} times as large"
        + (
            ", from too few seeds to show it (use --seeds 5)"
            if times.is_open
            else f" (95 %: {_times(times.low)} to {_times(times.high)})"
        ),
    )


# ---- words --------------------------------------------------------------------------------------


def _pair_of_same_width(findings: Findings, text: str) -> tuple[StepCost, StepCost] | Claim:
    """Return the GRU and the LSTM at the same width, or why the claim cannot be judged."""
    gru, lstm = findings.same_width("gru"), findings.same_width("lstm")
    if gru is None or lstm is None:
        return _missing(text, [c for c, v in (("gru", gru), ("lstm", lstm)) if v is None])
    if unlike := _unlike(gru, lstm):
        return Claim(text, None, f"they differ in {unlike}")
    return findings.costs[gru.label], findings.costs[lstm.label]


def _unlike(*entries: Entry, but: Set[str] = frozenset()) -> str:
    """Return the first key of [model], except options of single cells, in which entries differ."""
    own = {"cell", *but, *(key for cell in CELLS.values() for key in cell.options)}
    for key in entries[0].config.model.model_dump(exclude=own):
        if len({getattr(entry.config.model, key) for entry in entries}) > 1:
            return key
    return ""


def _missing(text: str, cells: Sequence[str]) -> Claim:
    return Claim(text, None, f"{' and '.join(cells)} {ABSENT}")


def _named(findings: Findings, cell: str) -> str:
    entry = findings.entry(cell)
    return entry.label if entry else cell


def _article(cell: str) -> str:
    return {"lstm": "an LSTM", "gru": "a GRU", "rnn": "an RNN"}[cell]


def _interval(interval: Interval) -> str:
    if interval.is_open:
        return f"{interval.mean:+.3f}, from too few seeds to show it (use --seeds 5)"
    return f"{interval.mean:+.3f} (95 %: {interval.low:+.3f} to {interval.high:+.3f})"


def _times(ratio: float) -> str:
    if 100 <= ratio < 1e6:
        return f"{ratio:,.0f}"
    return f"{ratio:.2g}" if 1e-3 < ratio < 100 else f"{ratio:.0e}"
