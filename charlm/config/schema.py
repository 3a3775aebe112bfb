"""The schema of the configuration: every key, its type, its bounds, its default.

Strict: unknown keys, values of another type, `nan` and `inf` are refused. `loading.py` combines the
values of presets, files and `--set`.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from charlm.cells import CELLS
from charlm.common.wording import suggestion
from charlm.config.codec import codec_named
from charlm.config.devices import DEVICES, is_device

Table = dict[str, Any]


class Section(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True
    )


def between(low: float, high: float) -> Any:
    return Field(ge=low, le=high)


def meeting(condition: Callable[[str], bool], promise: str) -> Any:
    """Annotate a text that must meet a condition. promise: the error's words after "should"."""

    def check(value: str) -> str:
        if not condition(value):
            raise PydanticCustomError("condition", f"Input should {promise}")
        return value

    return AfterValidator(check)


def is_sha256(text: str) -> bool:
    """Return True if a text is a SHA-256 in hexadecimal digits, or empty."""
    return re.fullmatch("([0-9a-f]{64})?", text) is not None


class Mark(Enum):
    """A property of a key, as part of its annotation."""

    RESUMABLE = "may change when a run is resumed; other keys would make the saved tensors wrong"
    PER_CELL = "may differ between the cells of a comparison; other keys are the same for all"
    SHAPE = "a model has it in common with one that begins with its weights"


RESUMABLE, PER_CELL, SHAPE = Mark.RESUMABLE, Mark.PER_CELL, Mark.SHAPE

Fraction = Annotated[float, between(0, 1)]


class DataConfig(Section):
    """[data]: the text, and its division into symbols and splits."""

    path: Annotated[str | list[str], RESUMABLE] = ""
    """Files, folders, `builtin:NAME`, `task:NAME`, `python:standard-library` or an `https://`
    address."""
    sha256: Annotated[str, meeting(is_sha256, 'be 64 digits of 0-9 and a-f, or ""')] = ""
    order: Annotated[Literal["natural", "name"], RESUMABLE] = "natural"
    """The order of a folder's files: "natural" reads the numbers in names by value (1, 2, 10),
    "name" letter by letter (1, 10, 2), and without those in UTF-16, as earlier versions did."""
    file_limit: Annotated[int, between(1, 10**9), RESUMABLE] = 100_000
    """Most files in folders; more are refused before one is opened."""
    encoding: Annotated[str, Field(max_length=40)] = ""
    """Encoding of files without a byte order mark, one of Python's codecs such as "cp1251"; "":
    UTF-8."""
    unit: Literal["char", "byte", "jamo"] = "char"
    normalize: Literal["none", "nfc", "nfd"] = "none"
    split: list[Fraction] = Field(default=[0.9, 0.05, 0.05], min_length=3, max_length=3)
    held_out_limit: Annotated[int, between(0, 10**12)] = 0
    """Most characters in the validation and in the test split; 0: no limit, but 10,000,000 in a
    text above 10 GiB. Records are limited to shares of about that size: these shrink as the text
    grows, and records move from the held-out splits to the train split."""
    minimum_count: Annotated[int, between(1, 10**9)] = 1
    unknown: bool = True
    """True adds a symbol for unknown characters to the vocabulary."""
    records: Literal["none", "files", "lines", "separator"] = "none"
    """Division into records, which are texts of their own: "none" (one running text), by file, by
    line, or by separator. Each record ends with a special symbol, which counts as the one character
    of a line's end or a separator; after a file it does not count. A record's content decides its
    split; those of the train split are shuffled."""
    separator: str = ""
    """The text between records, with records "separator"; it is not part of any record."""
    field: str = ""
    """The field with the text in the objects of `.jsonl` or the rows of `.parquet`; "": the files
    are text themselves. Each is a record with records "lines", a line with records "none"."""

    @field_validator("encoding")
    @classmethod
    def _known_codec(cls, name: str) -> str:
        return codec_named(name) if name else ""

    @model_validator(mode="after")
    def _check_records(self) -> Self:
        if self.records == "separator" and not self.separator:
            raise ValueError('records "separator" needs data.separator, the text between them')
        if self.records != "separator" and self.separator:
            raise ValueError('a separator needs data.records = "separator"')
        if self.field and self.records not in ("none", "lines"):
            raise ValueError(f'field needs records "none" or "lines", not "{self.records}"')
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"split {self.split} adds up to {sum(self.split):g}, not to 1")
        if self.split[0] == 0:
            raise ValueError(f"split {self.split} leaves nothing to train on")
        if self.unit == "byte" and self.encoding:
            raise ValueError('unit "byte" takes every byte as it is: no encoding')
        if self.unit == "byte" and (self.normalize != "none" or self.minimum_count > 1):
            raise ValueError(
                'unit "byte" takes every byte as it is: no normalize, no minimum_count'
            )
        if self.minimum_count > 1 and not self.unknown:
            raise ValueError("minimum_count above 1 needs unknown = true")
        return self


