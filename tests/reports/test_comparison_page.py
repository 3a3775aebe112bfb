"""The page of a comparison: self-contained, escaped, readable by everybody, alive in a browser."""

import html
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import Tags, browse, looked_at, needs_browser

from charlm.reports import comparison
from charlm.reports.figures import pictures
from charlm.reports.picture import COLOURS


@pytest.fixture(scope="session")
def page(finished: tuple[Path, Path, Any]) -> Path:
    _, folder, result = finished
    comparison.write(result, folder)
    return folder / comparison.PAGE


# ---- the text of it -----------------------------------------------------------------------------


def test_page_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tags = Tags(text)
    assert not tags.mistakes
    assert not tags.stack
    assert not any(tag in ("script", "iframe", "img", "object") for tag, _ in tags.tags)
    for tag, attributes in tags.tags:
        for name in ("src", "href", "xlink:href", "action"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    assert not re.search(r"url\((?!#)|@import", text)


def test_text_of_a_result_is_escaped(finished: tuple[Path, Path, Any]) -> None:
    _, _, result = finished
    evil = "<script>alert(1)</script>\x1b[31m"
    changed = {**result, "prompt": evil, "samples": {evil: evil}, "command": evil, "notes": [evil]}
    text = comparison.html(changed, [])
    assert "<script" not in text
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;alert(1)") >= 5


def test_numbers_of_the_page_stand_in_the_result(
    finished: tuple[Path, Path, Any], page: Path
) -> None:
    _, folder, result = finished
    text = page.read_text(encoding="utf-8")
    for row in result["rows"]:
        for value in row["bits_per_character"]["values"]:
            assert f"<td>{value:.4f}</td>" in text
        assert f"{row['parameters']:,}" in text
    for claim in result["claims"]:
        assert html.escape(claim["evidence"], quote=False) in html.unescape(text)
    assert all(f"<td>{bits:.3f}</td>" in text for bits in result["baselines"].values())
    for name in ("curves-characters", "curves-seconds", "quality-speed", "gradient-trained"):
        png = (folder / "figures" / f"{name}.png").read_bytes()
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", png[16:24]) == (920, 640)


def test_figures_are_described_and_repeatable(finished: tuple[Path, Path, Any]) -> None:
    _, _, result = finished
    for picture in pictures(result):
        svg = picture.svg()
        assert svg == replace(picture).svg()  # drawn again
        assert 'role="img"' in svg
        assert f"<desc>{html.escape(picture.alternative)}</desc>" in svg
        assert "<metadata" not in svg
        assert "currentColor" in svg


def test_a_gradient_that_was_not_measured_has_no_figure(finished: tuple[Path, Path, Any]) -> None:
    _, _, result = finished
    names = [picture.name for picture in pictures(result)]
    assert {"gradient-trained", "gradient-fresh"} <= set(names)
    first, *others = result["runs"]
    without = {**result, "runs": [{**first, "gradient_fresh": None}, *others]}
    found = [picture.name for picture in pictures(without)]
    assert found == [name for name in names if name != "gradient-fresh"]


def test_an_expected_best_without_an_interval_has_no_band(
    finished: tuple[Path, Path, Any],
) -> None:
    _, _, result = finished

    def drawn(low: float | None, high: float | None) -> str:
        expected = [{"trials": n, "mean": 3.0 - 0.1 * n, "low": low, "high": high} for n in (1, 2)]
        search = {
            "trials": 2,
            "uniform": 5.0,
            "rows": [{"cell": "rnn", "expected": expected}],
        }
        (found,) = [
            picture
            for picture in pictures({**result, "search": search})
            if picture.name == "best-of-trials"
        ]
        assert found.title == "Best of 2 trials: rnn is lowest, at 2.800 bits"
        return found.svg()

    band = "fill-opacity"
    assert band in drawn(2.5, 3.5)
    assert band not in drawn(None, None)


def contrast(one: str, other: str) -> float:
    """Source: WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        digits = digits if len(digits) == 6 else "".join(d * 2 for d in digits)
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_suffices_in_light_and_dark(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    themes = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", theme))
        for ink in ("ink", "soft", "yes", "no", "open"):
            assert contrast(colours[ink], colours["paper"]) >= 4.5, ink  # text, level AA
            assert contrast(colours[ink], colours["band"]) >= 4.5, ink
        for line in COLOURS:
            assert contrast(line, colours["paper"]) >= 3, line  # graphics, level AA


# ---- in a browser -------------------------------------------------------------------------------


@needs_browser
def test_browser_has_nothing_to_complain_about(page: Path, tmp_path: Path) -> None:
    dom, log = browse(page.as_uri(), tmp_path, "--dump-dom")
    assert "compared on equal terms" in dom
    assert "CONSOLE" not in log, log


@needs_browser
@pytest.mark.parametrize("width", [360, 1100])
def test_every_figure_is_visible_and_nothing_overflows(
    finished: tuple[Path, Path, Any], page: Path, tmp_path: Path, width: int
) -> None:
    found = looked_at(page, tmp_path, width)
    names = [picture.name for picture in pictures(finished[2])]
    assert [figure["name"] for figure in found["figures"]] == names
    for figure in found["figures"]:
        assert figure["width"] > 280, figure
        assert figure["height"] > 180, figure
        assert figure["ink"] > 20, figure
        assert figure["letters"] > 9, figure  # pixels: small, but readable on a phone
    assert found["overflow"] <= 0
    assert found["twice"] == []


@needs_browser
def test_dark_readers_get_a_dark_page(page: Path, tmp_path: Path) -> None:
    light = looked_at(page, tmp_path, 800)["colour"]
    dark = looked_at(page, tmp_path, 800, "--blink-settings=preferredColorScheme=0")["colour"]
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 20, 22)")


@needs_browser
def test_page_prints(page: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.pdf"
    browse(page.as_uri(), tmp_path, f"--print-to-pdf={target}")
    assert target.read_bytes()[:5] == b"%PDF-"
