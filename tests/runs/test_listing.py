"""`charlm runs`, runs of an earlier version, and the same command with --resume."""

import json
import shlex
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
from charlm.common.errors import UsageError
from charlm.common.outputs import mark
from charlm.comparison.memorization import write_random_text
from charlm.config.schema import Config, to_toml
from charlm.runs.listing import list_runs, refuse_no_folder
from charlm.training import setup

SETTINGS = [part for change in TINY for part in ("--set", change)]
OLD = Path(__file__).parents[1] / "data" / "run-0.1.0"


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


def test_a_preset_that_differs_from_the_run_is_named_with_the_keys(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--set", "train.steps=2", "--set", "model.hidden_size=5", "--run", "mine"]
    assert run(["train", "hello", *small, "-q"]) == 0
    capsys.readouterr()
    assert run(["train", "hello", *small, "--resume", "-q"]) == 0
    assert "continues with its own" not in capsys.readouterr().err
    assert run(["train", "hello", "--run", "mine", "--resume", "-q"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    wanted = "the run continues with its own configuration, which differs from hello in "
    assert said.partition(wanted)[2] == "model.hidden_size, train.steps"


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


# ---- removed ------------------------------------------------------------------------------------


def begun(name: str) -> Path:
    """A run that was killed before its first checkpoint."""
    path = Path("runs") / name
    (path / "checkpoints").mkdir(parents=True)
    for file in (".lock", "vocabulary.json", "metrics.jsonl"):
        (path / file).write_text("")
    (path / "config.toml").write_text(to_toml(Config()))
    return path


def test_a_run_that_is_no_longer_wanted_is_removed_whole(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "names.txt", *SETTINGS, "-q"]) == 0
    shutil.copytree("runs/names-1", "runs/names-2")
    Path("elsewhere").mkdir()
    Path("elsewhere/kept.txt").write_text("mine")
    Path("runs/names-2/inspect").symlink_to(folder / "elsewhere")
    capsys.readouterr()
    assert run(["runs", "--rm", "runs/names-2", "--json"]) == 0
    (removed,) = json.loads(capsys.readouterr().out)["removed"]
    assert removed["run"] == "runs/names-2"
    assert removed["bytes"] > 1000
    assert [path.name for path in Path("runs").iterdir()] == ["names-1"]
    assert Path("elsewhere/kept.txt").read_text() == "mine"


def test_removing_refuses_what_is_no_run_before_it_removes_any(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = begun("names-1")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    Path("link").symlink_to(run_folder.absolute())
    for refused, reason in (
        ("mine", "is not a run"),
        ("none", "there is no run"),
        ("link", "is a link"),
        (".", "holds the working directory"),
        ("runs", "is not a run"),
    ):
        assert run(["runs", "--rm", str(run_folder), "--rm", refused]) == 2
        assert reason in capsys.readouterr().err
        assert run_folder.is_dir()
    with FileLock(run_folder / ".lock"):
        assert run(["runs", "--rm", str(run_folder)]) == 2
        assert "is being trained" in capsys.readouterr().err
        assert run(["runs", "--prune"]) == 0
    assert run_folder.is_dir()
    assert Path("mine/notes.txt").read_text() == "mine"


def test_pruning_removes_what_never_came_to_a_checkpoint_and_what_a_kill_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "names.txt", *SETTINGS, "-q"]) == 0
    begun("names-2")
    Path("runs/.charlm-removing-x/names-3/checkpoints").mkdir(parents=True)
    Path("runs/notes").mkdir()
    capsys.readouterr()
    assert run(["runs"]) == 0
    table = capsys.readouterr().out
    assert "no checkpoint" in table
    assert " KB" in table
    assert run(["runs", "--prune"]) == 0
    assert "removed runs/names-2" in capsys.readouterr().out
    assert sorted(path.name for path in Path("runs").iterdir()) == ["names-1", "notes"]


def test_a_comparison_is_removed_with_its_runs(folder: Path) -> None:
    small = [*SETTINGS, "--set", "model.hidden_size=64", "--set", "data.split=[0.7,0.2,0.1]"]
    options = ["--data", "names.txt", "--seeds", "1", "--match", "hidden", "-q"]
    assert run(["compare", "rnn", "gru", *small, *options]) == 0
    assert Path("runs/compare-1/compare.json").is_file()
    assert run(["runs", "--rm", "runs/compare-1"]) == 0
    assert list(Path("runs").iterdir()) == []


def test_a_comparison_that_is_being_written_stays(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = Path("runs/compare-1")
    (comparison / "runs").mkdir(parents=True)
    (comparison / "measured").mkdir()
    with FileLock(comparison / ".lock"):
        assert run(["runs", "--rm", str(comparison)]) == 2
    assert "is being trained" in capsys.readouterr().err
    assert run(["runs", "--rm", str(comparison)]) == 0
    assert not comparison.exists()


def test_a_study_is_removed_with_the_texts_that_it_has_drawn(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Path("runs/study-1")
    (study / "1000-parameters" / "runs").mkdir(parents=True)
    mark(study)
    write_random_text(study, 1000, 6.0)
    for name, content in (("random-5.txt", "mine"), ("notes.txt", "mine")):
        (study / name).write_text(content)
        assert run(["runs", "--rm", str(study)]) == 2
        assert f"holds more than comparisons: {name}" in capsys.readouterr().err
        (study / name).unlink()
    (study / "1000-parameters" / "runs" / "notes").mkdir()
    assert run(["runs", "--rm", str(study)]) == 2
    (study / "1000-parameters" / "runs" / "notes").rmdir()
    assert run(["runs", "--rm", str(study)]) == 0
    assert not study.exists()


def test_a_run_is_removed_once_by_whatever_paths_it_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = begun("names-1")
    names = (str(path), str(path.absolute()), "runs/../runs/names-1")
    assert run(["runs", "--json", *(part for name in names for part in ("--rm", name))]) == 0
    (removed,) = json.loads(capsys.readouterr().out)["removed"]
    assert removed["run"] == "runs/names-1"


def test_folders_of_other_programs_with_a_runs_names_stay(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (missing, config) in enumerate(
        (
            ("none", "[tool]\nname = 'mine'\n"),
            ("none", "[data]\npath = 'x'\n"),
            ("none", "no TOML"),
            ("none", ""),
            ("checkpoints", "[tool]\n"),
        )
    ):
        path = begun(f"other-{number}")
        (path / "config.toml").write_text(config)
        if missing == "checkpoints":
            (path / "checkpoints").rmdir()
    (with_notes := begun("with-notes")).joinpath("notes.txt").write_text("mine")
    (with_weights := begun("with-weights")).joinpath("checkpoints/mine.pt").write_text("mine")
    Path("runs/locked").mkdir()
    Path("runs/locked/.lock").touch()
    before = sorted(Path("runs").rglob("*"))
    assert run(["runs", "--prune"]) == 0
    assert sorted(Path("runs").rglob("*")) == before
    for number in range(5):
        assert run(["runs", "--rm", f"runs/other-{number}"]) == 2
        assert "is not a run" in capsys.readouterr().err
    assert sorted(Path("runs").rglob("*")) == before
    assert run(["runs", "--rm", str(with_notes), "--rm", str(with_weights)]) == 0  # named


def test_links_inside_a_run_are_removed_and_their_targets_stay(folder: Path) -> None:
    outside = folder / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("mine")
    for name, target in (
        (".lock", outside / "kept.txt"),
        ("metrics.jsonl", outside / "kept.txt"),
        ("checkpoints", outside),
    ):
        path = begun("names-1")
        if (path / name).is_dir():
            (path / name).rmdir()
        else:
            (path / name).unlink()
        (path / name).symlink_to(target)
        assert run(["runs", "--rm", str(path)]) == 0
        assert not path.exists()
        assert (outside / "kept.txt").read_text() == "mine"


def test_runs_without_a_checkpoint_are_named_with_what_removes_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun("names-1")
    assert run(["runs"]) == 0
    assert "charlm runs runs --prune" in capsys.readouterr().err
    assert run(["runs", "--prune", "--plot", "x.png"]) == 2
    assert run(["runs", "nowhere", "--prune", "--rm", "runs/names-1"]) == 2
    assert Path("runs/names-1").is_dir()


def test_curves_are_drawn_of_runs_that_were_evaluated(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun("names-1")
    assert run(["runs", "--plot", "curves.png"]) == 2
    said = capsys.readouterr().err
    assert "no run in runs was evaluated yet" in said
    assert "train one first" in said
    assert not Path("curves.png").exists()


@pytest.mark.parametrize("value", ['"low"', "true", "NaN", "1e999", "[1]"])
def test_curve_has_no_point_that_is_no_number(value: str) -> None:
    path = begun("names-1")
    row = '{"kind": "eval", "step": %d, "characters": 9, "seconds": 1, "bits_per_character": %s}\n'
    (path / "metrics.jsonl").write_text(row % (6, value) + row % (12, "2.5"))
    (listed,) = list_runs(Path("runs"))
    assert listed.curve == [{"step": 12, "characters": 9, "seconds": 1, "bits_per_character": 2.5}]


# ---- resumed with another schedule --------------------------------------------------------------


def test_a_learning_rate_that_rises_when_a_run_is_resumed_is_named_with_what_keeps_it_low(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = ["--set", "train.final_learning_rate=0.1", "--set", "train.learning_rate=0.01"]
    assert run(["train", "names.txt", *SETTINGS, *rates, "-q"]) == 0
    shutil.copytree("runs/names-1", "runs/names-2")
    more = ["train", "--resume", "--run", "runs/names-1", "--set", "train.steps=40", "-q"]
    capsys.readouterr()
    assert run(more) == 0
    said = capsys.readouterr().err
    assert "the learning rate rises from 0.0012" in said
    assert "to 0.0085" in said
    assert run([*more, *offered(said, "names-1", "names-2")]) == 0
    assert "rises" not in capsys.readouterr().err
    late = late_rates("runs/names-2")
    assert late == [0.0012] * len(late)
    assert len(late) > 3


def offered(said: str, name: str, copy: str) -> list[str]:
    """Return the options that a warning says to repeat the command with, for a copy of the run."""
    _, _, options = said.partition("repeat the command with ")
    return shlex.split(options.splitlines()[0].replace(name, copy))


def late_rates(path: str) -> list[float]:
    rows = map(json.loads, (Path(path) / "metrics.jsonl").read_text().splitlines())
    return [row["learning_rate"] for row in rows if row["kind"] == "train" and row["step"] > 12]


def test_what_keeps_the_rate_low_also_works_after_a_rate_that_ended_at_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "train.learning_rate=0.01", "--set", "train.final_learning_rate=0"]
    assert run(["train", "names.txt", *SETTINGS, *settings, "-q"]) == 0
    shutil.copytree("runs/names-1", "runs/names-2")
    more = ["train", "--resume", "--run", "runs/names-1", "--set", "train.steps=40", "-q"]
    capsys.readouterr()
    assert run(more) == 0
    said = capsys.readouterr().err
    assert "rises" in said
    assert run([*more, *offered(said, "names-1", "names-2")]) == 0
    assert "rises" not in capsys.readouterr().err
    late = late_rates("runs/names-2")
    assert late == [0.0005] * len(late)
    assert len(late) > 3


@pytest.mark.parametrize(
    ("changes", "is_named"),
    [
        (["train.learning_rate=0.05"], True),
        (["train.final_learning_rate=1"], True),
        (["train.warmup_steps=30"], True),  # lower at once, higher later
        (["train.steps=12", "train.learning_rate=0.05"], False),  # there is no step left
        (["train.learning_rate=0.0001"], False),
    ],
)
def test_every_change_that_lets_the_rate_rise_is_named(
    changes: list[str], is_named: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "names.txt", *SETTINGS, "-q"]) == 0
    capsys.readouterr()
    run(
        ["train", "--resume", "--run", "runs/names-1", "-q", "--set", "train.steps=16"]
        + [part for change in changes for part in ("--set", change)]
    )
    assert ("the learning rate rises" in capsys.readouterr().err) == is_named


def test_a_run_that_goes_on_as_it_was_says_nothing_of_its_rate(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "names.txt", *SETTINGS, "--set", "train.steps=12", "-q"]) == 0
    shutil.rmtree("runs/names-1/checkpoints/step-00000012")
    capsys.readouterr()
    assert run(["train", "--resume", "--run", "runs/names-1", "-q"]) == 0
    assert "learning rate" not in capsys.readouterr().err


def test_a_folder_of_runs_that_is_a_file_is_called_one(tmp_path: Path) -> None:
    refuse_no_folder(tmp_path)
    file = tmp_path / "words.txt"
    file.write_text("the words", encoding="utf-8")
    with pytest.raises(UsageError, match=r"words\.txt is a file, not a folder"):
        refuse_no_folder(file)
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere"):
        refuse_no_folder(tmp_path / "nowhere")