class ModelConfig(Section):
    """[model]: embedding -> stacked cells -> head."""

    cell: Annotated[str, SHAPE] = "lstm"
    """A name of `charlm.cells.CELLS`."""
    hidden_size: Annotated[int, between(1, 16_384), PER_CELL, SHAPE] = 256
    num_layers: Annotated[int, between(1, 32), PER_CELL, SHAPE] = 1
    embedding_size: Annotated[int, between(0, 16_384), PER_CELL, SHAPE] = 32
    """0: the symbols go in one-hot, as the lecture draws them."""
    dropout: Annotated[float, between(0, 0.95), PER_CELL] = 0.0
    weight_dropout: Annotated[float, between(0, 0.95), PER_CELL] = 0.0
    """Share of the elements of W_hh dropped in a training window (DropConnect), of rnn, lstm, gru,
    slstm, mogrifier and multiplicative."""
    bias: Annotated[bool, PER_CELL, SHAPE] = True
    nonlinearity: Annotated[Literal["tanh", "relu"], PER_CELL, SHAPE] = "tanh"
    reset_gate: Annotated[Literal["after", "before"], PER_CELL, SHAPE] = "after"
    initialization: Annotated[Literal["orthogonal", "xavier", "kaiming", "uniform"], PER_CELL] = (
        "orthogonal"
    )
    input_scale: Annotated[float, between(0, 100), PER_CELL] = 2.0
    """The standard deviation of the input's share of every gate, W_ih x, before training, for any
    size of the embedding; 0: by `initialization`, which otherwise applies to W_hh alone. An LSTM
    whose input starts small learns slowly. (Upper layers begin with less: their input is assumed to
    have variance 1. A cell without separate weights for its input ignores it.)"""
    forget_bias: Annotated[float, between(-10, 10), PER_CELL] = 1.0
    heads: Annotated[int, between(1, 1024), PER_CELL, SHAPE] = 4
    """Of mlstm and deltanet: the matrices of a layer."""
    key_size: Annotated[int, between(1, 4096), PER_CELL, SHAPE] = 32
    """Of mlstm and deltanet: the columns of a matrix."""
    rounds: Annotated[int, between(0, 16), PER_CELL, SHAPE] = 5
    """Of mogrifier: the times that input and state scale each other."""
    rank: Annotated[int, between(0, 16_384), PER_CELL, SHAPE] = 0
    """Of mogrifier: of its matrices; 0: whole matrices."""
    residual: Annotated[bool, PER_CELL, SHAPE] = False
    """Add each layer's input to its output; an embedding of another size is projected first."""
    normalization: Annotated[Literal["none", "layer", "rms"], PER_CELL, SHAPE] = "none"
    """Of each cell's input, each feed-forward's, and the head's."""
    feed_forward: Annotated[int, between(0, 16), PER_CELL, SHAPE] = 0
    """Width of a feed-forward after each cell, as a multiple of hidden_size; 0: none."""

    @field_validator("cell")
    @classmethod
    def _known(cls, cell: str) -> str:
        if cell not in CELLS:
            *names, last = map(repr, CELLS)
            message = f"Input should be {', '.join(names)} or {last}{suggestion(cell, CELLS)}"
            raise PydanticCustomError("cell", message)
        return cell

    @property
    def has_blocks(self) -> bool:
        """Return True if the layers are more than the cells; see models/block.py."""
        return self.residual or self.normalization != "none" or self.feed_forward > 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        for owner, cell in CELLS.items():
            for key in {*cell.options} - {*CELLS[self.cell].options}:
                value, default = getattr(self, key), type(self).model_fields[key].default
                if value != default:
                    raise ValueError(f"{key} = {value!r} is for {owner}, not {self.cell}")
        if self.weight_dropout and CELLS[self.cell].weight_hh < 2:
            raise ValueError(
                f"weight_dropout = {self.weight_dropout:g} drops elements of W_hh, a matrix that "
                f"{self.cell} does not have: leave it at 0"
            )
        return self


