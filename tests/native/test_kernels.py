"""The native kernels against the equations and against torch, and what happens without them."""

import copy
import ctypes
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import charlm, tiny_plan
from torch import Tensor

from charlm.backends.choice import Compiling
from charlm.backends.device import autocast, keep_freed_memory
from charlm.backends.step import Computation, NativeComputation, TorchComputation
from charlm.cells import CELLS
from charlm.cells.base import GatedCell, State
from charlm.common.errors import UsageError
from charlm.config.cell_spec import variants
from charlm.config.schema import ModelConfig, SampleConfig
from charlm.evaluation import adaptation
from charlm.evaluation.adaptation import AdaptiveReader, Pace, learning_copy, mean_squares
from charlm.models.dropout import Drop
from charlm.models.recurrent import CharModel
from charlm.native import build, verify
from charlm.native.adapting import NativeAdapter
from charlm.native.interface import UNBOUNDED, Kernels
from charlm.native.model import Parts
from charlm.native.verify import deviation
from charlm.sampling.engine import NativeEngine, TorchEngine, make_engine
from charlm.sampling.filters import choose as choose_symbols
from charlm.text.stretch import Stretch
from charlm.training import setup
from charlm.training.events import Finished
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run
from charlm.training.trainer import Trainer

T, B, V, END = 7, 5, 11, 4
VARIANTS = tuple(one for one in variants() if CELLS[one[0]].gates)
FLOAT, BFLOAT = torch.float32, torch.bfloat16


def has(kernels: Kernels, name: str) -> None:
    if name not in kernels.types:
        pytest.skip(f"this processor computes no {name}")


def named(variants: tuple[tuple[str, dict[str, str]], ...]) -> list[str]:
    return ["-".join([name, *options.values()]) for name, options in variants]


every_cell = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=named(VARIANTS))


# ---- one layer ----------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden_size", [32, 37, 100])
def test_outputs_and_gradients_are_the_equations_in_float32(
    kernels: Kernels, name: str, options: dict[str, str], bias: bool, hidden_size: int
) -> None:
    cell = CELLS[name].load()(verify.INPUTS, hidden_size, bias=bias, **options)  # type: ignore[arg-type]
    assert deviation(kernels, cell, FLOAT) < 1e-5


@every_cell
def test_bfloat16_is_no_further_from_the_equations_than_autocast(
    kernels: Kernels, name: str, options: dict[str, str]
) -> None:
    has(kernels, "bfloat16")
    if name == "indrnn" or options.get("nonlinearity") == "relu":
        pytest.skip("a unit next to zero may fall on its other side: no error is too large")
    cell = CELLS[name].load()(verify.INPUTS, 100, **options)  # type: ignore[arg-type]
    native = deviation(kernels, cell, BFLOAT)
    assert native <= autocast_deviation(cell)
    assert native < 0.02


def autocast_deviation(cell: GatedCell) -> float:
    """As `verify.deviation`, for torch's autocast; of a GRU "before", of the equations by torch."""
    equations = cell.variant == "gru_before"
    return deviation_of(cell, lambda one: one.unroll if equations else one)


def test_the_lectures_gru_by_torch_is_nearer_to_the_equations_than_autocast() -> None:
    cell = CELLS["gru"].load()(verify.INPUTS, 100, reset_gate="before")
    assert deviation_of(cell, lambda one: one) <= deviation_of(cell, lambda one: one.unroll)


def deviation_of(
    cell: GatedCell, unrolled: Callable[[GatedCell], Callable[..., tuple[Tensor, State]]]
) -> float:
    given = verify.problem(cell)
    model = verify.stacked(cell, given)
    with torch.autocast("cpu", BFLOAT):
        results = verify.computed(model, given, unrolled)
    return verify.worst(results, verify.exact(model, given))


# ---- a whole model ------------------------------------------------------------------------------


def made(
    kernels: Kernels | None,
    cell: str = "lstm",
    vocabulary_size: int = V,
    end: int | None = None,
    **changes: object,
) -> Computation:
    config = ModelConfig.model_validate(
        {"cell": cell, "hidden_size": 40, "embedding_size": 6, "num_layers": 2, **changes}
    )
    model = CharModel(config, vocabulary_size, end)
    model.reset_parameters(5)
    return TorchComputation(model) if kernels is None else NativeComputation(model, kernels)


