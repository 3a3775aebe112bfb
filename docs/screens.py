"""Draw what every command prints on a terminal, as SVG pictures below docs/screens/.

    pip install pyte && python docs/screens.py [COMMAND...]

Each command runs in a pseudo-terminal of 100 columns, in a folder of its own, on a text that comes
with Python (the pages of `help()`), so that anybody can make the pictures again. pyte carries out
what the command writes, progress bars and all; rich draws the last screen.
"""

import fcntl
import os
import pydoc_data.topics
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from io import StringIO
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 100, 200
HOME = "~/texts"
FOLDER = Path(__file__).parent / "screens"

# The name of each picture, its command, and the lines that are shown of a long output.
SCREENS = {
    "train": ("charlm train my.txt", 40),
    "dry-run": ("charlm train my.txt --dry-run", 70),
    "sample": ('charlm sample --prompt "The " --length 400 --seed 1', 30),
    "score": ("charlm score runs/my-1 other.txt --html other.html", 20),
    "inspect": ("charlm inspect", 40),
    "gates": ('charlm inspect --gates "The import statement"', 40),
    "compare": ("charlm compare rnn lstm gru --data my.txt --seeds 3 --set train.steps=400", 60),
    "bench": ("charlm bench lstm gru --shape 256x1 --rounds 3", 30),
    "runs": ("charlm runs", 20),
    "cache": ("charlm cache", 30),
    "lecture": ("charlm lecture", 60),
    "init": ("charlm init names", 40),
    "mistake": ("charlm train my.txt --set train.stepz=100", 10),
}


def main() -> None:
    wanted = sys.argv[1:] or list(SCREENS)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = list(pydoc_data.topics.topics.values())
        folder.joinpath("my.txt").write_text("\n".join(pages[1:]), encoding="utf-8")
        folder.joinpath("other.txt").write_text(pages[0][:3000], encoding="utf-8")
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
        environment["CHARLM_CACHE"] = str(folder / ".cache")
        for picture, (command, shown) in SCREENS.items():
            if picture in wanted or picture == "train":  # the others look at its run
                screen = screen_of(command, folder, environment)
            if picture in wanted:
                lines = [line_of(screen, number, name) for number in range(LINES)]
                FOLDER.joinpath(f"{picture}.svg").write_text(svg(lines, command, shown))
                print(picture, flush=True)


def screen_of(command: str, folder: Path, environment: dict[str, str]) -> pyte.Screen:
    """Run a command in a pseudo-terminal; return the screen that it leaves."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    words = [sys.executable, "-m", *shlex.split(command)]
    process = subprocess.Popen(  # noqa: S603 (the table above)
        words, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    while True:
        try:
            content = os.read(master, 1 << 16)
        except OSError:  # the process has ended: Linux says EIO
            break
        if not content:
            break
        stream.feed(content)
    os.close(master)
    process.wait()
    return screen


def svg(lines: list[Text], command: str, shown: int) -> str:
    """Draw the command and the first lines of a screen."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), color_system="truecolor")
    console.print(Text(f"$ {command}", style="bold"))
    while lines and not lines[-1].plain.strip():
        lines.pop()
    for line in lines[:shown]:
        console.print(line, soft_wrap=True)
    if len(lines) > shown:
        console.print(Text(f"... {len(lines) - shown} more lines", style="dim"))
    return console.export_svg(title=command, unique_id="screen")


def line_of(screen: pyte.Screen, number: int, folder: str) -> Text:
    """Return one line of a screen with its colours; the folder has a name that is the same for
    everybody."""
    line = Text()
    row = screen.buffer[number]
    for column in range(COLUMNS):
        cell = row[column]
        colour = "" if cell.fg == "default" else _colour(cell.fg)
        weight = " bold" if cell.bold else ""
        line.append(cell.data, style=f"{colour}{weight}".strip())
    line.rstrip()
    if folder in line.plain:  # nothing behind it moves
        shown, _, rest = line.plain.partition(folder)
        name, space, others = rest.partition("  ")
        padding = " " * (len(folder) - len(HOME)) if space else ""
        line.plain = f"{shown}{HOME}{name}{padding}{space}{others}"
    return line


def _colour(name: str) -> str:
    """Return rich's name of a colour of pyte's."""
    if len(name) == 6 and all(digit in "0123456789abcdef" for digit in name.lower()):
        return f"#{name}"
    return {"brown": "yellow"}.get(name, name)


if __name__ == "__main__":
    main()
