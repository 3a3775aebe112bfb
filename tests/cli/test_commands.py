"""The commands as users meet them: products on stdout, talk on stderr, exit codes, bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY, begun, charlm, words

from charlm.__main__ import run
from charlm.config import presets

SETTINGS = [part for change in TINY for part in ("--set", change)]


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Shell:
    """Runs commands in this process, in a folder of their own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.capsys, self.folder = capsys, folder

    def __call__(self, *arguments: object) -> Result:
        self.capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = self.capsys.readouterr()
        return Result(code, out, err)

    def train(self, *arguments: object) -> Result:
        return self("train", "--data", "words.txt", *SETTINGS, *arguments)

    def refused(self, code: int, *arguments: object) -> str:
        """The message of a command that must fail with `code`: one error, one piece of advice."""
        result = self(*arguments)
        assert (result.code, result.out) == (code, ""), result.err
        assert "Traceback" not in result.err
        lines = result.err.strip().splitlines()
        assert sum(line.startswith("error: ") for line in lines) == 1, result.err
        assert lines[-1].startswith("help: ")
        return result.err


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    return Shell(capsys, tmp_path)


# ---- first impression ---------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["sample", "--help"], []])
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from charlm.__main__ import run; code = run(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'pydantic', 'rich', 'tqdm', 'safetensors'} & set(sys.modules); "
        "sys.exit(code or bool(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: charlm" in done.stdout


def test_train_with_nothing_else_teaches_hello_and_names_the_next_command(tmp_path: Path) -> None:
    done = charlm("train", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    table = [line.split() for line in lines[lines.index("predictions of the model") + 1 :]]
    assert table[0] == ["input", "target", "p(h)", "p(e)", "p(l)", "p(o)"]
    assert [tuple(row[:2]) for row in table[1:5]] == [
        ("h", "e"),
        ("e", "l"),
        ("l", "l"),
        ("l", "o"),
    ]
    for _, target, *chances in table[1:5]:
        assert float(chances["helo".index(target)]) > 0.9
    vocabulary = json.loads((tmp_path / "runs/hello-1/vocabulary.json").read_text())
    assert vocabulary["symbols"] == ["h", "e", "l", "o"]
    assert done.stderr.splitlines()[-1] == "next: charlm sample runs/hello-1 --prompt h"
    assert charlm("sample", "runs/hello-1", "--prompt", "h", cwd=tmp_path).stdout == "hello\n"


def test_version_is_told(shell: Shell) -> None:
    assert shell("--version").out.startswith("charlm 0.")


# ---- train --------------------------------------------------------------------------------------


def test_train_prints_its_product_on_stdout_and_its_talk_on_stderr(shell: Shell) -> None:
    first = shell.train()
    assert first.code == 0
    assert first.err.splitlines()[-1] == "next: charlm sample runs/words-1"
    assert "vocabulary" in first.err
    assert first.out.splitlines()[0].startswith("all steps taken: step 12")
    second = shell.train("--json", "--quiet")
    assert json.loads(second.out)["run"] == "runs/words-2"
    assert second.err == ""


def test_train_resumes_the_latest_run(shell: Shell) -> None:
    shell.train("--run", "mine")
    assert "--resume" in shell.refused(
        2, "train", "--data", "words.txt", *SETTINGS, "--run", "mine"
    )
    longer = shell("train", "--resume", "--run", "mine", "--set", "train.steps=18", "--json")
    assert json.loads(longer.out)["steps"] == 18
    assert "cannot change" in shell.refused(
        2, "train", "--resume", "--run", "mine", "--set", "model.cell=rnn"
    )


def test_dry_run_resolves_counts_estimates_and_writes_nothing(shell: Shell) -> None:
    before = sorted(shell.folder.rglob("*"))
    shown = shell.train("--dry-run")
    assert shown.code == 0
    assert "train.steps" in shown.out
    assert "--set" in shown.out
    assert "preset default" in shown.out
    report = json.loads(shell.train("--dry-run", "--json").out)
    assert report["config"]["train"]["steps"] == 12
    assert report["origins"]["data.path"] == "the command line"
    assert report["characters_per_second"] > 0
    assert sorted(shell.folder.rglob("*")) == before
    assert {p.name for p in Path(os.environ["CHARLM_CACHE"]).iterdir()} == {"kernels", "named"}


def test_text_from_stdin_is_kept_for_a_resume(tmp_path: Path) -> None:
    done = charlm("train", "--data", "-", *SETTINGS, "--json", cwd=tmp_path, stdin=words(1500))
    assert done.returncode == 0, done.stderr
    longer = charlm("train", "--resume", "--set", "train.steps=14", "--json", cwd=tmp_path)
    assert json.loads(longer.stdout)["steps"] == 14


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_exit_and_the_run_goes_on(tmp_path: Path, number: int) -> None:
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    often = ("train.steps", "train.checkpoint_every", "train.eval_every")
    never = [part for name in often for part in ("--set", f"{name}=1000000")]
    command = ["train", "--data", "words.txt", *SETTINGS, *never, "--run", "long", "--json"]
    with begun(*command, cwd=tmp_path) as process:
        metrics = tmp_path / "long" / "metrics.jsonl"
        for _ in range(600):
            if metrics.exists() and metrics.stat().st_size > 1000:
                break
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    summary = json.loads(out)
    assert summary["stopped_by"] == "signal"
    resumed = charlm(
        "train",
        "--resume",
        "--run",
        "long",
        "--json",
        "--set",
        f"train.steps={summary['steps'] + 1}",
        cwd=tmp_path,
    )
    assert json.loads(resumed.stdout)["steps"] == summary["steps"] + 1


def test_processes_are_not_started_twice(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = shell.refused(2, "train", "words.txt", "--processes", "2")
    assert "a launcher has started several processes already: WORLD_SIZE is set" in said
    assert not Path("runs").exists()


# ---- backends ------------------------------------------------------------------------------------


def test_bench_measures_both_backends_and_says_which_one_auto_takes(
    shell: Shell, kernel_types: list[str]
) -> None:
    report = json.loads(shell("bench", "rnn", "--shape", "32x1", "--rounds", 1, "--json").out)
    (row,) = report["rows"]
    assert (row["cell"], row["hidden_size"], row["num_layers"]) == ("rnn", 32, 1)
    backends = {"native", "torch"} if kernel_types else {"torch"}
    assert set(row["train"]) == backends
    assert row["backend"] == ("native" if kernel_types else "torch")
    assert min([*row["train"].values(), *row["write"].values(), row["matrix_share"]]) > 0
    cells = ["gru:reset_gate=before", "rnn"]
    shown = shell("bench", *cells, "--shape", "32x1", "--rounds", 1).out.splitlines()
    assert [line.split()[:2] for line in shown[-2:]] == [[cell, "32x1"] for cell in cells]
    assert sum("train" in line for line in shown) == 1  # the heading


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lstn"], "lstn"),
        (["gru:reset_gate"], "gru:reset_gate: 'reset_gate' is not key=value"),
        (["gru", "--shape", "12"], "12 is no shape"),
        (["gru", "--shape", "0x1"], "0x1 is no shape"),
    ],
)
def test_bench_refuses_what_it_does_not_know(
    shell: Shell, arguments: list[str], expected: str
) -> None:
    assert expected in shell.refused(2, "bench", *arguments)


