"""The schema of the configuration: every key, its type, its bounds, its default.

Strict: unknown keys, values of another type, `nan` and `inf` are refused. How the values come
together from presets, files and `--set` is in `settings.py`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Table = dict[str, Any]


class Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def between(low: float, high: float) -> Any:
    return Field(ge=low, le=high)


Fraction = Annotated[float, between(0, 1)]


class DataConfig(Section):
    """[data]: which text, and how it is cut into symbols and splits."""

    path: str | list[str] = ""
    """Files, folders, `builtin:NAME`, `python:standard-library` or an `https://` address."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    unit: Literal["char", "byte", "jamo"] = "char"
    normalize: Literal["none", "nfc", "nfd"] = "none"
    split: list[Fraction] = Field(default=[0.9, 0.05, 0.05], min_length=3, max_length=3)
    held_out_limit: Annotated[int, between(0, 10**12)] = 0
    """At most so many characters in the validation and in the test split; 0: no limit."""
    minimum_count: Annotated[int, between(1, 10**9)] = 1
    unknown: bool = True
    """Whether the vocabulary has a symbol for what it does not know."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"split {self.split} adds up to {sum(self.split):g}, not to 1")
        if self.split[0] == 0:
            raise ValueError(f"split {self.split} leaves nothing to train on")
        if self.unit == "byte" and (self.normalize != "none" or self.minimum_count > 1):
            raise ValueError(
                'unit "byte" takes every byte as it is: no normalize, no minimum_count'
            )
        if self.minimum_count > 1 and not self.unknown:
            raise ValueError("minimum_count above 1 needs unknown = true")
        return self


class ModelConfig(Section):
    """[model]: embedding -> stacked cells -> head."""

    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    hidden_size: Annotated[int, between(1, 16_384)] = 256
    num_layers: Annotated[int, between(1, 32)] = 1
    embedding_size: Annotated[int, between(0, 16_384)] = 32
    """0: the symbols go in one-hot, as the lecture draws them."""
    dropout: Annotated[float, between(0, 0.95)] = 0.0
    bias: bool = True
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    reset_gate: Literal["after", "before"] = "after"
    initialization: Literal["orthogonal", "xavier", "kaiming", "uniform"] = "orthogonal"
    forget_bias: Annotated[float, between(-10, 10)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nonlinearity != "tanh" and self.cell != "rnn":
            raise ValueError(f'nonlinearity = "{self.nonlinearity}" is for rnn, not {self.cell}')
        if self.reset_gate != "after" and self.cell != "gru":
            raise ValueError(f'reset_gate = "{self.reset_gate}" is for gru, not {self.cell}')
        return self


class TrainConfig(Section):
    """[train]: truncated backpropagation through time with AdamW."""

    batch_size: Annotated[int, between(1, 65_536)] = 32
    sequence_length: Annotated[int, between(1, 65_536)] = 64
    steps: Annotated[int, between(1, 10**9)] = 2000
    seconds: Annotated[float, between(0, 10**8)] = 0.0
    """A budget of training time, evaluation not counted; 0: none."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 5e-3
    final_learning_rate: Fraction = 0.0
    """What the cosine ends at, as a fraction of learning_rate."""
    warmup_steps: Annotated[int, between(0, 10**9)] = 100
    adam_betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=[0.9, 0.99], min_length=2, max_length=2
    )
    weight_decay: Annotated[float, between(0, 10)] = 0.0
    clip_norm: Annotated[float, between(0, 10**6)] = 1.0
    """0: no clipping."""
    weight_average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the running average of the weights that is evaluated and sampled; 0: none."""
    state_reset: Fraction = 0.05
    """How often a lane starts a window from the zero state, so that a cold start is learned too."""
    seed: Annotated[int, between(0, 2**32 - 1)] = 0
    eval_every: Annotated[int, between(1, 10**9)] = 250
    checkpoint_every: Annotated[int, between(1, 10**9)] = 250
    log_every: Annotated[int, between(1, 10**6)] = 10
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    engine: Literal["auto", "native", "torch"] = "auto"
    """Who computes the cells: on a CPU charlm's own kernels or torch; on an NVIDIA GPU torch, with
    "auto" as a CUDA graph."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$")
    threads: Annotated[int, between(0, 1024)] = 0
    """0: as many as torch chooses."""
    target_bits_per_character: Annotated[float, between(0, 64)] = 0.0
    """Stop once the validation is at or below it; 0: no target."""


class SampleConfig(Section):
    """[sample]: what `charlm sample` does unless told otherwise."""

    length: Annotated[int, between(1, 10**9)] = 1000
    temperature: Annotated[float, between(0, 100)] = 0.8
    """0: always the most probable symbol."""
    top_k: Annotated[int, between(0, 10**9)] = 0
    """Only the k most probable symbols; 0: all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the most probable symbols that together reach this probability."""


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


class SizeRule(Section):
    """A `[[size]]` row: values for texts of at most `max_characters` characters."""

    max_characters: Annotated[int, between(1, 10**15)] = 10**15
    model: Table = {}
    train: Table = {}
    sample: Table = {}


def to_toml(config: Config) -> str:
    """Every value of the configuration as TOML that `from_toml` reads back equal."""
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