def window(seed: int, length: int = T, symbols: int = V) -> tuple[Tensor, Tensor]:
    draw, shape = torch.Generator().manual_seed(seed), (length, B)
    return (
        torch.randint(symbols, shape, generator=draw),
        torch.randint(symbols, shape, generator=draw),
    )


def learned(
    computation: Computation, windows: list[tuple[Tensor, Tensor]], dropout: bool
) -> list[Tensor]:
    """Return losses, states and every gradient of the last window."""
    model = computation.model
    states = model.initial_states(B)
    for number, (symbols, targets) in enumerate(windows):
        drop = Drop(77 + number, range(3, 3 + B)) if dropout else None
        model.zero_grad()
        losses, states = computation.loss_and_gradients(symbols, targets, states, drop=drop)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) == len(list(model.parameters()))
    return [losses, *(part for state in states for part in state), *gradients]


MODELS = [
    *({"cell": name, **options} for name, options in VARIANTS),
    {"cell": "gru", "bias": False, "num_layers": 3},
    {"cell": "lstm", "dropout": 0.3, "hidden_size": 64},
    {"cell": "gru", "dropout": 0.3},
    {"cell": "lstm", "dropout": 0.3, "weight_dropout": 0.3, "hidden_size": 64},
    {"cell": "gru", "weight_dropout": 0.5, "num_layers": 3},
    {"cell": "gru", "reset_gate": "before", "weight_dropout": 0.2},
    {"cell": "rnn", "weight_dropout": 0.2, "embedding_size": 0},
    {"cell": "lstm", "embedding_size": 0},
    {"cell": "rnn", "embedding_size": 0, "num_layers": 1},
    {"cell": "mingru", "dropout": 0.3, "bias": False, "num_layers": 3},
    {"cell": "minlstm", "dropout": 0.3, "hidden_size": 64},
    {"cell": "minlstm", "embedding_size": 0},
    {"cell": "indrnn", "dropout": 0.3, "bias": False, "num_layers": 3},
    {"cell": "indrnn", "embedding_size": 0, "hidden_size": 64},
]


@pytest.mark.parametrize("length", [T, 2], ids=["looked-up", "more-symbols-than-the-window"])
@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_model_learns_what_it_learns_by_torch(
    kernels: Kernels, changes: dict[str, object], length: int
) -> None:
    windows = [window(1, length), window(2, length)]
    found, expected = (learned(made(k, **changes), windows, True) for k in (kernels, None))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("length", [2 * T, 2], ids=["looked-up", "more-symbols-than-the-window"])
@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_records_are_learned_as_by_torch(
    kernels: Kernels, changes: dict[str, object], length: int
) -> None:
    # Of 11 symbols one ends records: several in every lane, one after another, at either end.
    windows = [window(seed, length) for seed in (1, 2)]
    windows[1][0][:, 0] = windows[1][0][0, 1:3] = windows[1][0][-1, 2:] = END
    models = (made(used, end=END, **changes) for used in (kernels, None))
    found, expected = (learned(model, windows, True) for model in models)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@every_cell
@pytest.mark.parametrize("size", [150, 301], ids=["short", "long"])
def test_large_windows_and_vocabularies_are_learned_alike(
    kernels: Kernels, name: str, options: dict[str, str], size: int
) -> None:
    # Several blocks of rows and groups of columns, an odd number of each: 1,235 rows.
    windows = [window(1, 247, size), window(2, 247, size)]
    models = (made(k, name, size, **options) for k in (kernels, None))
    found, expected = (learned(model, windows, False) for model in models)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "mingru", "minlstm", "indrnn"])
def test_bfloat16_learns_what_autocast_learns(kernels: Kernels, name: str) -> None:
    has(kernels, "bfloat16")
    results = {}
    for precision, used in ((FLOAT, None), (BFLOAT, kernels), (BFLOAT, None)):
        recurrent = {"weight_dropout": 0.2} if CELLS[name].weight_hh == 2 else {}
        model = made(used, name, 150, dropout=0.3, **recurrent)
        with autocast(precision, torch.device("cpu")):
            windows = [window(seed, 51, 150) for seed in (1, 2)]
            results[precision, used is not None] = learned(model, windows, True)
    right = results[FLOAT, False]
    errors = [verify.worst(results[BFLOAT, native], right) for native in (True, False)]
    assert errors[0] <= 1.1 * errors[1]  # a step of rounding may go either way
    assert errors[0] < 0.05


