"""`charlm runs`, runs of an earlier version, and the same command with --resume."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY, charlm, words
from filelock import FileLock

from charlm import api
from charlm.__main__ import run
from charlm.training import setup

SETTINGS = [part for change in TINY for part in ("--set", change)]
OLD = Path(__file__).parent / "data" / "run-0.1.0"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text(words(1500), encoding="utf-8")
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(["runs", *arguments, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


# ---- the list -----------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_with_their_state(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "names.txt", *SETTINGS, "-q"]) == 0
    for name in ("stopped", "damaged", "running"):
        shutil.copytree("runs/names-1", f"runs/{name}")
    Path("runs/stopped/summary.json").unlink()
    weights = Path("runs/damaged/checkpoints/step-00000012/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    shutil.copytree("runs/names-1", "runs/odd")
    Path("runs/odd/config.toml").write_text("model = 3\n")
    time.sleep(0.02)
    assert run(["train", *SETTINGS[:4], "--set", "train.steps=2", "-q"]) == 0
    with FileLock("runs/running/.lock"):
        found = listed(capsys)
    assert found[0]["run"] == "runs/hello-1"
    assert found[0]["text"] == "builtin:hello.txt"
    states = {str(one["run"]): one["state"] for one in found}
    assert states == {
        "runs/hello-1": "finished",
        "runs/names-1": "finished",
        "runs/stopped": "stopped",
        "runs/damaged": "damaged",
        "runs/running": "running",
        "runs/odd": "damaged",
    }
    summary = json.loads(Path("runs/names-1/summary.json").read_text())
    (own,) = (one for one in found if one["run"] == "runs/names-1")
    assert own == {
        "run": "runs/names-1",
        "text": "names.txt",
        "cell": "lstm",
        "parameters": summary["parameters"],
        "steps": 12,
        "bits_per_character": summary["best"]["bits_per_character"],
        "state": "finished",
    }


def test_runs_are_shown_in_a_table_that_cuts_nothing_and_in_one_picture(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "runs/" + "a-name-of-sixty-characters-" * 4
    assert run(["train", "names.txt", "--run", long, *SETTINGS, "-q"]) == 0
    capsys.readouterr()
    assert run(["runs", "--plot", "curves.png"]) == 0
    out, err = capsys.readouterr()
    assert long in out
    assert "curves of 1 runs: curves.png" in err
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    assert run(["runs", "nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err


def test_listing_runs_imports_no_torch(folder: Path) -> None:
    shutil.copytree(OLD, "runs/old")
    code = (
        "import sys; from charlm.__main__ import run; "
        "run(['runs']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "runs/old" in done.stdout


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["names.txt"], "names-1"),
        (["--data", "names.txt"], "names-1"),
        (["default", "--data", "names.txt"], "names-1"),
        (["my novel"], "my_novel-1"),
    ],
)
def test_runs_are_called_after_their_text(folder: Path, arguments: list[str], name: str) -> None:
    (folder / "my novel").mkdir()
    shutil.copy("names.txt", "my novel/chapter.txt")
    assert run(["train", *arguments, *SETTINGS, "-q"]) == 0
    assert (folder / "runs" / name / "summary.json").is_file()


def test_a_preset_wins_over_a_file_of_its_name_and_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("names.txt", "hello")
    assert run(["train", "hello", "--set", "train.steps=2"]) == 0
    assert "read as the preset; for the file of that name: --data hello" in capsys.readouterr().err
    assert (folder / "runs" / "hello-1").is_dir()


# ---- the same command with --resume -------------------------------------------------------------


def test_the_same_command_with_resume_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "names.txt", *SETTINGS, "--set", "model.cell=lstm", "--threads", "1"]
    assert run([*command, "-q"]) == 0
    assert run(["train", "-q"]) == 0  # a later run, of another text
    summary = Path("runs/names-1/summary.json")
    shutil.rmtree("runs/names-1/checkpoints/step-00000012")
    for pointer in ("latest", "best"):
        Path(f"runs/names-1/checkpoints/{pointer}").write_text("step-00000006\n")
    expected = summary.read_text()
    summary.unlink()
    capsys.readouterr()
    assert run([*command, "--resume"]) == 0
    err = capsys.readouterr().err
    assert "resuming runs/names-1 at step 6" in err
    assert "warning" not in err
    best = json.loads(summary.read_text())["best"]
    assert best == json.loads(expected)["best"]


def test_other_threads_are_told_when_a_run_is_resumed_and_the_same_are_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "names.txt", *SETTINGS[:-2], "--threads", "1", "--resume"]
    assert run([*command[:-1], "-q"]) == 0
    torch.set_num_threads(2)  # as a new process would begin
    assert run(command) == 0
    assert "warning" not in capsys.readouterr().err
    assert run(["train", "--resume", "--threads", "2"]) == 0
    assert "threads 1 -> 2" in capsys.readouterr().err


def test_what_really_changes_is_still_refused_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "names.txt", *SETTINGS, "-q"]) == 0
    changed = [*SETTINGS, "--set", "model.cell=rnn", "--set", "train.log_every=3"]
    assert run(["train", "names.txt", *changed, "--resume"]) == 2
    assert "error: model.cell cannot change" in capsys.readouterr().err


def test_a_named_text_never_resumes_another_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "names.txt", *SETTINGS, "-q"]) == 0
    before = Path("runs/names-1/checkpoints/latest").stat().st_mtime_ns
    assert run(["train", "hello", "--resume"]) == 0
    assert "there is no run runs/hello-<n>: beginning one" in capsys.readouterr().err
    assert Path("runs/hello-1/summary.json").is_file()
    assert Path("runs/names-1/checkpoints/latest").stat().st_mtime_ns == before
    assert run(["train", "runs/names-1"]) == 2
    assert "--resume --run runs/names-1" in capsys.readouterr().err
    assert [one["run"] for one in listed(capsys, "runs/names-1")] == ["runs/names-1"]


def test_a_run_killed_before_its_first_checkpoint_begins_anew(folder: Path) -> None:
    command = ["train", "names.txt", *SETTINGS, "-q"]
    assert run(command) == 0
    first = api.load("runs/names-1").checkpoint.weights
    shutil.rmtree("runs/names-1/checkpoints")
    Path("runs/names-1/checkpoints").mkdir()
    assert run([*command, "--resume"]) == 0
    again = api.load("runs/names-1").checkpoint.weights
    assert all(torch.equal(value, again[name]) for name, value in first.items())


# ---- earlier versions ---------------------------------------------------------------------------


def test_a_run_of_version_0_1_0_still_loads_and_goes_on(folder: Path) -> None:
    shutil.copytree(OLD, "old")
    model = api.load("old")
    assert model.checkpoint.config.train.backend == "torch"  # then called train.engine
    assert len(model.sample("h", length=4, temperature=0)) == 4
    resumed = setup.resume(Path("old"), ["train.steps=12"])
    assert resumed.step == 8
    assert not [one for one in resumed.differences if one.startswith("backend")]
    list(resumed.trainer.train(resumed.run))
    resumed.run.unlock()
    whole = ["train.steps=12", "train.eval_every=4", "train.final_learning_rate=1.0"]
    more = ["model.cell=lstm", "model.input_scale=0", "train.backend=torch"]  # as it was then
    trained = api.train("hello", set=[*whole, *more])
    found = api.load("old", which="latest").checkpoint.weights
    for name, value in api.load(trained["run"], which="latest").checkpoint.weights.items():
        # On another processor the first eight steps round otherwise.
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_the_old_name_of_a_key_is_still_read(folder: Path) -> None:
    done = charlm("train", "--set", "train.engine=torch", "--json", cwd=folder)
    assert json.loads(done.stdout)["backend"] == "torch"