def test_sample_says_how_it_wrote_and_takes_the_precision_asked_for(
    shell: Shell, kernel_types: list[str]
) -> None:
    shell.train("--run", "wide", "--set", "model.hidden_size=40")
    texts = {}
    for precision in kernel_types or ["float32"]:
        options = ("--length", 30, "--seed", 1, "--temperature", 0, "--precision", precision)
        report = json.loads(shell("sample", "wide", *options, "--json").out)
        assert report["backend"] == ("native" if kernel_types else "torch")
        assert report["precision"] == precision
        texts[precision] = report["samples"][0]["text"]
        assert len(texts[precision]) == 30
    shell.refused(2, "sample", "wide", "--precision", "float16")


# ---- sample and score ---------------------------------------------------------------------------


@pytest.fixture
def trained(shell: Shell) -> Shell:
    assert shell.train("--run", "mine", "--quiet").code == 0
    return shell


def test_sample_repeats_with_its_seed(trained: Shell) -> None:
    first = trained("sample", "mine", "--seed", 3, "--length", 40, "--prompt", "the ")
    assert (
        first.out == trained("sample", "mine", "--seed", 3, "--length", 40, "--prompt", "the ").out
    )
    assert first.out.startswith("the ")
    report = json.loads(trained("sample", "mine", "--length", 9, "--num", 3, "--json").out)
    assert [len(s["text"]) for s in report["samples"]] == [9, 9, 9]
    again = trained("sample", "mine", "--length", 9, "--num", 3, "--json", "--seed", report["seed"])
    assert json.loads(again.out) == report


def test_sample_continues_a_text_from_stdin(trained: Shell) -> None:
    options = ("sample", "mine", "--seed", "3", "--length", "20", "--prompt")
    done = charlm(*options, "-", cwd=trained.folder, stdin="the quick\nbrown ")
    assert done.stdout == trained(*options, "the quick\nbrown ").out
    assert done.stdout.startswith("the quick\nbrown ")