class TrainConfig(Section):
    """[train]: truncated backpropagation through time with AdamW."""

    batch_size: Annotated[int, between(1, 65_536)] = 32
    """Lanes computed at once, by all processes together."""
    accumulate: Annotated[int, between(1, 65_536)] = 1
    """Groups of batch_size lanes whose gradients are averaged before an update: equivalent to a
    batch of all their lanes, in the memory of one group."""
    sequence_length: Annotated[int, between(1, 65_536)] = 64
    steps: Annotated[int, between(1, 10**9), RESUMABLE] = 2000
    seconds: Annotated[float, between(0, 10**8), RESUMABLE] = 0.0
    """A budget of training time, evaluation not counted; 0: none."""
    learning_rate: Annotated[float, Field(gt=0, le=10), RESUMABLE, PER_CELL] = 5e-3
    final_learning_rate: Annotated[Fraction, RESUMABLE, PER_CELL] = 0.0
    """End of the cosine, as a fraction of learning_rate."""
    warmup_steps: Annotated[int, between(0, 10**9), RESUMABLE, PER_CELL] = 100
    adam_betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], PER_CELL] = Field(
        default=[0.9, 0.99], min_length=2, max_length=2
    )
    weight_decay: Annotated[float, between(0, 10), RESUMABLE, PER_CELL] = 0.0
    clip_norm: Annotated[float, between(0, 10**6), RESUMABLE, PER_CELL] = 1.0
    """0: no clipping."""
    weight_average: Annotated[float, Field(ge=0, lt=1), PER_CELL] = 0.0
    """Decay of the running average of the weights that is evaluated and sampled; 0: none."""
    state_reset: Annotated[Fraction, PER_CELL] = 0.05
    """The share of windows that a lane starts from the zero state, so that the model learns cold
    starts, too."""
    seed: Annotated[int, between(0, 2**32 - 1)] = 0
    start_from: str = ""
    """A run whose best weights initialise the model, or a checkpoint of one; "": random weights."""
    teachers: list[str] = []
    """Runs on the same text, or their checkpoints, whose predictions are learned in addition."""
    teacher_weight: Fraction = 0.5
    """The teachers' share of the loss; the rest is the text's."""
    eval_every: Annotated[int, between(1, 10**9), RESUMABLE] = 250
    checkpoint_every: Annotated[int, between(1, 10**9), RESUMABLE] = 250
    log_every: Annotated[int, between(1, 10**6), RESUMABLE] = 10
    log: Annotated[list[Literal["tensorboard", "trackio"]], RESUMABLE] = []
    """Programs whose logs the metrics are copied to."""
    sample_every: Annotated[int, between(0, 10**6), RESUMABLE] = 1
    """Evaluations between samples; 0: no samples. Training does not depend on it."""
    sample_length: Annotated[int, between(1, 10**6), RESUMABLE] = 200
    precision: Annotated[Literal["auto", "float32", "bfloat16"], PER_CELL] = "auto"
    backend: Annotated[Literal["auto", "native", "torch"], RESUMABLE] = "auto"
    """Implementation of the cells: on a CPU charlm's own kernels or torch; on an NVIDIA GPU torch,
    with "auto" as a CUDA graph."""
    device: Annotated[str, meeting(is_device, f"be {DEVICES}"), RESUMABLE] = "auto"
    reduce: Annotated[Literal["float32", "bfloat16"], RESUMABLE] = "float32"
    """The type in which several processes sum their gradients; bfloat16 sends half as much."""
    threads: Annotated[int, between(0, 1024), RESUMABLE] = 0
    """0: torch's default."""
    target_bits_per_character: Annotated[float, between(0, 64), RESUMABLE] = 0.0
    """Stop once the validation is at or below it; 0: no target."""
    patience: Annotated[int, between(0, 10**6), RESUMABLE] = 0
    """Stop after this number of evaluations in a row without a new best; 0: never."""

    @property
    def lanes(self) -> int:
        """Number of lanes of an update."""
        return self.batch_size * self.accumulate


