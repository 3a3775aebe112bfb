"""Load a model that charlm has exported, and write with it: python THIS_FILE [PROMPT].

It needs torch and safetensors, not charlm. A copy of it stands beside every `--to torch` export.
"""

import codecs
import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

NAME = "model.pt.safetensors"
"""The file of weights, beside this one."""


class Model:
    """Embedding, torch's own cells, and head. about: the metadata of the file."""

    def __init__(self) -> None:
        with safe_open(Path(__file__).with_name(NAME), "pt") as file:
            self.about: dict[str, Any] = json.loads(file.metadata()["charlm"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[self.about["cell"]]
        self.cells = kind(**self.about["module"])
        own = {k.removeprefix("cells."): v for k, v in weights.items() if k.startswith("cells.")}
        self.cells.load_state_dict(own)
        self.weight, self.bias = weights["head.weight"], weights["head.bias"]
        self.embedding = weights.get("embedding.weight", torch.eye(len(self.bias)))

    def encode(self, text: str) -> list[int]:
        """Return a text's symbols; unknown characters are left out if none stands for them."""
        if self.about["unit"] == "byte":
            return list(text.encode())
        if self.about["form"]:
            text = unicodedata.normalize(self.about["form"], text)
        names = {name: index for index, name in enumerate(self.about["symbols"])}
        found = [names.get(name, self.about["unknown"]) for name in text]
        return [index for index in found if index is not None]

    @torch.no_grad()
    def read(self, symbols: list[int], states: Any = None) -> tuple[torch.Tensor, Any]:
        """Return the logits of each symbol's successor, [T, V], and the states after them."""
        outputs, states = self.cells(self.embedding[torch.tensor(symbols)], states)
        return outputs @ self.weight.T + self.bias, states


def main() -> None:
    model = Model()
    about, prompt, states = model.about, "".join(sys.argv[1:2]), None
    symbols = [*about["before"], *model.encode(prompt)] or [about["first"]]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def decoded(index: int) -> str:
        is_byte = about["unit"] == "byte" and index != about["end"]
        return decoder.decode(bytes([index])) if is_byte else str(about["symbols"][index])

    print(prompt, end="")
    for _ in range(300):
        logits, states = model.read(symbols, states)
        if about["unknown"] is not None:
            logits[-1, about["unknown"]] = -torch.inf
        symbols = torch.multinomial((logits[-1] / 0.8).softmax(-1), 1).tolist()
        if symbols[0] == about["end"]:  # a record ends: the next one begins from zero states
            states = None
        print(decoded(symbols[0]), end="", flush=True)
    print()


if __name__ == "__main__":
    main()
