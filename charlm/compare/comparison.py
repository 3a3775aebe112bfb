"""A comparison from its plan to its result: what compare.json holds and the report shows."""

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from charlm import __version__
from charlm.backends.device import versions
from charlm.compare import runs, time_budget, tune
from charlm.compare.analysis import Examined, examine, opening, prompt_from, writing_speeds
from charlm.compare.baselines import MOST_SYMBOLS, Baselines, baselines
from charlm.compare.cache import kept
from charlm.compare.claims import Findings, judge
from charlm.compare.plan import Plan
from charlm.compare.runs import Leg, Race, RaceEvent
from charlm.compare.step_cost import Probed, probe
from charlm.compare.table import Row, differences, rows, verdict
from charlm.config.schema import to_toml
from charlm.errors import CharlmError, UsageError
from charlm.runs.checkpoint import json_bytes, replace

Result = dict[str, Any]

RESULT, RUNS, TUNING = "compare.json", "runs", "tune"


@dataclass(frozen=True)
class Stage:
    """Something else than training is under way."""

    doing: str


@dataclass(frozen=True)
class Compared:
    """The comparison has ended."""

    result: Result


class Comparison:
    """Carries a plan out in a directory of its own; `run` again to go on where it stopped.

    Raises: UsageError where `path` holds something else or cannot be written.
    """

    def __init__(self, plan: Plan, path: Path) -> None:
        self.plan, self.path = plan, path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()) and not (path / RUNS).is_dir():
                raise UsageError(
                    f"{path} exists and is no comparison", "give another --out, or an empty folder"
                )
            (path / RUNS).mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot write the comparison {path}: {error.strerror}",
                "give an --out that you can write to",
            ) from None
        self._lock = FileLock(path / ".lock")
        self._race = Race(plan.corpus)

    def was_stopped(self) -> bool:
        return self._race.stopped

    def stop(self) -> None:
        """Ask `run` to end after the step under way (safe in a signal handler)."""
        self._race.stop()

    def run(self, command: str = "") -> Iterator[Stage | RaceEvent | Compared]:
        """Measure, train, judge; ends without `Compared` if `stop` was called.

        command: what the user gave, for the report.

        Raises: UsageError (another process is at it; a run of something else is in the way),
            DataError (text too short), CheckpointError, DivergedError, CharlmError (the disk is
            full). Finished runs are kept.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{self.path} is being written by another process", "wait for it, or stop it"
            ) from None
        try:
            yield from self._run(command)
        except OSError as error:
            raise self._cannot_write(error) from None
        finally:
            self._lock.release()

    def _run(self, command: str) -> Iterator[Stage | RaceEvent | Compared]:
        began = time.perf_counter()
        plan: Plan = self.plan
        tried: list[tune.Tried] = []
        yield Stage("measuring a few steps of every cell")
        probed = self._probe(plan)
        seconds_a_step = {e.label: probed[to_toml(e.config)].seconds_a_step for e in plan.entries}
        if plan.match == "time":
            plan = time_budget.with_timing(
                plan, time_budget.agreed(plan, self.path, seconds_a_step)
            )
        if plan.tune:
            searched = tune.legs(plan, self.path / TUNING, seconds_a_step)
            yield Stage(f"looking for learning rates: {len(searched)} short runs")
            yield from self._race.run(searched, tolerant=True)
            if self.was_stopped():
                return
            tried = tune.results(searched)
            plan = tune.tuned(plan, tried)
        legs = runs.legs(plan, self.path / RUNS, seconds_a_step)
        yield Stage(f"training {len(legs)} runs")
        yield from self._race.run(legs)
        if self.was_stopped():
            return
        yield Stage("looking at what was learned")
        prompt = prompt_from(plan.corpus)
        examined = self._examined(legs, plan, prompt)
        if self.was_stopped():
            return
        yield Stage("counting and compressing, for the baselines")
        known = self._baselines(plan)
        if self.was_stopped():
            return
        result = _result(plan, examined, probed, known, prompt)
        result["tuning"] = [asdict(one) for one in tried]
        result["notes"] += [
            f"{label}: the best learning rate is the lowest or highest that was tried"
            for label in tune.at_the_edge(plan, tried)
        ]
        result["command"] = command
        result["seconds"] = {
            "training": round(sum(one.summary["seconds"] for one in examined), 3),
            "last_call": round(time.perf_counter() - began, 3),
        }
        yield Compared(result)

    def write(self, result: Result) -> None:
        """Write compare.json. Raises: CharlmError where it cannot be written."""
        try:
            replace(self.path / RESULT, json_bytes(result))
        except OSError as error:
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> CharlmError:
        return CharlmError(
            f"cannot write {error.filename or self.path}: {error.strerror}",
            f"make room, then run the same command again with --out {self.path}: "
            "what is finished is reused",
        )

    # ---- measurements, kept so that the same call shows the same numbers again ---------------

    def _probe(self, plan: Plan) -> dict[str, Probed]:
        """Of every cell at its compared width and at the same width, by configuration in TOML."""
        configs = {to_toml(e.config): e.config for e in (*plan.entries, *plan.same_width)}

        def measure() -> list[Any]:
            found = probe(list(configs.values()), plan.corpus)
            return [[one.step_seconds, one.memory_bytes] for one in found]

        key = [plan.corpus.fingerprint, list(configs), versions()]
        found = kept(self.path, "steps", key, measure)
        return {
            toml: Probed(config, tuple(seconds), memory)
            for (toml, config), (seconds, memory) in zip(configs.items(), found, strict=True)
        }

    def _examined(self, legs: Sequence[Leg], plan: Plan, prompt: str) -> list[Examined]:
        opened = [opening(leg) for leg in legs]
        key = [[runs.summary(leg), versions()] for leg in legs]
        speeds = kept(self.path, "writing", key, lambda: writing_speeds(opened))
        return examine(legs, opened, speeds, plan.corpus, prompt)

    def _baselines(self, plan: Plan) -> Baselines:
        key = [__version__, plan.corpus.fingerprint]
        found = kept(self.path, "baselines", key, lambda: asdict(baselines(plan.corpus)))
        return Baselines(**found)


def next_path() -> Path:
    """`runs/compare-<n>` with the first free n."""
    root = Path("runs")
    return next(path for n in count(1) if not (path := root / f"compare-{n}").exists())


def _result(
    plan: Plan,
    examined: Sequence[Examined],
    probed: Mapping[str, Probed],
    known: Baselines,
    prompt: str,
) -> Result:
    corpus = plan.corpus
    table = rows(plan, examined)
    at_same_width = {e.label: probed[to_toml(e.config)] for e in plan.same_width}
    claims = judge(Findings(plan, table, examined, at_same_width))
    rate = corpus.train.characters / len(corpus.train)
    found = differences(table)
    return {
        "match": plan.match,
        "verdict": verdict(table, found, known),
        "rows": table,
        "differences": found,
        "baselines": known.bits["validation"],
        "test_baselines": known.bits.get("test"),
        "ngram_order": known.ngram_order,
        "ngram_counts": known.ngram_counts,
        "claims": claims,
        "seeds": list(plan.seeds),
        "tuned": plan.tune,
        "time_budget": plan.entries[0].config.train.seconds if plan.match == "time" else None,
        "text": {
            "name": plan.name,
            "characters": {name: split.characters for name, split in corpus.splits.items()},
            "vocabulary_size": len(corpus.vocabulary),
            "unit": corpus.vocabulary.unit,
            "fingerprint": corpus.fingerprint,
        },
        "same_width": [
            {
                "cell": label,
                "hidden_size": one.config.model.hidden_size,
                "step_milliseconds": round(1000 * one.seconds_a_step, 4),
                "rounds": [round(1000 * seconds, 4) for seconds in one.step_seconds],
                "characters_per_second": round(one.characters_per_second(rate), 1),
                "memory_bytes": one.memory_bytes,
            }
            for label, one in at_same_width.items()
        ],
        "runs": [_run(one) for one in examined],
        "prompt": prompt,
        "samples": {
            one.leg.entry.label: one.sample
            for one in examined
            if one.leg.config.train.seed == plan.seeds[0]
        },
        "config": {e.label: to_toml(e.config) for e in plan.entries},
        "versions": {"charlm": __version__, **versions()},
        "machine": {
            "processor": _processor(),
            **{key: examined[0].summary[key] for key in ("device", "precision", "threads")},
        },
        "notes": _notes(plan, table),
    }


def _run(one: Examined) -> dict[str, Any]:
    """What the figures draw of a run."""
    return {
        "cell": one.leg.entry.label,
        "seed": one.leg.config.train.seed,
        "curve": one.curve,
        "sample_characters_per_second": round(one.sample_speed, 1),
        "test_bits_per_character": one.test_bits,
        "gradient_trained": one.trained,
        "gradient_fresh": one.fresh,
    }


def _notes(plan: Plan, table: Sequence[Row]) -> list[str]:
    notes = []
    if len(plan.seeds) == 1:
        notes.append("one seed shows no spread: differences between cells cannot be judged")
    if any(row["peak_memory_bytes"] is None for row in table):
        notes.append("this system does not tell the peak memory of a single run")
    if len(plan.corpus.train) > MOST_SYMBOLS:
        notes.append(f"the n-gram model and xz read the last {MOST_SYMBOLS:,} symbols of train")
    return notes


def _processor() -> str:
    """Its name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
