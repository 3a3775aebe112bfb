"""Table of the speeds of `charlm bench` on the terminal."""

from charlm.comparison.benchmark import Row
from charlm.terminal.console import out, print_result

WRITE = (("float32", 7), ("bfloat16", 8), ("int8", 7))
"""The precisions of sampling, and the widths of their columns."""


def heading(environment: dict[str, object], batch_size: int, length: int) -> None:
    """Print the environment of the measurement, and the names of the columns."""
    print_result(
        f"{environment['processor']}, {environment['threads']} threads, "
        f"torch {environment['torch']}; {batch_size} lanes of {length} symbols; "
        "writing one text on one thread"
    )
    print_result("")
    _print_row(
        f"{'':<28} {'train, symbols/s':>23} {'':>6} {'of a':>7}",
        f"{'write, symbols/s':>24} {'of read':>7}",
        "heading",
    )
    _print_row(
        f"{'cell':<21} {'shape':>6} {'native':>8} {'torch':>8} {'ratio':>5} {'auto':>6} "
        f"{'product':>7}",
        f"{'float32':>7} {'bfloat16':>8} {'int8':>7} {'weights':>7}",
        "heading",
    )


def line(row: Row) -> None:
    """Print the row of one cell at one shape."""
    native, by_torch = row.train.get("native"), row.train["torch"]
    ratio = f"{native / by_torch:.1f}x" if native else "-"
    write = " ".join(_count(row.write.get(name), width) for name, width in WRITE)
    share = f"{row.read_share:.0%}" if row.read_share else "-"
    _print_row(
        f"{row.cell:<21} {f'{row.hidden_size}x{row.num_layers}':>6} {_count(native, 8)} "
        f"{_count(by_torch, 8)} {ratio:>5} {row.picked[0]:>6} {row.matrix_share:>7.0%}",
        f"{write} {share:>7}",
    )


def _print_row(train: str, write: str, style: str = "") -> None:
    """Print a row of the table; on a narrow terminal, in two lines."""
    row = f"{train} {write}"
    parts = [train, f"{'':<28} {write}"] if out.is_terminal and len(row) > out.width else [row]
    for part in parts:
        print_result(part, style)


def _count(value: float | None, width: int) -> str:
    return f"{value:{width},.0f}" if value else f"{'-':>{width}}"
