"""The speeds of `charlm bench` on the terminal."""

from charlm.compare.benchmark import Row
from charlm.terminal.console import print_result


def heading(environment: dict[str, object], batch_size: int, length: int) -> None:
    """Print what was measured on, and the names of the columns."""
    print_result(
        f"{environment['processor']}, {environment['threads']} threads, "
        f"torch {environment['torch']}; {batch_size} lanes of {length} symbols; "
        "writing one text on one thread"
    )
    print_result("")
    print_result(
        f"{'':<22} {'':>7} {'train, symbols/s':>25} {'':>7} {'of matrix':>10} "
        f"{'write, symbols/s':>26} {'of reading':>11}"
    )
    print_result(
        f"{'cell':<22} {'shape':>7} {'native':>9} {'torch':>8} {'ratio':>6} {'auto':>7} "
        f"{'product':>10} {'float32':>8} {'bfloat16':>8} {'int8':>8} {'weights':>11}"
    )


def line(row: Row) -> None:
    """Print one cell at one shape."""
    native, by_torch = row.train.get("native"), row.train["torch"]
    ratio = f"{native / by_torch:.1f}x" if native else "-"
    write = " ".join(_count(row.write.get(name), 8) for name in ("float32", "bfloat16", "int8"))
    share = f"{row.read_share:.0%}" if row.read_share else "-"
    print_result(
        f"{row.cell:<22} {f'{row.hidden_size}x{row.num_layers}':>7} {_count(native, 9)} "
        f"{_count(by_torch, 8)} {ratio:>6} {row.picked[0]:>7} {row.matrix_share:>10.0%} "
        f"{write} {share:>11}"
    )


def _count(value: float | None, width: int) -> str:
    return f"{value:{width},.0f}" if value else f"{'-':>{width}}"
