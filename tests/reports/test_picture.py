"""Figures: laid out once, to the same bytes as by matplotlib, and labelled as by it."""

import errno
import io
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from charlm.common.errors import CharlmError
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
    drawn: Picture,
) -> None:
    found = drawn.svg(), drawn.png()
    figure, target = drawn.figure(), io.BytesIO()
    figure.suptitle("A title", fontsize=10.5, x=0.01, ha="left", fontweight="bold")
    figure.savefig(
        target, format="png", dpi=200, facecolor="white", metadata={"Software": "charlm"}
    )
    assert drawn.png() == target.getvalue()
    assert (drawn.svg(), drawn.png()) == found  # in any order
    again = replace(drawn)  # which has drawn nothing yet
    assert (again.png(), again.svg()) == found[::-1]


def test_svg_has_no_title_in_it_and_no_room_for_one(drawn: Picture) -> None:
    svg = ElementTree.fromstring(drawn.svg())
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    assert (left, width, top + height) == (0, 72 * 4.6, pytest.approx(72 * 3.2))
    assert 10 < top < 30
    texts = [element for element in svg.iter() if element.tag.endswith("}text")]
    assert "A title" not in [text.text for text in texts]
    heights = [float(text.attrib["y"]) for text in texts if "y" in text.attrib]
    assert heights
    assert all(top < y < top + height for y in heights)


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


def test_characters_that_the_font_lacks_are_replaced_in_the_png_only(drawn: Picture) -> None:
    korean = replace(drawn, title="\ud559\uc2b5 falls")
    assert korean.png() == replace(drawn, title="\ufffd\ufffd falls").png()
    assert "<title>\ud559\uc2b5 falls</title>" in korean.svg()


def test_a_notebook_shows_a_view_with_its_figures(drawn: Picture) -> None:
    view = View("errors", "A <message>", ["One sentence."], [Section("Part", [drawn])], {})
    shown = view._repr_html_()
    assert shown.startswith("<h3>A &lt;message&gt;</h3><p>One sentence.</p>")
    assert shown.count("<svg") == 1
    assert drawn._repr_png_().startswith(b"\x89PNG")


def test_a_figure_without_memory_is_no_fault_of_the_disk(
    drawn: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raise the error by which Pillow reports that its encoder got no buffer."""

    def failing(*given: object, **options: object) -> None:
        raise OSError("codec configuration error when writing image file")

    monkeypatch.setattr(Figure, "savefig", failing)
    for draw in (drawn.png, drawn.svg):
        with pytest.raises(CharlmError) as caught:
            draw()
        assert caught.value.what == (
            "a figure cannot be drawn: codec configuration error when writing image file; perhaps "
            "there is not enough memory"
        )
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory", "a font")
    monkeypatch.setattr(Figure, "savefig", lambda *given, **options: _raise(gone))
    with pytest.raises(FileNotFoundError, match="a font"):
        drawn.png()


def _raise(error: Exception) -> None:
    raise error
