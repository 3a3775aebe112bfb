"""A page in a real browser: what it logs, how it looks, and whether its tags are in order."""

import base64
import html
import json
import os
import re
import shutil
import subprocess
import time
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
    """Open a page; return the browser's output and its log."""
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


class Tab:
    """A tab of a headless browser, driven in real time over the DevTools protocol by pipes.

    messages: what the page has logged, and the errors in it.
    """

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        flags = [flag for flag in FLAGS if "virtual-time" not in flag and "logging" not in flag]
        command = [CHROMIUM, *flags, f"--user-data-dir={folder / 'profile'}"]
        command += ["--remote-debugging-pipe", "about:blank"]

        def connect() -> None:  # the browser reads from 3 and writes to 4
            os.dup2(commands, 103)
            os.dup2(answers, 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        self._process = subprocess.Popen(
            command, preexec_fn=connect, close_fds=False, stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        self.messages: list[str] = []
        self._session, self._number, self._rest = "", 0, b""
        self._is_loaded = False
        targets = self.send("Target.getTargets")["targetInfos"]
        tab = next(one["targetId"] for one in targets if one["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Tab":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def send(self, method: str, **parameters: Any) -> Any:
        """Send a command, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            content = os.read(self._answers, 1 << 16)
            assert content, "the browser has ended"
            self._rest += content
        first, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(first)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        method, values = event.get("method", ""), event.get("params", {})
        if method == "Page.loadEventFired":
            self._is_loaded = True
        elif method == "Runtime.exceptionThrown":
            self.messages.append(str(values["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(str(values["args"]))
        elif method == "Log.entryAdded":
            self.messages.append(str(values["entry"]["text"]))

    def open(self, page: Path | str, width: int = 1200, height: int = 900) -> None:
        """Open a page from disk, or an address, and wait until it is loaded."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self._is_loaded = False
        self.send("Page.navigate", url=page if isinstance(page, str) else page.absolute().as_uri())
        while not self._is_loaded:
            self._note(self._next())

    def run(self, script: str) -> Any:
        """Run statements in the page's own scope, of which the last is the value; promises are
        waited for."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = 60.0) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"still not: {condition}"
            time.sleep(0.05)

    def emulate(self, media: str = "", **features: str) -> None:
        """Set the medium, "print" or "", and features such as prefers_color_scheme="dark"."""
        listed = [{"name": n.replace("_", "-"), "value": v} for n, v in features.items()]
        self.send("Emulation.setEmulatedMedia", media=media, features=listed)

    def picture(self, path: Path) -> None:
        """Save a picture of the whole page."""
        taken = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))
