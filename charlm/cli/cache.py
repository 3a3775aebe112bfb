"""`charlm cache`."""

from typing import Annotated

import typer

from charlm.cli.options import Debug, Json


def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove all that can be made or fetched again.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the size of the cache: encoded texts, downloads, kernels. Its folder is that of the
    variable CHARLM_CACHE, else charlm in the user's cache folder. An encoded text that is not
    opened for 90 days is removed when another one is made."""
    from charlm.common.files import cache_folder
    from charlm.common.wording import byte_size
    from charlm.terminal import console
    from charlm.text import cache as kept

    before = kept.sizes()
    in_use = kept.clear() if clear else []
    now = kept.sizes() if clear else before
    total = sum(now.values())
    if as_json:
        freed = {"freed": sum(before.values()) - total} if clear else {}
        console.print_json({"folder": str(cache_folder()), "bytes": total, "kinds": now, **freed})
        return
    if clear:
        console.print_result(f"freed {byte_size(sum(before.values()) - total)}")
        for name in in_use:
            console.print_status(f"in use by another charlm, or being written, so it stays: {name}")
        if now["stdin"]:
            console.print_status(
                f"{byte_size(now['stdin'])} of texts from stdin stay, since runs may need them "
                f"to resume: {cache_folder() / 'stdin'}"
            )
    console.print_columns(
        ("kind", "size"),
        [(kept.KINDS[kind], byte_size(size)) for kind, size in now.items()]
        + [("all", byte_size(total))],
        right={1},
    )
    console.print_status(f"folder  {cache_folder()} (set CHARLM_CACHE for another)")
    if total and not clear:
        console.print_next("charlm", "cache", "--clear")