REPETITION_LENGTH, REPETITION_WINDOW = 6, 1000
"""Length in symbols of a stretch whose repetition is penalized; number of last symbols of a text in
which it is searched."""


class SampleConfig(Section):
    """[sample]: defaults of `charlm sample`."""

    length: Annotated[int, between(1, 10**9), RESUMABLE] = 1000
    temperature: Annotated[float, between(0, 100), RESUMABLE] = 0.8
    """0: always the most probable symbol."""
    top_k: Annotated[int, between(0, 10**9), RESUMABLE] = 0
    """Only the k most probable symbols; 0: all."""
    top_p: Annotated[float, Field(gt=0, le=1), RESUMABLE] = 1.0
    """Only the most probable symbols that together reach this probability."""
    min_p: Annotated[float, between(0, 1), RESUMABLE] = 0.0
    """Only symbols at least this share as probable as the most probable one; 0: all."""
    repetition_penalty: Annotated[float, between(1, 100), RESUMABLE] = 1.0
    """Divides the logit (multiplies a negative one) of a symbol that would repeat a stretch of the
    written text, see `sampling.repetition`; 1: none."""


class Config(Section):
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()


SECTIONS: dict[str, type[Section]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "sample": SampleConfig,
}


def marked(mark: Mark) -> set[str]:
    """List the dotted keys with a mark."""
    return {
        f"{section}.{key}"
        for section, kind in SECTIONS.items()
        for key, field in kind.model_fields.items()
        if mark in field.metadata
    }


def differing_keys(one: Config, other: Config) -> list[str]:
    """List the dotted keys whose values differ."""
    return [
        f"{section}.{key}"
        for section, kind in SECTIONS.items()
        for key in kind.model_fields
        if getattr(getattr(one, section), key) != getattr(getattr(other, section), key)
    ]


class SizeRule(Section):
    """A `[[size]]` row: values for texts of at most `max_characters` characters."""

    max_characters: Annotated[int, between(1, 10**15)] = 10**15
    model: Table = {}
    train: Table = {}
    sample: Table = {}

    @field_validator("train")
    @classmethod
    def _names_no_runs(cls, train: Table) -> Table:
        if named := sorted({"start_from", "teachers"} & train.keys()):
            raise ValueError(f"{named[0]} is for texts of every length: write it into [train]")
        return train


def to_toml(config: Config) -> str:
    """Format every value of the configuration as TOML, from which `from_toml` restores it."""
    lines: list[str] = []
    for section in SECTIONS:
        lines.append(f"[{section}]")
        values = getattr(config, section).model_dump()
        lines.extend(f"{key} = {_toml_value(value)}" for key, value in values.items())
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
    return repr(value)
