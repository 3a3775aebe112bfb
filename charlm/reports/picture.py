"""A figure: as SVG in the page's colours, and as PNG with its title.

Lines differ in colour, style and marker, so that no reader depends on one of them.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import LogFormatterSciNotation, NullFormatter

from charlm.common.errors import CharlmError
from charlm.config.cell_spec import CELL_NAMES

SIZE = (4.6, 3.2)
"""Size in inches: on a phone the letters are as large as the text around them."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8649a", "#a07800", "#3c8fc4")
"""Distinguishable for colour-blind readers, with a contrast of at least 3 on white and on black.
Source: Okabe and Ito 2008, the last three a little darker."""
OTHERS = "#595959"
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, GREY = "#1a1a1a", "#767676"
"""Colours of text, which is the page's own in the SVG, and of grids."""
DPI, POINTS = 200, 72
"""Dots per inch of a PNG, and units per inch of an SVG."""
TITLE: Any = {"fontsize": 10.5, "fontweight": "bold"}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@contextlib.contextmanager
def _in_memory() -> Iterator[None]:
    """Turn an OSError without a number, which libraries of images and fonts raise for lack of
    memory and perhaps for other reasons, into an error for the user. Raises: CharlmError."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise CharlmError(
            f"a figure cannot be drawn: {error or type(error).__name__}; perhaps there is not "
            "enough memory",
            "close other programs, then run the same command again",
        ) from None


@dataclass(frozen=True)
class Picture:
    """A figure, not yet drawn.

    title: its message. alternative: its description, for readers who cannot see it. draw: called
    with the figure and the colour of its text.
    """

    name: str
    title: str
    caption: str
    alternative: str
    draw: Callable[[Figure, str], None]
    size: tuple[float, float] = SIZE

    @_in_memory()
    def svg(self) -> str:
        """Draw an `<svg>` element for the page: no fixed text colour, no background, no links.

        The title stands in the PNG only; its strip is cut off.
        """
        figure, title, strip = self._laid_out
        target = io.StringIO()
        settings = {"svg.fonttype": "none", "svg.hashsalt": self.name}
        title.set_visible(False)
        with rc_context(settings):  # type: ignore[arg-type]
            figure.savefig(target, format="svg", transparent=True)
        title.set_visible(True)
        return _for_page(target.getvalue(), self, strip * POINTS)

    @_in_memory()
    def png(self) -> bytes:
        """Draw a PNG, with the title in it."""
        target = io.BytesIO()
        mark = {"Software": "charlm"}  # recognised by `outputs`
        figure = self._laid_out[0]
        figure.savefig(target, format="png", dpi=DPI, facecolor="white", metadata=mark)
        return target.getvalue()

    @cached_property
    def _laid_out(self) -> tuple[Figure, Text, float]:
        """Draw the figure and place its parts, once for both formats: this takes most of the time.

        Returns: the figure, its title, and the height of the title's strip in inches.
        """
        figure = self.figure()
        figure.dpi = DPI
        title = figure.suptitle(drawable(self.title), x=0.01, ha="left", **TITLE)
        canvas = FigureCanvasAgg(figure)
        engine = figure.get_layout_engine()
        assert isinstance(engine, ConstrainedLayoutEngine)
        extent = title.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]
        strip = extent.height / DPI + engine.get()["h_pad"]
        engine.execute(figure)
        figure.set_layout_engine(None)  # else `savefig` would place all parts again
        return figure, title, strip

    def _repr_png_(self) -> bytes:
        """Return the figure, for a notebook."""
        return self.png()

    def figure(self) -> Figure:
        """Draw it, as one of matplotlib's."""
        settings = {
            "font.size": 10.0,
            "font.family": "sans-serif",
            "text.parse_math": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "grid.color": GREY,
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
            **dict.fromkeys(("xtick.color", "ytick.color"), INK),
            "legend.frameon": False,
        }
        with rc_context(settings):  # type: ignore[arg-type]
            figure = Figure(figsize=self.size, layout="constrained")
            self.draw(figure, INK)
        return figure


def on_axes(draw: Callable[[Axes, str], None]) -> Callable[[Figure, str], None]:
    """Return a function that draws a figure with a single diagram."""
    return lambda figure, ink: draw(figure.add_subplot(), ink)


def colour_of(cell: str) -> str:
    """Return the colour of a cell, with any settings, in every figure."""
    known, name = CELL_NAMES, cell.partition(":")[0]
    return COLOURS[known.index(name) % len(COLOURS)] if name in known else OTHERS


def style_of(cell: str, at: int) -> dict[str, Any]:
    """Return the properties of a line: its cell's colour, and the style and marker of its index."""
    return {
        "color": colour_of(cell),
        "linestyle": STYLES[at % len(STYLES)],
        "marker": MARKERS[at % len(MARKERS)],
        "linewidth": 1.6,
    }


def short(value: float) -> str:
    """Format a large number as 2.5M or 300k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _for_page(svg: str, picture: Picture, cut: float) -> str:
    """Return only the `<svg>` element, with a description and ids that are unique on the page.

    cut: height of the strip to leave out at the top.
    """
    name, title = picture.name, escape(picture.title)
    body = svg[svg.index("<svg") :].replace(INK, "currentColor")
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    head, rest = body.split(">", 1)
    width, height = (POINTS * inches for inches in picture.size)
    height -= cut
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    head = re.sub(r'viewBox="[^"]*"', f'viewBox="0 {cut:.6g} {width:g} {height:g}"', head)
    described = f"<title>{title}</title><desc>{escape(picture.alternative)}</desc>"
    return f'{head} role="img" aria-label="{title}">{described}{rest}'


def drawable(text: str) -> str:
    """Replace characters that are missing in the figures' font."""
    known = _font().get_charmap()
    return "".join(c if ord(c) in known else "\ufffd" for c in text)


@cache
def _font() -> FT2Font:
    return FT2Font(findfont(FontProperties()))


def plain_log(axes: Axes) -> None:
    """Label a logarithmic axis with plain numbers."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


class PowersOfTen(LogFormatterSciNotation):
    """Labels of a logarithmic axis as matplotlib's, 10⁻³, but not typeset as formulas, which takes
    more time than the rest of the figure."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        formula = super().__call__(x, pos).replace(r"\times", "×")
        plain = re.sub(r"\^\{(.*?)\}", lambda power: power[1].translate(SUPERSCRIPTS), formula)
        return plain.removeprefix(r"$\mathdefault{").removesuffix("}$")


def label_powers(axes: Axes) -> None:
    """Label a logarithmic axis with powers of ten."""
    axes.yaxis.set_major_formatter(PowersOfTen())
    axes.yaxis.set_minor_formatter(PowersOfTen(labelOnlyBase=False))
