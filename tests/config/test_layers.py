"""Origins of values, and refusals."""

from pathlib import Path

import pytest

from charlm.common.errors import ConfigError
from charlm.config import loading, presets
from charlm.config.schema import Config, to_toml


def resolve(source: str, *changes: str, characters: int = 0) -> Config:
    return loading.load(source, changes).resolve(characters).config


def refusal(source: str, *changes: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(source, *changes)
    assert caught.value.advice
    return str(caught.value)


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_options_of_another_cell_are_refused() -> None:
    assert "is for lstm" in refusal("default", "model.cell=gru", "model.forget_bias=5.0")
    assert "is for gru" in refusal("default", "model.cell=lstm", "model.reset_gate=before")


def test_precedence_is_default_then_preset_then_file_then_set(tmp_path: Path) -> None:
    file = written(tmp_path, 'preset = "hello"\n[train]\nlearning_rate = 0.02\nseed = 5\n')
    layers = loading.load(file, ["train.seed=7"])
    resolved = layers.resolve()
    train = resolved.config.train
    assert (train.clip_norm, train.batch_size, train.learning_rate, train.seed) == (1, 1, 0.02, 7)
    assert resolved.origins["train.batch_size"] == "preset hello"
    assert resolved.origins["train.learning_rate"] == file
    assert resolved.origins["train.seed"] == "--set"
    assert "train.clip_norm" not in resolved.origins


def test_size_rules_pick_the_first_row_that_admits_the_text_and_yield_to_set() -> None:
    small, large = resolve("default", characters=50_000), resolve("default", characters=50_000_000)
    assert small.model.hidden_size < large.model.hidden_size
    kept = resolve("default", "model.hidden_size=7", characters=50_000)
    assert kept.model.hidden_size == 7
    assert kept.model.dropout == small.model.dropout


def test_all_errors_of_a_file_come_at_once_with_their_lines(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[model]\nhidden_size = -3\nbidirectional = true\ncel = "gru"\n'
        '[train]\nlearning_rate = nan\nsteps = "many"\n[dat]\npath = "x"\n',
    )
    message = refusal(file)
    for expected in (
        f"{file}:2: model.hidden_size = -3",
        f"{file}:3: model.bidirectional is refused",
        f"{file}:4: there is no key 'model.cel'; did you mean 'cell'?",
        f"{file}:6: train.learning_rate = nan",
        f"{file}:7: train.steps = 'many'",
        "there is no section 'dat'; did you mean 'data'?",
    ):
        assert expected in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("train.setps=3", "did you mean 'steps'?"),
        ("model.steps=3", "did you mean 'train.steps'?"),
        ("modle.cell=gru", "did you mean 'model'?"),
        ("model.cell=lst", "'multiplicative', 'indrnn' or 'deltanet'; did you mean 'lstm'"),
        ("train.steps=1.5", "should be a whole number"),
        ("train.steps=0", "greater than or equal to 1"),
        ("train.learning_rate=inf", "finite"),
        ("train.batch_size=99999999", "less than or equal"),
        ("train.adam_betas=[0.9, 1.0]", "less than 1"),
        ("data.split=[0.5, 0.2, 0.1]", "adds up to 0.8"),
        ("data.split=[0.0, 0.5, 0.5]", "nothing to train on"),
        ("model.nonlinearity=relu", "is for rnn"),
        ("train.device=gpu", "should be auto, cpu, cuda, cuda:N or mps"),
        ("steps=3", "'steps=3' is no setting"),
        ("train.steps", "'train.steps' is no setting"),
    ],
)
def test_bad_settings_are_refused_and_named(change: str, expected: str) -> None:
    assert expected in refusal("default", change)


def test_set_is_typed_by_the_schema() -> None:
    config = resolve(
        "default",
        "data.path=123",
        "train.steps=1_000",
        "model.bias=false",
        "data.split=[0.5, 0.5, 0.0]",
        'model.cell="gru"',
        "train.learning_rate=1e-3",
    )
    assert config.data.path == "123"
    assert config.train.steps == 1000
    assert config.model.bias is False
    assert config.data.split == [0.5, 0.5, 0.0]
    assert config.model.cell == "gru"


@pytest.mark.parametrize(
    "text",
    [
        "[train\nsteps = 3",
        "[train]\nsteps = " + "9" * 5000,
        "[train]\nsteps = " + "[" * 5000 + "]" * 5000,
        "train = 3",
        "[[train]]\nsteps = 3",
        "[[size]]\nmax_characters = 10\ndata = { unit = 'byte' }",
        "size = 3",
        "[[size]]\ntrain = { start_from = 'run' }",
        "[[size]]\ntrain = { teachers = ['run'] }",
        "preset = 3",
        'preset = "helo"',
        "[model]\nhidden_size = true",
    ],
)
def test_malformed_files_are_refused_with_one_message(tmp_path: Path, text: str) -> None:
    assert refusal(written(tmp_path, text))


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    assert "cannot read" in refusal(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_bytes(b"[data]\npath = '\xff'\n")
    assert "not UTF-8 at byte 15" in refusal(str(tmp_path / "bad.toml"))
    (tmp_path / "big.toml").write_bytes(b"#" * 2_000_000)
    assert "more than 1,000,000" in refusal(str(tmp_path / "big.toml"))


def test_unknown_presets_name_the_nearest() -> None:
    assert "did you mean 'shakespeare'?" in refusal("shakspeare")


def test_resolved_configurations_survive_toml() -> None:
    for preset in presets.names():
        config = resolve(preset, 'data.path=["a\\"b", "c\\\\d\\u0007é"]', characters=10**6)
        assert loading.from_toml(to_toml(config), "there and back") == config