@pytest.mark.parametrize("cell", dict(VARIANTS))
def test_surprisals_are_those_of_torch_and_whole_equals_chunks(kernels: Kernels, cell: str) -> None:
    symbols, targets = window(3, 12)
    computation = made(kernels, cell)
    start = computation.model.initial_states(B)
    whole, after = computation.surprisals(symbols, targets, start)
    by_torch, _ = made(None, cell).surprisals(symbols, targets, start)
    torch.testing.assert_close(whole, by_torch, rtol=1e-5, atol=1e-6)
    states, parts = start, []
    for begin in (0, 4, 9):
        end = {0: 4, 4: 9, 9: 12}[begin]
        part, states = computation.surprisals(symbols[begin:end], targets[begin:end], states)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-6)
    for a, b in zip(states, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_evaluation_between_two_steps_changes_neither(kernels: Kernels) -> None:
    plain, disturbed = (made(kernels, weight_dropout=0.3) for _ in range(2))
    expected = learned(plain, [window(1), window(2)], True)
    start, lanes = disturbed.model.initial_states(B), range(3, 3 + B)
    _, states = disturbed.loss_and_gradients(*window(1), start, drop=Drop(77, lanes))
    with torch.inference_mode():
        found, _ = disturbed.surprisals(*window(9), start)
        torch.testing.assert_close(found, made(None).surprisals(*window(9), start)[0])
    loss, _ = disturbed.loss_and_gradients(*window(2), states, drop=Drop(78, lanes))
    assert torch.equal(loss, expected[0])
    for a, b in zip(disturbed.model.parameters(), plain.model.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("cell", ["lstm", "minlstm", "indrnn"])
def test_windows_of_any_shape_are_computed_as_by_a_new_computation(
    kernels: Kernels, cell: str
) -> None:
    used = made(kernels, cell, end=END, dropout=0.3)
    draw = torch.Generator().manual_seed(1)
    for length, lanes in ((7, 5), (2, 3), (31, 9), (1, 2), (7, 5)):
        symbols, targets = torch.randint(V, (2, length, lanes), generator=draw)
        states = [
            tuple(torch.randn(part.shape, generator=draw) for part in state)
            for state in used.model.initial_states(lanes)
        ]
        results = []
        for one in (used, made(kernels, cell, end=END, dropout=0.3)):
            surprisals, _ = one.surprisals(symbols, targets, states)
            logs, _ = one.log_probabilities(symbols, states)
            losses, after = one.loss_and_gradients(symbols, targets, states, drop=Drop(5))
            parts = [part for state in after for part in state]
            gradients = [p.grad for p in one.model.parameters() if p.grad is not None]
            results.append([surprisals, logs, losses, *parts, *gradients])
        assert all(map(torch.equal, *results))
        torch.testing.assert_close(
            -results[0][1].gather(-1, targets[..., None])[..., 0], results[0][0]
        )


@pytest.mark.parametrize("hidden_size", [40, 48])
def test_weights_are_those_of_now(kernels: Kernels, hidden_size: int) -> None:
    """Also after weights that are not numbers, and in other memory."""
    computation = made(kernels, hidden_size=hidden_size)
    start, model = computation.model.initial_states(B), computation.model
    before, _ = computation.surprisals(*window(1), start)
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.data.fill_(math.nan)
    assert computation.surprisals(*window(1), start)[0].isnan().all()
    for name, parameter in model.named_parameters():
        parameter.data = saved[name]
    assert torch.equal(computation.surprisals(*window(1), start)[0], before)


def test_gradients_are_complete_when_they_are_handed_over(kernels: Kernels) -> None:
    computation, found = made(kernels), []
    start, names = computation.model.initial_states(B), computation.model.named_parameters()
    known = {id(parameter): name for name, parameter in names}
    computation.loss_and_gradients(
        *window(1), start, ready=lambda p, g: found.append((known[id(p)], p, g.clone()))
    )
    assert {name for name, *_ in found} == {*known.values()}
    order = list(dict.fromkeys(name.rpartition(".")[0] for name, *_ in found))
    assert order == ["head", "cells.1", "cells.0", "embedding"]
    for name, parameter, gradient in found:
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient), name


def test_number_of_threads_changes_sums_by_rounding_only(kernels: Kernels) -> None:
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(learned(made(kernels), [window(1)], False))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@every_cell
@pytest.mark.parametrize("part", ["weight_hh", "weight_ih", "bias_ih", "bias_hh"])
def test_what_is_not_finite_stays_so(
    kernels: Kernels, name: str, options: dict[str, str], part: str
) -> None:
    if not hasattr(CELLS[name].load()(3, 4, **options), part):
        pytest.skip(f"it has no {part}")
    computation = made(kernels, name, **options)
    getattr(computation.model.layers()[0], part).data[3] = math.nan
    losses, *_ = learned(computation, [window(1)], False)
    assert losses.mean().isnan()


# ---- runs ---------------------------------------------------------------------------------------

RUN = ("model.hidden_size=40", "model.dropout=0.2", "train.batch_size=4", "train.backend=native")


@pytest.mark.parametrize("cell", ["lstm", "mingru", "minlstm", "indrnn"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, text_file: Path, kernels: Kernels, precision: str, cell: str
) -> None:
    has(kernels, precision)
    ended = []
    for name, stops in (("whole", (12,)), ("parted", (7, 12))):
        for steps in stops:
            changes = [f"train.steps={steps}", f"train.precision={precision}", f"model.cell={cell}"]
            if steps == stops[0]:
                begun = prepare_run(request_run(flat(text_file, *changes)))
                trainer, directory = setup.begin(begun, tmp_path / name)
            else:
                resumed = setup.resume(tmp_path / name, ["train.steps=12"])
                trainer, directory = resumed.trainer, resumed.run
                assert resumed.differences == []
            list(trainer.train(directory))
            directory.unlock()
        assert trainer.environment()["backend"] == "native"
        ended.append(trainer.learner)
    for a, b in zip(ended[0].model.parameters(), ended[1].model.parameters(), strict=True):
        assert torch.equal(a, b)


def flat(path: Path, *changes: str):  # type: ignore[no-untyped-def]
    """A layers whose learning rate does not depend on the number of steps."""
    from conftest import TINY

    from charlm.config import loading

    fixed = ("train.warmup_steps=0", "train.final_learning_rate=1.0")
    return loading.load("default", [*TINY, *RUN, *fixed, *changes], {"data.path": str(path)})


def test_auto_leaves_tiny_models_to_torch_and_says_which_backend_ran(
    tmp_path: Path, text_file: Path, kernels: Kernels
) -> None:
    engines = {}
    for size in (6, 40):
        planned = tiny_plan(text_file, f"model.hidden_size={size}")
        trainer, directory = setup.begin(planned, tmp_path / str(size))
        *_, finished = trainer.train(directory)
        assert isinstance(finished, Finished)
        engines[size] = finished.summary["backend"]
    assert engines == {6: "torch", 40: "native"}


def test_unknown_symbols_are_refused_and_not_read(kernels: Kernels) -> None:
    engine = NativeEngine(kernels, trained_a_little(), 1, "float32")
    for symbol in (-1, V):
        with pytest.raises(IndexError):
            engine.read(torch.tensor([symbol]))


def test_a_view_compiles_nothing(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "empty"))
    planned = tiny_plan(text_file, "model.hidden_size=40")
    trainer = Trainer(planned.config, planned.corpus, compiling=Compiling.NEVER)
    assert trainer.environment()["backend"] == "torch"
    assert not (tmp_path / "empty" / "kernels").exists()


def test_a_dry_run_measures_the_kernels_that_training_would_compile_and_keeps_none(
    kernels: Kernels, tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
    while [[ $# -gt 1 ]]; do [[ $1 == -o ]] && target=$2; shift; done
    touch {}/compiled; cp {} $target"""
    compiler(tmp_path, script.format(tmp_path, build.cached()), monkeypatch)  # compiled before
    cache = tmp_path / "empty"
    monkeypatch.setenv("CHARLM_CACHE", str(cache))
    sizes = ("--set", "model.hidden_size=40", "--set", "train.threads=1")
    done = charlm("train", str(text_file), "--dry-run", "--json", *sizes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "compiled").exists()
    report = json.loads(done.stdout)
    assert report["backend"] == "native"
    assert report["characters_per_second"] > 0
    assert report["passes"] > 1
    assert report["seconds"] > 0
    assert report["peak_memory_bytes"] > 10_000_000
    assert not cache.exists()


# ---- without kernels ----------------------------------------------------------------------------


def compiler(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler of our own and a cache where nothing is built yet; returns the cache."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    monkeypatch.setenv("CHARLM_CACHE", str(folder / "cache"))
    return folder / "cache"


def train_it(cwd: Path, path: Path, *more: str) -> tuple[int, str, str]:
    sizes = ("hidden_size=40", "embedding_size=4")
    changes = [*(f"model.{size}" for size in sizes), "train.steps=2", "train.batch_size=3"]
    options = [word for change in (*changes, *more) for word in ("--set", change)]
    done = charlm("train", "--data", str(path), "--device", "cpu", "--json", *options, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def test_without_a_compiler_torch_computes_and_native_is_refused(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    code, out, err = train_it(tmp_path, text_file)
    assert code == 0
    assert json.loads(out)["backend"] == "torch"
    assert "computing with torch: no C++ compiler (no-such-compiler) was found" in err
    code, _, err = train_it(tmp_path, text_file, "train.backend=native")
    assert code == 2
    assert "train.backend = native: no C++ compiler" in err
    assert "train.backend=auto" in err
    code, out, err = train_it(tmp_path, text_file, "train.backend=torch")
    assert code == 0
    assert "compiler" not in err


def test_another_compiler_of_the_same_size_and_time_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the layers of images make them; its inode and ctime, which each container has anew, do not
    count."""
    compiler(tmp_path, "exit 1", monkeypatch)
    path = tmp_path / "compiler"
    os.utime(path, (1, 1))
    before = build.cached()
    path.rename(tmp_path / "elsewhere")
    shutil.copy2(tmp_path / "elsewhere", path)
    assert build.cached() == before
    compiler(tmp_path, "exit 2", monkeypatch)
    os.utime(path, (1, 1))
    assert build.cached() != before


def test_compiler_that_fails_is_named_with_its_error_and_not_asked_again(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"date >> {tmp_path}/asked; echo 'error: no such thing' >&2; exit 1"
    compiler(tmp_path, script, monkeypatch)
    for _ in range(2):
        code, out, err = train_it(tmp_path, text_file)
        assert code == 0
        assert json.loads(out)["backend"] == "torch"
        assert "cannot compile the kernels: error: no such thing" in err
    assert len((tmp_path / "asked").read_text().splitlines()) == len(build.UNITS)


def test_what_a_killed_build_left_is_swept_once_it_is_old(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = compiler(tmp_path, "echo 'error: no such thing' >&2; exit 1", monkeypatch)
    old, young = (cache / "kernels" / f".building-{name}" for name in ("old", "young"))
    for left in (old, young):
        left.mkdir(parents=True)
        (left / "0.o").write_bytes(b"half")
    os.utime(old, (0, 0))
    assert train_it(tmp_path, text_file)[0] == 0
    assert not old.exists()
    assert young.exists()


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ here")
def test_kernels_that_compute_wrongly_are_not_used(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A compiler that loses a factor in the way back through the forget gate.
    script = f"""
    copy={tmp_path}/$$ && mkdir $copy
    cp {build.SOURCE}/* $copy
    sed -i 's/dc \\* before \\* f \\* (1.0f - f)/dc * before * f/' $copy/backward.h
    grep -q 'dc \\* before \\* f)' $copy/backward.h || exit 9
    exec g++ "${{@//{str(build.SOURCE).replace("/", chr(92) + "/")}/$copy}}" -O0
    """
    cache = compiler(tmp_path, script, monkeypatch)
    code, out, err = train_it(tmp_path, text_file)
    assert code == 0
    assert "compiling the kernels for this processor" in err
    assert json.loads(out)["backend"] == "torch"
    assert "the kernels compute lstm wrongly" in err
    assert list((cache / "kernels").glob("*.so")) == []
    _, _, err = train_it(tmp_path, text_file)
    assert "wrongly" in err
    assert "compiling" not in err


@pytest.mark.parametrize(
    "program",
    [
        "g++",
        *(pytest.param(f"clang++{n}", marks=pytest.mark.nightly) for n in ("", "-16", "-19")),
    ],
)
@pytest.mark.parametrize("optimized", ["-Og", pytest.param("-O2", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("unit", build.UNITS, ids=lambda unit: " ".join(unit))
def test_kernels_compile_without_a_warning(
    unit: tuple[str, ...], optimized: str, program: str
) -> None:
    if not shutil.which(program):
        pytest.skip(f"there is no {program} here")
    source, *defined = unit
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wvla"]
    flags = [*build.FLAGS, optimized, *warnings, *defined]  # the last level counts
    command = [program, *flags, "-c", str(build.SOURCE / source)]
    done = subprocess.run([*command, "-o", os.devnull], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    own = [line for line in done.stderr.splitlines() if "warning:" in line and "/gcc/" not in line]
    assert own == []


def test_every_kernel_is_that_of_a_cell(kernels: Kernels) -> None:
    made = {CELLS[name].load()(3, 4, **options).variant for name, options in VARIANTS}  # type: ignore[arg-type]
    assert set(kernels.kinds) == made


# ---- writing ------------------------------------------------------------------------------------


def trained_a_little(cell: str = "lstm", size: int = V, **changes: object) -> CharModel:
    """Return a model whose predictions are far from uniform."""
    model = made(None, cell, size, **changes).model
    model.head.weight.data *= 10
    return model.requires_grad_(False)


@every_cell
@pytest.mark.parametrize("streams", [1, 3, 9])
def test_engine_gives_the_models_own_logits(
    kernels: Kernels, name: str, options: dict[str, str], streams: int
) -> None:
    model = trained_a_little(name, 150, **options)
    symbols = torch.randint(150, (20, streams))
    expected, _ = model(symbols, model.initial_states(streams))
    size = expected.abs().max().item()
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.05), ("int8", 0.1)):
        if precision not in kernels.types or (
            precision == "int8" and model.layers()[0].variant in UNBOUNDED
        ):
            continue
        engine = NativeEngine(kernels, model, streams, precision)
        found = torch.stack([engine.read(row).clone() for row in symbols])
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"temperature": 0.6, "top_k": 4},
        {"temperature": 1.3, "top_p": 0.7},
        {"temperature": 0.0},
        {"temperature": 0.9, "top_k": 5, "top_p": 0.8},
    ],
    ids=str,
)
def test_engine_writes_what_torch_would_choose(
    kernels: Kernels, settings: dict[str, float]
) -> None:
    chosen = SampleConfig.model_validate(settings)
    model, unknown = trained_a_little("gru"), 2
    by_kernels, by_torch = NativeEngine(kernels, model, 4, "float32"), TorchEngine(model, 4)
    first = torch.tensor([1, 5, 7, 9])
    by_kernels.read(first)
    by_torch.read(first)
    uniforms = torch.rand(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found, nats = by_kernels.write(uniforms, chosen, unknown)
    expected, expected_nats = by_torch.write(uniforms, chosen, unknown)
    # A uniform may fall between two roundings of one bound: then the texts part for good.
    alike = (found == expected).all(0)
    assert alike.sum() >= 3
    torch.testing.assert_close(nats[:, alike].float(), expected_nats[:, alike], rtol=0, atol=1e-3)
    assert not (found == unknown).any()


def test_choice_of_the_kernels_inverts_the_distribution(kernels: Kernels) -> None:
    model = trained_a_little("rnn", num_layers=1)
    chosen = SampleConfig(temperature=0.8)
    count = 4000
    engine = NativeEngine(kernels, model, count, "float32")
    logits = engine.read(torch.full((count,), 3)).clone()
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    found, _ = engine.write(uniform.unsqueeze(0), chosen, None)
    assert (found[0] == choose_symbols(logits, chosen, uniform)).float().mean() > 0.999


def test_precision_that_cannot_be_had_is_refused(kernels: Kernels) -> None:
    has(kernels, "int8")
    assert isinstance(make_engine(trained_a_little()), NativeEngine)
    assert isinstance(make_engine(trained_a_little(hidden_size=8)), TorchEngine)
    with pytest.raises(UsageError, match="those of rnn_relu have no bound"):
        make_engine(trained_a_little("rnn", nonlinearity="relu"), precision="int8")
    for cell in ("mingru", "minlstm", "indrnn"):
        with pytest.raises(UsageError, match=f"those of {cell} have no bound"):
            make_engine(trained_a_little(cell), precision="int8")
    with pytest.raises(UsageError, match="native kernels"):
        make_engine(trained_a_little(hidden_size=8), precision="bfloat16")


def test_freed_memory_stays_for_the_next_step(kernels: Kernels) -> None:
    """Steps fault no pages in once they are under way."""
    if sys.platform != "linux":
        pytest.skip("page faults are counted on Linux")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the sanitizers' own allocator is another one")
    import resource

    keep_freed_memory()
    computation = made(kernels, hidden_size=128)
    states = computation.model.initial_states(B)
    for _ in range(20):
        _, states = computation.loss_and_gradients(*window(1, 100), states)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        _, states = computation.loss_and_gradients(*window(1, 100), states)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 200


# ---- a library is run: only what was built here, by this user, is opened ------------------------


@pytest.fixture
def library(kernels: Kernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built library, in a cache of its own."""
    built = build.cached()
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    copy = build.cached()
    copy.parent.mkdir(parents=True, mode=0o700)
    for suffix in (".so", ".sha256"):
        shutil.copy(built.with_suffix(suffix), copy.with_suffix(suffix))
    assert build.usable(copy)
    return copy


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "no digest", "other digest"])
def test_a_damaged_library_is_not_opened(library: Path, damage: str) -> None:
    content = library.read_bytes()
    if damage == "no digest":
        library.with_suffix(".sha256").unlink()
    elif damage == "other digest":
        library.with_suffix(".sha256").write_text("0" * 64)
    else:
        changed = {
            "truncated": content[: len(content) // 2],
            "flipped": content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
            "empty": b"",
        }
        library.write_bytes(changed[damage])
    assert not build.usable(library)


@pytest.mark.parametrize("place", ["library", "folder"])
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_library_that_others_may_write_is_refused(library: Path, place: str, mode: int) -> None:
    (library if place == "library" else library.parent).chmod(mode)
    with pytest.raises(build.UnavailableError, match="others may write"):
        build.library(lambda _: "")


@pytest.mark.parametrize("place", ["library", "folder"])
def test_a_library_of_another_user_is_refused(library: Path, place: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(library if place == "library" else library.parent, 12345, 12345)
    with pytest.raises(build.UnavailableError, match="belongs to another user"):
        build.library(lambda _: "")


def test_a_compiler_that_fails_without_a_word_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", shutil.which("false") or "/bin/false")
    for _ in range(2):  # told again from what was remembered
        with pytest.raises(build.UnavailableError, match="ends with code 1 and says nothing"):
            build.library(lambda _: "")


def test_what_is_no_index_never_reaches_the_kernels(kernels: Kernels) -> None:
    computation = made(kernels, hidden_size=32)
    states = computation.model.initial_states(B)
    symbols, targets = window(1, 5)
    for wrong in (torch.full_like(symbols, computation.model.vocabulary_size), -1 - symbols):
        for given in ((wrong, targets), (symbols, wrong)):
            with pytest.raises(IndexError, match="the vocabulary has"):
                computation.loss_and_gradients(*given, states)
            with pytest.raises(IndexError, match="the vocabulary has"):
                computation.surprisals(*given, states)


@pytest.mark.parametrize(
    "forge",
    [
        lambda part: part.to(torch.int8),
        lambda part: part[:1],
        lambda part: part[:, :1],
        lambda part: part.sum(),
        lambda part: part.double(),
    ],
)
def test_forged_states_never_reach_the_kernels(
    kernels: Kernels, forge: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    computation = made(kernels, hidden_size=32)
    states = [tuple(map(forge, state)) for state in computation.model.initial_states(B)]
    with pytest.raises(ValueError, match="expected float32"):
        computation.loss_and_gradients(*window(1, 5), states)


def test_arguments_of_another_kind_are_refused(kernels: Kernels) -> None:
    with pytest.raises(ctypes.ArgumentError):
        kernels.call("product", "float32", 1.5, 1, 1, 1, None, 1, None, 1)
    with pytest.raises(TypeError):
        kernels.call("product", "float32", None)


# ---- a text that is learned from as it is read --------------------------------------------------


@every_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden_size", [32, 43])
def test_adapted_surprisals_are_the_equations(
    kernels: Kernels, name: str, options: dict[str, str], bias: bool, hidden_size: int
) -> None:
    cell = CELLS[name].load()(verify.INPUTS, hidden_size, bias=bias, **options)  # type: ignore[arg-type]
    assert verify.adapting_deviation(kernels, cell) < 1e-5


@every_cell
@pytest.mark.parametrize(
    "more", [{}, {"num_layers": 2}, {"num_layers": 3, "bias": False}, {"embedding_size": 0}]
)
@pytest.mark.parametrize(("end", "threads"), [(None, 2), (END, 1)])
def test_kernels_adapt_a_model_as_torch_does(
    kernels: Kernels,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: dict[str, str],
    more: dict[str, int],
    end: int | None,
    threads: int,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(adaptation, "LONGEST", 0.5)  # all gradients of whole windows are longer
    sizes = {"hidden_size": 43, "embedding_size": 6} | more
    model = CharModel(ModelConfig(cell=name, **options, **sizes), V, end)  # type: ignore[arg-type]
    model.reset_parameters(0)
    for parameter in model.parameters():
        parameter.data *= 0.5
    draw = torch.Generator().manual_seed(0)
    text = torch.randint(V, (90,), generator=draw).numpy()
    pace = Pace(window=T, rate=0.003, decay=0.1)
    found = []
    for usable, kind in ((kernels, torch.float32), (None, torch.float32), (None, torch.float64)):
        monkeypatch.setattr(adaptation, "built_kernels", lambda _, usable=usable: usable)
        own = copy.deepcopy(model).to(kind)
        squares = mean_squares(TorchComputation(learning_copy(own)), Stretch.of(text), T)
        reader = AdaptiveReader(own, squares, pace)
        parts = Stretch(text, 0, 50), Stretch(text, 50, 90)
        pieces = [reader(part) for part in parts]  # windows of T, and shorter ones
        again = AdaptiveReader(own, squares, pace).distributions(Stretch(text, 0, 50))
        found.append((*pieces, again, *(p.detach() for p in reader.model.parameters())))
    for ours, theirs, exact in zip(*found, strict=True):
        # Where relu is silent, updates are divided by next to nothing: torch is 3e-5 off, too.
        rounding = (theirs - exact).abs().max().item()
        torch.testing.assert_close(ours.to(exact), exact, rtol=1e-5, atol=1e-5 + 2 * rounding)


def test_gradient_beyond_all_bounds_teaches_nothing(kernels: Kernels) -> None:
    sizes = {"hidden_size": 32, "embedding_size": 3, "nonlinearity": "relu"}
    model = CharModel(ModelConfig(cell="rnn", **sizes), V)  # type: ignore[arg-type]
    model.reset_parameters(0)
    model.layers()[0].weight_hh.data *= 60
    parts = Parts(model.embedding, list(model.cells), model.head)  # type: ignore[arg-type]
    adapter = NativeAdapter(kernels, parts, parts, parts, window=16, longest=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    text = torch.randint(V, (17,), generator=torch.Generator().manual_seed(0))
    assert adapter.adapt(text[:-1], text[1:])[0].isfinite().all()
    adapter.write_back()
    assert all(map(torch.equal, before, model.parameters()))


def test_no_symbol_outside_of_the_vocabulary_is_adapted_to(kernels: Kernels) -> None:
    model = CharModel(ModelConfig(hidden_size=32, embedding_size=3), V)
    model.reset_parameters(0)
    parts = Parts(model.embedding, list(model.cells), model.head)  # type: ignore[arg-type]
    adapter = NativeAdapter(kernels, parts, parts, parts, window=2, longest=1.0)
    fine = torch.tensor([0, V - 1])
    for wrong in (torch.tensor([0, V]), torch.tensor([-1, 0])):
        for pair in ((wrong, fine), (fine, wrong)):
            with pytest.raises(IndexError, match=f"0 to {V - 1}"):
                adapter.adapt(*pair)
