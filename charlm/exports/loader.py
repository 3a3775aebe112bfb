"""Load a model that charlm has exported, without charlm: python THIS_FILE [PROMPT]."""

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

NAME = "model.pt.safetensors"


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with safe_open(Path(__file__).with_name(NAME), "pt") as file:
            self.about: dict[str, Any] = json.loads(file.metadata()["charlm"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.embedding = torch.nn.Embedding(*weights["embedding.weight"].shape)
        self.cells = getattr(torch.nn, self.about["cell"])(**self.about["module"])
        self.head = torch.nn.Linear(*reversed(weights["head.weight"].shape))
        self.load_state_dict(weights)

    def encode(self, text: str) -> list[int]:
        text = unicodedata.normalize(self.about["form"], text) if self.about["form"] else text
        symbols = map(chr, text.encode()) if self.about["unit"] == "byte" else text
        found = [self.about["numbers"].get(one, self.about["unknown"]) for one in symbols]
        return [number for number in found if number is not None]

    @torch.no_grad()
    def read(self, symbols: list[int], states: Any = None) -> tuple[torch.Tensor, Any]:
        """Return the logits after each symbol, [T, V], and the states: of an LSTM (h, c)."""
        outputs, states = self.cells(self.embedding(torch.tensor(symbols)), states)
        return self.head(outputs), states


def main() -> None:
    model, prompt, states, text = Model(), "".join(sys.argv[1:]), None, ""
    symbols = [*model.about["before"], *model.encode(prompt)] or [model.about["first"]]
    for _ in range(300):
        logits, states = model.read(symbols, states)
        logits[-1, model.about["never"]] = -torch.inf
        symbols = torch.multinomial((logits[-1] / 0.8).softmax(-1), 1).tolist()
        states = None if symbols[0] == model.about["end"] else states  # a record has ended
        text += model.about["symbols"][symbols[0]]
    is_byte = model.about["unit"] == "byte"
    print(prompt + (text.encode("latin-1").decode("utf-8", "replace") if is_byte else text))


if __name__ == "__main__":
    main()
