"""Output of a view of a model on the terminal: its findings, then its tables."""

from charlm.reports.view import Command, Equation, Section, Table, View
from charlm.terminal.console import print_columns, print_result, print_status

LONGEST = 40
"""Rows of a table that are printed; the page has all of them."""


def show(view: View) -> None:
    """Print a view's message, sentences and tables."""
    print_result(view.title, "heading")
    for sentence in view.sentences:
        print_result(sentence)
    for section in view.sections:
        _tables(section)
    print_result("")


def show_all(view: View) -> None:
    """Print an entire view: every section with its verdict, tables, equations and text."""
    print_result(view.title, "heading")
    for line in (view.about, *view.sentences):
        print_result(line)
    for section in view.sections:
        mark = {True: "\u2713 ", False: "\u2717 ", None: ""}[section.holds]
        print_result("")
        print_result(mark + section.title, "heading")
        for block in section.blocks:
            if isinstance(block, str):
                print_result(block)
            elif isinstance(block, Equation):
                for line in block.lines.splitlines():
                    print_result(f"    {line}")
            elif isinstance(block, Command):
                print_result(f"{block.about} {block.line}", "aside")
            elif isinstance(block, Table):
                _table(block)


def _tables(section: Section) -> None:
    for block in section.blocks:
        if not isinstance(block, Table):
            continue
        print_result("")
        title = ": ".join(part for part in (section.title, block.about) if part)
        if title:
            print_result(title, "aside")
        _table(block)


def _table(block: Table) -> None:
    rows = block.rows[:LONGEST]
    right = () if block.is_text else range(1, len(block.heading))
    print_columns(block.heading, rows, right=right)
    if len(block.rows) > LONGEST:
        print_status(f"and {len(block.rows) - LONGEST} more rows, on the page")
