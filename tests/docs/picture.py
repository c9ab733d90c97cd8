"""The picture of a running field in README.md: a real run of the demo in a terminal of its own, drawn as SVG.

`make picture` repeats it. Nothing in it is made up: the frame is what the terminal showed.
"""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator, Sequence
from fcntl import ioctl
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, ROWS = 124, 18
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "live.svg"
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own without the fonts that it loads from elsewhere: a page on GitHub may load none."""

Frame = tuple[Text, ...]


def frames(command: Sequence[str]) -> Iterator[Frame]:
    """Run a command in a terminal and yield what the screen shows whenever it changes."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    pid, master = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.execvp(command[0], list(command))
    ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    try:
        while data := os.read(master, 65536):
            stream.feed(data)
            yield shown(screen)
    except OSError:
        return  # Linux says so when the program has gone
    finally:
        os.close(master)
        os.waitpid(pid, 0)


def shown(screen: pyte.Screen) -> Frame:
    """Return the lines of the screen with their colours."""
    return tuple(_line([screen.buffer[row][column] for column in range(screen.columns)]) for row in range(screen.lines))


def _line(cells: Sequence[pyte.screens.Char]) -> Text:
    """Return one line, cells of one look as one piece: that is one element of the picture."""
    line = Text()
    for style, piece in groupby(cells, _style):
        line.append("".join(cell.data for cell in piece), style)
    line.rstrip()
    return line


def _style(cell: pyte.screens.Char) -> Style:
    colour = None if cell.fg == "default" else {"brown": "yellow"}.get(cell.fg, cell.fg)
    return Style(color=colour, bold=cell.bold)


def running(frame: Frame) -> int:
    """Return how many trials this frame shows as running."""
    return len(re.findall(r"\brunning\b", "\n".join(line.plain for line in frame)))


def draw(frame: Frame, title: str) -> str:
    """Return the last paragraph of a frame, which is the table, as SVG."""
    filled = [line.plain.strip() != "" for line in frame]
    last = len(filled) - filled[::-1].index(True)
    first = last - filled[:last][::-1].index(False)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in frame[first:last]:
        console.print(line, no_wrap=True, overflow="crop")
    return console.export_svg(title=title, code_format=FORMAT, unique_id="live")


def main(command: Sequence[str]) -> int:
    """Draw the last moment at which two trials still ran."""
    chosen: Frame | None = None
    for frame in frames(command):
        if running(frame) == 2:
            chosen = frame
    if chosen is None:
        print("no moment of the run had two trials running", file=sys.stderr)
        return 1
    PICTURE.write_text(draw(chosen, " ".join(["agent-preflight", *command[1:2]])), "utf-8")
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
