"""A scored text on the terminal."""

import math

from charlm.evaluation.scoring import Scored
from charlm.terminal.console import as_json, print_result


def scored(result: Scored) -> None:
    """Print how well a text is predicted, by which protocol, and what the unknown cost."""
    score = result.score
    protocol = f"windows of {result.window}" if result.window else "stateful"
    print_result(
        f"{score.bits_per_character:.4f} bits per character, {score.bits_per_byte:.4f} per byte"
    )
    print_result(
        f"{score.characters:,} characters, {score.loss:.4f} nats a symbol, "
        f"perplexity {score.perplexity:.3f}, protocol: {protocol}"
    )
    if score.unknown:
        bits = math.log2(result.vocabulary.outside)
        print_result(
            f"{score.unknown:,} characters are outside the vocabulary; each is charged {bits:.1f} "
            "bits more, a uniform guess among all others"
        )


def surprisal_lines(result: Scored) -> None:
    """Print a line a symbol: its surprisal in bits, a tab, the symbol as a JSON string."""
    for index, nats in zip(result.symbols.tolist(), result.surprisals.tolist(), strict=True):
        print(f"{nats / math.log(2):.4f}\t{as_json(result.vocabulary.symbol(index))}")
