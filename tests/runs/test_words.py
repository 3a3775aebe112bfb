"""The messages of `charlm.runs`, word by word: the cause with its value, and the remedy."""

import json
import os
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import saved_state
from filelock import FileLock

from charlm.common import consent
from charlm.common.errors import CharlmError, CheckpointError, UsageError
from charlm.config.loading import from_toml, load
from charlm.config.schema import to_toml
from charlm.models.ngram import GramCounts, NGram
from charlm.runs import checkpoint, finding, listing, manifest, named, ngram_file, removal
from charlm.runs.directory import RunDirectory, refuse_taken
from charlm.runs.own_text import corpus_of, with_text
from charlm.runs.state import SavedState, read_state
from charlm.text import corpus as texts
from charlm.text.files.sources import STANDARD_LIBRARY
from charlm.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary("char", "none", tuple(map(ord, "abc")), has_unknown=False)


def said(call: Callable[..., object], *arguments: object, **options: object) -> tuple[str, str]:
    """Return the cause and the remedy of the error that a call ends with."""
    with pytest.raises(CharlmError) as caught:
        call(*arguments, **options)
    return caught.value.what, caught.value.advice


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """The run `run` in the working directory, without a checkpoint."""
    monkeypatch.chdir(tmp_path)
    made = RunDirectory.create(Path("run"), load("default", [], {}).resolve().config, VOCABULARY)
    made.unlock()
    return made


def saved(run: RunDirectory, step: int, *, best: bool = False, **values: object) -> Path:
    """Write a checkpoint of a text, a configuration and weights of nothing."""
    config = to_toml(load("default", [], {}).resolve().config)
    state = {**saved_state(step).to_json(), "vocabulary": VOCABULARY.to_json(), "config": config}
    return run.save(
        step,
        weights={"w": torch.zeros(1)},
        training={},
        state=SavedState.model_validate(state | values),
        best=best,
    )


# ---- a run's directory --------------------------------------------------------------------------


def test_a_run_is_created_in_a_free_place_only(run: RunDirectory) -> None:
    Path("file").touch()
    Path("folder").mkdir()
    Path("folder/notes").touch()
    another = "give another --run"
    assert said(refuse_taken, Path("file")) == ("file is a file, not the folder of a run", another)
    assert said(refuse_taken, Path("folder")) == (
        "folder exists and is not empty",
        "continue it (--resume --run folder) or give another --run",
    )
    config = load("default", [], {}).resolve().config
    assert said(RunDirectory.create, Path("file/run"), config, VOCABULARY) == (
        "cannot write the run file/run: Not a directory",
        "give a --run that you can write to",
    )
    assert said(RunDirectory.create, Path("\udcff"), config, VOCABULARY) == (
        "the name \udcff is not UTF-8",
        another,
    )
    saved(run, 1)
    assert said(RunDirectory.create, run.path, config, VOCABULARY, anew=True) == (
        "run has just been used by another process",
        "try again",
    )
    assert not FileLock("run/.lock").is_locked


def test_a_run_is_written_by_one_process_at_a_time(run: RunDirectory) -> None:
    with FileLock("run/.lock"):
        assert said(run.lock) == (
            "run is being trained by another process",
            "wait for it, or stop it",
        )
        assert listing.list_runs(Path())[0].state == "running"
    run.lock()
    run.unlock()
    (run.path / ".lock").unlink()
    (run.path / ".lock").mkdir()
    assert said(run.lock)[1] == "check its permissions"
    assert said(run.lock)[0].startswith("cannot write to the run run: ")


def test_a_file_that_cannot_be_written_is_named_with_the_way_on(run: RunDirectory) -> None:
    (run.path / "summary.json").mkdir()
    assert said(run.write_summary, {}) == (
        "cannot write run/summary.json: Is a directory",
        "make room or mend the disk, then continue: charlm train --resume --run run",
    )
    (run.path / "metrics.jsonl").unlink()
    (run.path / "metrics.jsonl").symlink_to("elsewhere")
    assert said(run.append_metrics, {"step": 1})[0].startswith("cannot write run/metrics.jsonl: ")