def test_sample_names_unknown_prompt_characters_and_goes_on(trained: Shell) -> None:
    result = trained("sample", "mine", "--prompt", "ß☃", "--length", 5)
    assert result.code == 0
    assert "'ß' (U+00DF), '☃' (U+2603)" in result.err
    assert result.out.startswith("ß☃")


def test_sample_into_a_closed_pipe_is_quiet(trained: Shell) -> None:
    reading, writing = os.pipe()
    command = ("sample", "mine", "--length", "100000")
    with begun(*command, cwd=trained.folder, stdout=writing) as process:
        os.close(writing)
        assert len(os.read(reading, 20)) == 20
        os.close(reading)
        _, err = process.communicate(timeout=60)
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--top-p", "0"], "top_p = 0.0 should be greater than 0"),
        (["--temperature", "-1"], "--temperature"),
        (["--num", "0"], "--num"),
        (["--seed", "x"], "--seed"),
    ],
)
def test_sample_refuses_bad_options(trained: Shell, arguments: list[str], expected: str) -> None:
    assert expected in trained.refused(2, "sample", "mine", *arguments)


def test_score_reports_the_contract_for_files_stdin_and_splits(trained: Shell) -> None:
    keys = {
        "characters",
        "bytes",
        "loss",
        "bits_per_character",
        "bits_per_byte",
        "perplexity",
        "unknown_characters",
        "protocol",
        "adapted",
        "mixture",
    }
    report = json.loads(trained("score", "mine", "words.txt", "--json").out)
    assert set(report) == keys
    assert report["characters"] == len((trained.folder / "words.txt").read_text())
    assert report["protocol"] == "stateful"
    validation = json.loads(trained("score", "mine", "--split", "val", "--json").out)
    summary = json.loads((trained.folder / "mine" / "summary.json").read_text())
    # Scored in one precision and the same lanes as while it trained.
    assert validation["bits_per_character"] == pytest.approx(summary["best"]["bits_per_character"])
    windowed = json.loads(trained("score", "mine", "--split", "val", "--window", 8, "--json").out)
    assert windowed["protocol"] == "window"
    assert windowed["bits_per_character"] != validation["bits_per_character"]
    lines = trained("score", "mine", "words.txt", "--per-character").out.splitlines()
    assert len(lines) == report["characters"]
    total = sum(float(line.split("\t")[0]) for line in lines)
    assert total / report["characters"] == pytest.approx(report["bits_per_character"], abs=1e-4)
    assert "give a FILE or a --split" in trained.refused(2, "score", "mine")
    assert "cannot read" in trained.refused(2, "score", "mine", "none.txt")
    (trained.folder / "empty.txt").write_text("")
    assert "is empty" in trained.refused(2, "score", "mine", "empty.txt")


