"""`charlm sample`: the best of several, texts that run in circles, escapes in options."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, WORDS, Command, words

import charlm

SETTINGS = [part for change in [*TINY, "train.steps=60"] for part in ("--set", change)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(command: Command, name: str, text: str, *changes: str) -> None:
    """Train a run of this name on a text."""
    Path(f"{name}.txt").write_text(text, encoding="utf-8")
    more = [part for change in changes for part in ("--set", change)]
    assert command("train", f"{name}.txt", "--run", name, "-q", *SETTINGS, *more).returncode == 0


@pytest.fixture
def plain(folder: Path, command: Command) -> str:
    train(command, "plain", words(1500))
    return "plain"


def report(command: Command, *arguments: str) -> dict[str, Any]:
    done = command("sample", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


# ---- the best of several -------------------------------------------------------------------------


def best_of_each(samples: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    groups = [samples[at : at + size] for at in range(0, len(samples), size)]
    return [min(group, key=lambda one: one["bits_per_character"]) for group in groups]


def test_best_of_keeps_the_candidate_of_fewest_bits_per_character(
    plain: str, command: Command
) -> None:
    options = [plain, "--seed", "3", "--length", "30", "--temperature", "1"]
    every = report(command, *options, "--num", "6")
    best = report(command, *options, "--num", "2", "--best-of", "3")
    assert best["samples"] == best_of_each(every["samples"], 3)
    assert (every["best_of"], best["best_of"]) == (1, 3)
    assert best == report(command, *options, "--num", "2", "--best-of", "3")
    printed = command("sample", *options, "--best-of", "6", "--prompt", "").stdout
    assert printed.rstrip("\n") == best_of_each(every["samples"], 6)[0]["text"].rstrip("\n")


def test_best_of_goes_with_stop_mixtures_and_clamps(plain: str, command: Command) -> None:
    for more in (["--stop", "e"], ["--with", "ngram"], ["--clamp", "0.1=0.5"]):
        options = [plain, "--seed", "1", "--length", "20", "--temperature", "1", *more]
        every = report(command, *options, "--num", "4")["samples"]
        assert report(command, *options, "--best-of", "4")["samples"] == best_of_each(every, 4)


def test_best_of_new_records_are_new_and_differ(folder: Path, command: Command) -> None:
    names = sorted({a + b for a in WORDS for b in WORDS})[::2]
    train(command, "names", "\n".join(names) + "\n", "data.records=lines")
    options = ["names", "--novel", "--seed", "2", "--num"]
    every = report(command, *options, "6")["samples"]
    best = report(command, *options, "2", "--best-of", "3")["samples"]
    assert best == best_of_each(every, 3)
    assert all(one["novel"] for one in best)


def test_best_of_more_candidates_than_fit_in_memory_is_refused(
    plain: str, command: Command
) -> None:
    done = command("sample", plain, "--num", "1000", "--best-of", "1000000000")
    assert done.returncode == 2
    assert "1,000,000,000,000 texts" in done.stderr
    assert done.stderr.count("error: ") == done.stderr.count("help: ") == 1


def test_best_of_from_python_is_that_of_the_command(plain: str, command: Command) -> None:
    loaded = charlm.load(plain)
    text = loaded.sample("the ", seed=4, length=30, temperature=1.0, best_of=5)
    options = ["--seed", "4", "--length", "30", "--temperature", "1", "--prompt", "the "]
    assert report(command, plain, *options, "--best-of", "5")["samples"][0]["text"] == text
    with pytest.raises(charlm.CharlmError, match="best_of = 0"):
        loaded.sample(best_of=0)


# ---- against circles -----------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--with", "ngram"]], ids=["alone", "mixture"])
def test_text_in_circles_says_so_and_the_penalty_helps(
    plain: str, command: Command, more: list[str]
) -> None:
    options = [plain, "--temperature", "0", "--length", "600", "--seed", "1", *more]
    circling = command("sample", *options)
    (line,) = [line for line in circling.stderr.splitlines() if "in circles" in line]
    assert "--repetition-penalty" in line
    assert "--min-p" in line
    assert report(command, *options)["samples"][0]["loops"] is True
    penalized = [*options, "--repetition-penalty", "10"]  # of a model that knows little
    assert "in circles" not in command("sample", *penalized).stderr
    assert report(command, *penalized)["samples"][0]["loops"] is False
    several = command("sample", *options, "--num", "3")
    assert several.stderr.count("3 of 3 texts run in circles") == 1


def test_options_against_circles_come_from_the_configuration_and_are_checked(
    folder: Path, command: Command
) -> None:
    train(command, "plain", words(1500))
    train(command, "held", words(1500), "sample.repetition_penalty=3.0", "sample.min_p=0.3")
    options = ["--seed", "2", "--length", "200"]
    asked = ["--repetition-penalty", "3", "--min-p", "0.3"]
    typed = report(command, "plain", *options, *asked)["samples"]
    assert report(command, "held", *options)["samples"] == typed
    assert report(command, "plain", *options)["samples"] != typed
    called = charlm.load("plain").sample(seed=2, length=200, repetition_penalty=3.0, min_p=0.3)
    assert called == typed[0]["text"]
    for option, value in (("--repetition-penalty", "0.5"), ("--min-p", "1.5")):
        done = command("sample", "plain", option, value)
        assert done.returncode == 2
        assert option.strip("-").replace("-", "_") in done.stderr
        assert value in done.stderr


# ---- escapes -------------------------------------------------------------------------------------


def test_escapes_are_read_where_the_model_knows_no_backslash(plain: str, command: Command) -> None:
    options = [plain, "--seed", "1", "--length", "200", "--temperature", "1"]
    typed, quoted = (command("sample", *options, "--stop", stop) for stop in ("\\n", "\n"))
    assert typed.stdout == quoted.stdout
    assert "\n" not in typed.stdout.strip("\n")
    assert typed.stderr.count("--stop: ") == 1
    assert "--stop: " not in quoted.stderr
    typed, quoted = (command("sample", *options, "--prompt", p) for p in ("fox\\ndog", "fox\ndog"))
    assert typed.stdout == quoted.stdout
    assert typed.stderr.count("--prompt: ") == 1
    assert "not in the vocabulary" not in typed.stderr


def test_escapes_are_read_in_the_text_of_gates(plain: str, command: Command) -> None:
    typed, quoted = (
        command("inspect", plain, "--gates", text, "--json") for text in ("a\\nfox", "a\nfox")
    )
    assert typed.returncode == 0, typed.stderr
    assert json.loads(typed.stdout) == json.loads(quoted.stdout)
    assert typed.stderr.count("--gates: ") == 1


def test_a_backslash_that_the_model_knows_is_taken_as_it_is(folder: Path, command: Command) -> None:
    train(command, "code", words(1500).replace(" over ", " \\now ") + "\\n\\t\n" * 20)
    prompted = command("sample", "code", "--prompt", "a\\nb", "--length", "5")
    assert prompted.stdout.startswith("a\\nb")
    assert "--prompt $'\\n'" in prompted.stderr
    stopped = report(command, "code", "--stop", "\\n", "--seed", "1", "--length", "400")
    assert "\\n" not in stopped["samples"][0]["text"]
    for prompt in ("fox", "\\x"):
        assert "--prompt" not in command("sample", "code", "--prompt", prompt).stderr


def test_stop_that_the_model_cannot_write_is_named(plain: str, command: Command) -> None:
    warned = command("sample", plain, "--stop", "the ß", "--length", "5")
    assert warned.returncode == 0
    assert "--stop can never match" in warned.stderr
    assert "'ß' (U+00DF)" in warned.stderr
    assert "never match" not in command("sample", plain, "--stop", "the", "--length", "5").stderr