def test_a_checkpoint_is_found_by_name_or_step(
    run: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    train = "train it: charlm train --resume --run run"
    assert said(run.find) == ("run has no checkpoint yet", train)
    assert said(run.find, "7") == ("run has no checkpoint step-00000007", train)
    saved(run, 1)
    saved(run, 12)
    assert run.find("0012") == run.checkpoints / "step-00000012"
    assert said(run.find, "7") == (
        "run has no checkpoint step-00000007",
        "it has step-00000001, step-00000012; name one: --checkpoint STEP",
    )
    assert said(run.find, "last") == (
        "--checkpoint last is no checkpoint",
        "name best, latest or a step's number",
    )
    assert not caplog.messages
    (run.checkpoints / "latest").write_text("step-00000099\n")
    assert run.find("latest").name == "step-00000012"
    assert caplog.messages == [
        "run/checkpoints/latest names no checkpoint: 'step-00000099'",
        "taking the newest intact checkpoint of run: step-00000012",
    ]
    caplog.clear()
    (run.checkpoints / "best").write_text("")
    assert run.find().name == "step-00000012"
    assert caplog.messages[0] == "run/checkpoints/best names no checkpoint: ''"
    (run.checkpoints / "best").unlink()
    caplog.clear()
    (run.checkpoints / "latest").unlink()
    (run.checkpoints / "latest").mkdir()
    (run.checkpoints / "step-00000012" / manifest.MODEL).write_bytes(b"")
    assert run.find("latest").name == "step-00000001"
    assert caplog.messages == [
        "run/checkpoints/latest cannot be read: Is a directory",
        "taking the newest intact checkpoint of run: step-00000001",
    ]
    (run.checkpoints / "step-00000001" / manifest.MODEL).write_bytes(b"")
    assert said(run.find, "latest") == (
        "run has no intact checkpoint",
        "use a copy of it, or train again",
    )


def test_rewinding_drops_later_steps_and_their_pointers(run: RunDirectory) -> None:
    for step in (1, 2):
        saved(run, step, best=step == 2)
    run.rewind(1, None)
    assert (run.checkpoints / "latest").read_text() == "step-00000001\n"
    assert not (run.checkpoints / "best").exists()  # it was of a later step
    assert run.newest_first() == [run.checkpoints / "step-00000001"]
    saved(run, 3)
    run.rewind(3, 1)
    assert (run.checkpoints / "best").read_text() == "step-00000001\n"
    run.rewind(3, 2)  # there is none: it stays
    assert (run.checkpoints / "best").read_text() == "step-00000001\n"


# ---- the search for runs ------------------------------------------------------------------------


def test_a_run_is_located_by_its_path_or_as_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said(finding.locate, None) == (
        "there is no run in runs/",
        "train one first: charlm train",
    )
    assert said(finding.locate, None, name="words") == (
        "there is no run runs/words-<n>",
        "name one: --run runs/...",
    )
    assert said(finding.locate, Path("none")) == (
        "there is no run none",
        "name a run directory, such as runs/hello-1",
    )
    Path("folder").mkdir()
    assert said(finding.locate, Path("folder")) == (
        f"{tmp_path}/folder is not a run of charlm",
        "name a run directory or a checkpoint",
    )
    assert said(listing.list_runs, Path("none")) == (
        "there is no folder none",
        "name the folder that the runs are in, or train one first",
    )
    assert finding.last_change(Path("none")) == 0
    assert finding.last_change(Path("folder")) == Path("folder").stat().st_mtime


def test_partners_are_different_runs(run: RunDirectory) -> None:
    own, other = saved(run, 1), saved(run, 2, best=True)
    assert finding.find_partners(own, ["ngram", "run"]) == {"run": other.absolute()}
    assert said(finding.find_partners, other, ["run"]) == (
        "run is named twice",
        "name different runs",
    )
    assert said(finding.find_partners, own, ["run", Path("run")])[0] == "run is named twice"
    assert said(finding.find_partners, own, ["ngram", "ngram"]) == (
        "ngram is named twice",
        "name it once",
    )
    assert finding.home_of(own) == Path("run")
    assert finding.home_of(Path("copied")) == Path("copied")


def test_names_of_new_runs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [finding.claim_path("a") for _ in range(2)] == [Path("runs/a-1"), Path("runs/a-2")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("runs").touch()
    assert said(finding.claim_path, "a") == (
        f"cannot make a run directory in {tmp_path}/elsewhere/runs: File exists",
        "go to a folder that you can write to, or name one (--run, --out)",
    )


# ---- checkpoints --------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_named_with_another_one(run: RunDirectory) -> None:
    first, last = saved(run, 1), saved(run, 2)
    assert read_state(first)[0].step == 1
    content = (last / manifest.MANIFEST).read_bytes()
    another = f"another checkpoint of this run is {first}"

    def refused(what: str, advice: str = another) -> None:
        assert said(checkpoint.read, last) == (what, advice)

    (last / manifest.MANIFEST).unlink()
    refused(f"{last} is no checkpoint: it has no manifest.json", "name a run that charlm made")
    (last / manifest.MANIFEST).write_text("{}")
    refused(
        f"{last}/manifest.json is not of the format charlm-checkpoint-1",
        "use the version of charlm that wrote it",
    )
    (last / manifest.MANIFEST).write_text("{")
    refused(
        f"damaged checkpoint {last}: manifest.json cannot be read: Expecting property name "
        "enclosed in double quotes: line 1 column 2 (char 1)"
    )
    (last / manifest.MANIFEST).write_text(json.dumps({"format": manifest.FORMAT, "files": {}}))
    refused(f"damaged checkpoint {last}: manifest.json does not name state.json")
    for size, digest in ((True, ""), (-1, ""), (2**53, ""), (1, None)):
        entry = {"size": size, "sha256": digest}
        files = {"format": manifest.FORMAT, "files": {manifest.STATE: entry}}
        (last / manifest.MANIFEST).write_text(json.dumps(files))
        refused(
            f"damaged checkpoint {last}: manifest.json does not have size and SHA-256 of state.json"
        )
    (last / manifest.MANIFEST).write_bytes(content)
    size = (last / manifest.STATE).stat().st_size
    state = (last / manifest.STATE).read_bytes()
    (last / manifest.STATE).write_bytes(state[:-1])
    refused(f"damaged checkpoint {last}: state.json has {size - 1:,} bytes instead of {size:,}")
    (last / manifest.STATE).write_bytes(state[:-1] + b" ")
    refused(f"damaged checkpoint {last}: the SHA-256 of state.json is not the one that was written")
    (last / manifest.STATE).unlink()
    refused(f"damaged checkpoint {last}: state.json cannot be read: No such file or directory")
    (last / manifest.STATE).write_bytes(state)
    last.rename(last.with_name("step-00000003"))
    (last.parent / "step-00000001").rename("aside")
    last = last.with_name("step-00000003")
    refused(
        f"damaged checkpoint {last}: it was written as step-00000002, and has been renamed",
        "put back a copy of the run, or train it again",
    )
    Path("link").symlink_to("aside")
    assert said(read_state, Path("link"))[0] == (
        "damaged checkpoint link: it is a symbolic link, not the folder that charlm wrote"
    )


def test_values_that_are_no_numbers_are_damage(run: RunDirectory) -> None:
    folder = run.save(
        1,
        weights={"w": torch.tensor([0.0, float("nan")])},
        training={},
        state=SavedState.model_validate(
            {
                **saved_state(1).to_json(),
                "vocabulary": VOCABULARY.to_json(),
                "config": to_toml(load("default", [], {}).resolve().config),
            }
        ),
        best=False,
    )
    assert said(checkpoint.read, folder)[0] == (
        f"damaged checkpoint {folder}: w in model.safetensors has values that are no finite numbers"
    )
    with pytest.raises(ValueError, match=r"^there are values that are no finite numbers$"):
        checkpoint.read_arrays(folder)
    integers = torch.arange(3)
    assert checkpoint.is_finite(integers)
    assert checkpoint.is_finite(torch.zeros(0))


def test_an_ngram_file_is_of_its_text(tmp_path: Path) -> None:
    def ones() -> GramCounts:
        numbers = torch.arange(2).numpy()
        return GramCounts(numbers, 0 * numbers, numbers + 1)

    ngram_file.write(tmp_path, NGram([ones()], 3), "text")
    assert ngram_file.read(tmp_path, "text", 3).counted[0].counts.tolist() == [1, 2]
    folder, advice = tmp_path / "ngram", "put back a copy of the run, or train it again"
    assert said(ngram_file.read, tmp_path, "another", 3) == (
        f"damaged checkpoint {folder}: it counts another text",
        advice,
    )
    assert said(ngram_file.read, tmp_path, "text", 1)[0] == (
        f"damaged checkpoint {folder}: counts.safetensors: ValueError a gram has a symbol outside "
        "the vocabulary"
    )


# ---- names and texts ----------------------------------------------------------------------------


def test_names_of_a_foreign_run_need_consent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    own = load("default", [f"train.start_from={tmp_path}/start"], {}).resolve().config
    before = "this run was not made here, and its "
    assert said(named.require_start, own) == (
        f"{before}run to start from is not opened without your word: {tmp_path}/start",
        "to open it: --init RUN, by that name",
    )
    train = own.train.model_copy(update={"teachers": [f"{tmp_path}/{n}" for n in range(5)]})
    listed = ", ".join(f"{tmp_path}/{n}" for n in range(3))
    assert said(named.require_teachers, own.model_copy(update={"train": train})) == (
        f"{before}teacher is not opened without your word: {listed} and 2 more",
        "to open it: --teacher RUN, by that name",
    )
    data = own.data.model_copy(update={"path": f"{tmp_path}/text"})
    assert not named.is_known(data)
    assert said(named.open_text, data) == (
        f"{before}text is not opened without your word: {tmp_path}/text",
        "if you have the text, or want that one: --data PATH",
    )
    consent.remember([f"{tmp_path}/start"])
    named.require_start(own)
    for shipped in ("builtin:hello", "task:parity", STANDARD_LIBRARY):
        assert named.is_known(data.model_copy(update={"path": shipped}))


def test_the_text_of_a_run_is_the_one_that_it_was_trained_on(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    Path("text").write_text("abc" * 200)
    config = load("default", [], {"data.path": str(tmp_path / "text")}).resolve().config
    consent.remember([str(tmp_path / "text")])
    encoded = texts.prepare(config.data, texts.survey(config.data))
    values = {"config": to_toml(config), "vocabulary": encoded.vocabulary.to_json()}
    right = checkpoint.read(saved(run, 1, corpus=encoded.fingerprint, **values))
    assert corpus_of(right).fingerprint == encoded.fingerprint
    moved = with_text(right, ["text"])
    assert corpus_of(moved) is moved.text
    assert moved.folder == right.folder
    Path("other").write_text("abcd" * 200)
    assert said(with_text, right, ["other"]) == (
        "other is not the text that this run was trained on, or it has changed",
        f"the run's configuration names {tmp_path}/text; --data PATH takes the same text from "
        "another place",
    )
    other = replace(right, vocabulary=VOCABULARY, folder=Path("folder"))
    for read in (corpus_of, lambda one: with_text(one, ["text"])):
        assert said(read, other) == (
            "the vocabulary of folder is not that of its text",
            "use the run that charlm wrote",
        )
    Path("text").write_text("abc" * 300)
    assert said(corpus_of, right) == (
        "the run's text has changed since it was trained",
        "name the text that it was trained on: --data PATH",
    )


# ---- the list, the removal ----------------------------------------------------------------------


def test_numbers_of_a_listed_run_are_counts_and_finite(run: RunDirectory) -> None:
    saved(run, 1, progress={"best": {"bits_per_character": 2.5}})
    (one,) = listing.list_runs(run.path)
    assert (one.steps, one.bits_per_character, one.parameters, one.state) == (1, 2.5, 1, "stopped")
    for progress in ({"best": {"bits_per_character": "low"}}, {"best": {"loss": 1}}, {}):
        saved(run, 1, progress=progress)
        (one,) = listing.list_runs(run.path)
        assert (one.bits_per_character, one.state) == (None, "damaged")
    assert listing._count(2**53 - 1) == 2**53 - 1
    for value in (2**53, -1, True, 1.0, "1"):
        with pytest.raises(ValueError, match=r"^not a count$"):
            listing._count(value)
    for number in (True, "1", None, float("inf")):
        with pytest.raises(ValueError, match=r"^not a number$"):
            listing._finite(number)


def test_a_listed_run_has_the_time_of_its_last_save_and_the_names_of_its_texts(
    run: RunDirectory,
) -> None:
    saved(run, 1)
    os.utime(run.checkpoints / "latest", (7, 7))
    config = load("default", ['data.path=["/a/my.txt", "folder/"]'], {}).resolve().config
    run.write_config(config)
    (one,) = listing.list_runs(run.path)
    assert (one.changed, one.text) == (7, "my.txt, folder")


def test_only_runs_and_comparisons_are_removed(run: RunDirectory, tmp_path: Path) -> None:
    Path("notes").mkdir()
    Path("link").symlink_to("run")
    lists = "charlm runs lists them"
    assert said(removal.remove, [Path("none")]) == ("there is no run none", lists)
    assert said(removal.remove, [Path("notes")]) == (
        "notes is not a run or comparison of charlm",
        lists,
    )
    assert said(removal.remove, [Path("link")]) == (
        "link is a link",
        f"remove the link itself, or name {tmp_path}/run",
    )
    Path("compared/runs").mkdir(parents=True)
    Path("compared/compare.json").touch()
    with FileLock("run/.lock"):
        Path("compared/runs/rnn").symlink_to("../../run")
        assert said(removal.remove, [Path("compared")])[0] == "compared/runs/rnn is being trained"
        Path("compared/runs/rnn").unlink()
        assert said(removal.remove, [run.path]) == (
            "run is being trained",
            "stop it first, or wait",
        )
        assert removal.prune(Path()) == []
    os.chdir("run")
    assert said(removal.remove, [tmp_path / "run"]) == (
        f"{tmp_path}/run holds the working directory",
        "go elsewhere first",
    )
    os.chdir("..")
    for name in ("b.txt", "a.txt", "d.txt", "c.txt"):
        Path("compared", name).touch()
    assert said(removal.remove, [Path("compared")]) == (
        "compared holds more than a comparison: a.txt, b.txt, c.txt",
        "move that elsewhere first",
    )
    size = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    assert removal.remove([run.path]) == [removal.Removed("run", size)]
    assert not run.path.exists()


def test_a_configuration_is_read_back_as_written(run: RunDirectory) -> None:
    config = load("default", ["model.hidden_size=9"], {}).resolve().config
    run.write_config(config)
    assert tomllib.loads(run.read_config())["model"]["hidden_size"] == 9
    assert from_toml(run.read_config(), "config.toml") == config


def test_errors_of_runs_have_their_exit_codes(run: RunDirectory) -> None:
    with pytest.raises(UsageError) as usage:
        run.find()
    with pytest.raises(CheckpointError) as damaged:
        checkpoint.read(Path("none"))
    assert (usage.value.exit_code, damaged.value.exit_code) == (2, 3)