def test_damaged_runs_exit_with_3_and_what_is_no_run_with_2(trained: Shell) -> None:
    (trained.folder / "foreign").mkdir()
    assert "is not a run" in trained.refused(2, "sample", "foreign")
    assert "is not a run" in trained.refused(2, "sample", "words.txt")
    assert "there is no run" in trained.refused(2, "sample", "none")
    assert "has no checkpoint step-00000999" in trained.refused(
        2, "sample", "mine", "--checkpoint", "999"
    )
    weights = trained.folder / "mine/checkpoints/step-00000012/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "SHA-256" in trained.refused(3, "sample", "mine")
    assert trained("sample", "mine/checkpoints/step-00000006", "--length", 5).code == 0
    assert trained("sample", "mine", "--checkpoint", "6", "--length", 5).code == 0
    resumed = trained("train", "--resume", "--run", "mine", "-q")
    assert resumed.code == 0
    assert "step-00000012 is damaged" in resumed.err
    assert resumed.err.rstrip().endswith("mine: step-00000006")
    assert trained("sample", "mine", "--length", 5).code == 0


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"x", "a single character"),
        (b"abc\xff" + b"d" * 2000, "not UTF-8 at byte 3"),
        (None, "there is no file or folder"),
    ],
)
def test_bad_texts_are_refused_and_leave_nothing(
    shell: Shell, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (shell.folder / "bad.txt").write_bytes(content)
    message = shell.refused(
        2,
        "train",
        "--data",
        "bad.txt",
        "--set",
        "data.split=[1.0,0.0,0.0]",
        "--set",
        "data.minimum_count=1",
    )
    assert expected in message
    assert not (shell.folder / "runs").exists()


def test_divergence_exits_with_4_and_says_what_to_do(shell: Shell) -> None:
    changes = [
        "train.learning_rate=10",
        "train.clip_norm=0",
        "train.weight_decay=0.0",
        "train.steps=3000",
        "model.cell=rnn",
        "model.nonlinearity=relu",
        "model.num_layers=4",
    ]
    result = shell.train("--quiet", *(part for change in changes for part in ("--set", change)))
    assert result.code == 4, result.err
    assert "training diverged at step" in result.err
    assert "train.learning_rate" in result.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "shakspeare"], "did you mean 'shakespeare'?"),
        (["train", "none.toml"], "cannot read none.toml"),
        (["train", "--set", "train.stepz=1"], "did you mean 'steps'?"),
        (["train", "--set", "model.bidirectional=true"], "refused"),
        (["train", "--device", "cuda:77"], "not available"),
        (["train", "--resume"], "there is no run"),
        (["train", "--wrong"], "--wrong"),
        (["train", "--run", "words.txt"], "words.txt"),
        (["train", "--resume", "--dry-run"], "one at a time"),
        (["frobnicate"], "frobnicate"),
        (["init", "nonsense"], "no preset"),
        (["init", "--out", "words.txt"], "exists"),
    ],
)
def test_bad_usage_exits_with_2_and_one_message(
    shell: Shell, arguments: list[str], expected: str
) -> None:
    assert expected in shell.refused(2, *arguments)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = charlm("train", "none.toml", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr


def test_a_file_has_the_longest_name_that_a_system_takes(shell: Shell) -> None:
    name = 250 * "n" + ".toml"
    shell("init", "hello", "--out", name)
    assert (shell.folder / name).read_text() == shell("init", "hello").out
    assert not [path for path in shell.folder.iterdir() if path.name.endswith(".writing")]


@pytest.mark.parametrize("preset", presets.names())
def test_init_prints_a_commented_preset_that_trains(shell: Shell, preset: str) -> None:
    text = shell("init", preset).out
    assert text.count("#") > 5
    shell("init", preset, "--out", "mine.toml")
    assert (shell.folder / "mine.toml").read_text() == text
    small = [
        "train.batch_size=2",
        "train.sequence_length=7",
        "train.steps=1",
        "model.hidden_size=5",
        "train.threads=1",
    ]
    changes = [part for change in small for part in ("--set", change)]
    result = shell("train", "mine.toml", "--data", "words.txt", *changes, "--json", "--quiet")
    assert result.code == 0, result.err
    assert json.loads(result.out)["steps"] == 1


def test_python_preset_reads_the_standard_library_and_takes_a_step(shell: Shell) -> None:
    result = shell(
        "train",
        "python",
        "--set",
        "train.steps=1",
        "--set",
        "model.hidden_size=8",
        "--json",
        "--quiet",
    )
    assert result.code == 0, result.err
    assert json.loads(result.out)["vocabulary_size"] > 90


# ---- compare ------------------------------------------------------------------------------------

COMPARED = [*SETTINGS, "--set", "data.split=[0.7,0.2,0.1]", "--set", "model.hidden_size=64"]


def compare(shell: Shell, *arguments: object) -> Result:
    return shell("compare", "--seeds", 2, *arguments, "--data", "words.txt", *COMPARED)


def test_compare_prints_the_verdict_and_writes_the_page(shell: Shell) -> None:
    result = compare(shell, "rnn", "lstm", "gru:reset_gate=before", "--seeds", 3)
    assert result.code == 0, result.err
    assert re.search("predicts best|has the lowest mean", result.out)
    assert result.out.count("(95 %: ") > 2
    assert "gru:reset_gate=before" in result.out
    assert "Counting alone" in result.out
    assert "run 9/9" in result.err
    assert "left of the runs" in result.err
    folder = shell.folder / "runs" / "compare-1"
    assert result.out.strip().endswith("report: runs/compare-1/report.html")
    for name in ("compare.json", "report.html", "figures/curves-seconds.png"):
        assert (folder / name).stat().st_size > 1000
    stored = json.loads((folder / "compare.json").read_text())
    assert stored["command"].startswith("charlm compare rnn lstm gru:reset_gate=before --config")
    again = compare(
        shell, "rnn", "lstm", "gru:reset_gate=before", "--seeds", 3, "--out", folder, "--json"
    )
    assert again.code == 0, again.err
    assert again.err.count("found finished") == 9 + len(stored["longer"])
    found = json.loads(again.out)
    assert [row["bits_per_character"] for row in found["rows"]] == [
        row["bits_per_character"] for row in stored["rows"]
    ]
    assert Path(found["report"]) == folder / "report.html"


@pytest.mark.parametrize("match", ["hidden", "time"])
def test_compare_on_other_terms(shell: Shell, match: str) -> None:
    arguments = ("rnn", "lstm", "--match", match, "--out", "there", "--json", "-q")
    result = compare(shell, *arguments)
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert found["match"] == match
    widths = [row["hidden_size"] for row in found["rows"]]
    assert (widths[0] == widths[1]) is (match == "hidden")
    runs = {
        path: (shell.folder / "there" / path / "summary.json").stat().st_mtime_ns
        for row in found["rows"]
        for path in row["runs"]
    }
    assert compare(shell, *arguments).code == 0
    for path, written in runs.items():
        assert (shell.folder / "there" / path / "summary.json").stat().st_mtime_ns == written


def test_compare_searches_rates_and_dropouts_when_asked(shell: Shell) -> None:
    result = compare(shell, "rnn", "lstm", "--tune", "--seeds", 1, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert len(found["tuning"]) >= 2 * 6
    for row in found["rows"]:
        tried = [one for one in found["tuning"] if one["label"] == row["cell"]]
        best = min(tried, key=lambda one: one["bits_per_character"])
        assert (row["learning_rate"], row["dropout"]) == (best["learning_rate"], best["dropout"])
    assert "The search for learning rates and dropout" in Path(found["report"]).read_text(
        encoding="utf-8"
    )


def test_compare_searches_at_random_and_prints_the_expected_best(shell: Shell) -> None:
    result = compare(shell, "rnn", "lstm", "--search", 3, "--seeds", 1)
    assert result.code == 0, result.err
    assert "looking for learning rates and dropout: 6 runs" in result.err
    assert "Best of 3 random trials of each cell, one seed: " in result.out
    assert "to be expected at or below" in result.out
    found = json.loads((shell.folder / "runs" / "compare-1" / "compare.json").read_text())
    assert found["command"].endswith("--search 3")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no cell is given to compare"),
        (["rnn", "gruu"], "did you mean 'gru'?"),
        (["rnn", "--match", "weight"], "'weight' is not one of"),
        (["rnn", "--seeds", "0"], "'--seeds'"),
        (["rnn", "--config", "comparee"], "did you mean 'compare'?"),
        (["rnn", "--set", "model.hidden_size=2"], "no width gives rnn within 1 %"),
        (["rnn", "--set", "train.sequence_length=9000"], "one step of batch_size 3 x"),
        (["rnn", "--set", "train.steps"], "'train.steps' is no setting"),
        (["rnn", "--out", "words.txt"], "words.txt is a file"),
        (["rnn", "--data", "short.txt"], "leaves the validation split empty"),
        (["rnn", "--device", "cuda:9"], "device cuda:9 is not available"),
    ],
)
def test_compare_refuses_bad_input(shell: Shell, arguments: list[str], expected: str) -> None:
    (shell.folder / "short.txt").write_text("ab")
    given = arguments if "--data" in arguments else [*arguments, "--data", "words.txt"]
    settings = [] if "--config" in arguments else COMPARED
    message = shell.refused(2, "compare", "-q", *settings, *given)
    assert expected in message
    assert not (shell.folder / "runs").exists()


