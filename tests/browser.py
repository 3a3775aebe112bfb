"""A page in a real browser: what it logs, how it looks, and whether its tags are in order."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000"),
]
VOID = {"meta", "link", "br", "hr", "img", "input", "col", "path", "use", "rect", "line"}

# Asks the frame what a reader would see, and writes the answer where --dump-dom finds it.
LOOK = """
<!doctype html><title>host</title><pre id="answer"></pre>
<iframe id="frame" style="border:0" width="WIDTH" height="900" srcdoc="PAGE"></iframe>
<script>
addEventListener("load", () => {
  const page = document.getElementById("frame").contentDocument;
  const figures = [...page.querySelectorAll("figure")].map((figure) => {
    const svg = figure.querySelector("svg"), box = svg.getBoundingClientRect();
    const ink = [...svg.querySelectorAll("path, use")].filter((e) => {
      const b = e.getBoundingClientRect();
      return b.width + b.height > 0 && b.left >= box.left - 2 && b.right <= box.right + 2;
    }).length;
    const letters = Math.min(...[...svg.querySelectorAll("text")].map(
      (t) => t.getBoundingClientRect().height));
    return { name: figure.id, width: box.width, height: box.height, ink, letters };
  });
  const ids = [...page.querySelectorAll("[id]")].map((e) => e.id);
  document.getElementById("answer").textContent = JSON.stringify({
    figures, overflow: page.documentElement.scrollWidth - WIDTH,
    twice: ids.filter((id, at) => ids.indexOf(id) !== at),
    colour: page.defaultView.getComputedStyle(page.body).backgroundColor,
  });
});
</script>
"""

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")


class Tags(HTMLParser):
    """Every tag with its attributes, and whether all were closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.mistakes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.stack or self.stack.pop() != tag:
            self.mistakes.append(tag)


def browse(url: str, folder: Path, *options: str) -> tuple[str, str]:
    """What the browser prints, and what it logs."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def looked_at(page: Path, folder: Path, width: int, *options: str) -> dict[str, Any]:
    host = folder / "host.html"
    framed = html.escape(page.read_text(encoding="utf-8"), quote=True)
    host.write_text(LOOK.replace("WIDTH", str(width)).replace("PAGE", framed), encoding="utf-8")
    dom, _ = browse(host.as_uri(), folder, "--dump-dom", *options)
    found = re.search(r'<pre id="answer">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    answer: dict[str, Any] = json.loads(html.unescape(found[1]))
    return answer
