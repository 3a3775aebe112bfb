"""Figures: laid out once, to the same bytes as by matplotlib, and labelled as by it."""

import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from charlm.reports import picture
from charlm.reports.picture import Picture, PowersOfTen, label_powers, on_axes
from charlm.reports.view import Section, View


@pytest.fixture
def drawn() -> Picture:
    def draw(axes: object, ink: str) -> None:
        axes.semilogy([1e-5, 0.3, 20], label="falls")  # type: ignore[attr-defined]
        label_powers(axes)  # type: ignore[arg-type]
        axes.legend()  # type: ignore[attr-defined]

    return Picture("one", "A title", "A caption.", "A line.", on_axes(draw))


def test_a_figure_that_is_laid_out_once_has_the_bytes_of_one_that_is_drawn_twice(
    drawn: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = drawn.png(), drawn.svg()
    monkeypatch.setattr(picture, "_lay_out", lambda figure, canvas: None)
    assert (drawn.png(), drawn.svg()) == found


@pytest.mark.parametrize(
    ("value", "label"), [(1e-3, "10⁻³"), (1.0, "10⁰"), (1e12, "10¹²"), (2e-4, "2×10⁻⁴")]
)
def test_powers_of_ten_are_labelled_as_matplotlib_typesets_them(value: float, label: str) -> None:
    formulas = LogFormatterSciNotation(labelOnlyBase=False)
    texts = PowersOfTen(labelOnlyBase=False)
    for formatter in (formulas, texts):
        axis = Figure().add_subplot().yaxis
        axis.axes.set_yscale("log")
        axis.axes.set_ylim(value / 1.5, value * 1.5)
        axis.set_major_formatter(formatter)
        formatter.set_locs([value])
    assert texts(value) == label
    plain = label.translate({ord(s): str(n) for n, s in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {ord("⁻"): "-"})
    mantissa, _, power = plain.rpartition("10")
    expected = mantissa.replace("×", r"\times") + "10^{" + power + "}"
    assert formulas(value) == r"$\mathdefault{" + expected + "}$"


def test_no_label_of_a_page_is_a_formula(drawn: Picture) -> None:
    assert "10⁻³" in drawn.svg()


def test_a_notebook_shows_a_view_with_its_figures(drawn: Picture) -> None:
    view = View("errors", "A <message>", ["One sentence."], [Section("Part", [drawn])], {})
    shown = view._repr_html_()
    assert shown.startswith("<h3>A &lt;message&gt;</h3><p>One sentence.</p>")
    assert shown.count("<svg") == 1
    assert drawn._repr_png_().startswith(b"\x89PNG")