@pytest.mark.parametrize("option", ["--set model.embedding_size=7", ""])
def test_compare_from_a_run_refuses_another_shape_as_train_does(shell: Shell, option: str) -> None:
    """Keep the order of `--set` and the run, whichever layers the cells add."""
    shell.train("--run", "begun")
    split = ["--set", "data.split=[0.7,0.2,0.1]", "--set", "train.start_from=begun"]
    given = ["--data", "words.txt", *SETTINGS, *split, *option.split()]
    arguments = ("compare", "lstm", "--match", "hidden", "--seeds", 1, *given, "-q")
    if option:
        assert "begun has embedding_size = 4, not 7" in shell.refused(2, *arguments)
    else:
        assert shell(*arguments).code == 0


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_compare_interrupted_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    slow = ["--set", "train.steps=100000", "--set", "train.eval_every=50"]
    process = begun("compare", "rnn", "--data", "words.txt", *COMPARED, *slow, cwd=tmp_path)
    checkpoints = tmp_path / "runs" / "compare-1" / "runs" / "rnn-seed0" / "checkpoints"
    deadline = time.monotonic() + 60
    while not (checkpoints / "latest").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    last = err.strip().splitlines()[-1]
    assert last.startswith("stopped; to go on: charlm compare rnn --config compare --data")
    assert last.endswith("--out runs/compare-1")
    step = int((checkpoints / "latest").read_text().strip().removeprefix("step-"))
    assert step > 0
