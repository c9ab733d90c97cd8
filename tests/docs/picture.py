"""The two pictures in README.md: a moment of a real run as a terminal shows it, and the upper part of the report of that run.

`make picture` repeats them, with the field of examples/best_for_the_dollar. Nothing is made up: the frame is what the terminal
showed, and the report is what a browser draws.
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from fcntl import ioctl
from itertools import groupby
from pathlib import Path

import pyte
from PIL import Image
from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.support.browser import Browser, chromium

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "best_for_the_dollar" / "run.py"
LIVE, REPORT = ROOT / "docs" / "live.svg", ROOT / "docs" / "report.png"
COLUMNS, ROWS = 124, 40
STILL_S = 0.03
"""A screen that has not changed for so long is whole: no half-written frame is drawn."""
RUNNING_MIN = 10
REPORT_WIDTH, COLOURS = 1100, 160
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


def frames(command: Sequence[str], folder: Path) -> Iterator[Frame]:
    """Run a command in a terminal, in a folder, and yield what the screen shows whenever it has changed and stands still."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.execvp(command[0], list(command))
    ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    try:
        while data := os.read(master, 65536):
            stream.feed(data)
            if not select.select([master], [], [], STILL_S)[0]:
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


def table(frame: Frame) -> list[Text]:
    """Return the lines of the table of trials in a frame; none if it is not whole."""
    firsts = [(line.plain.split() or [""])[0] for line in frame]
    if "trial" not in firsts or "TOTAL" not in firsts:
        return []
    return list(frame[firsts.index("trial") : firsts.index("TOTAL") + 1])


def draw(lines: Sequence[Text], title: str) -> str:
    """Return lines of a terminal as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop")
    return console.export_svg(title=title, code_format=FORMAT, unique_id="live")


def draw_report(page: Path, picture: Path) -> None:
    """Draw a report down to the end of its first row of charts, in few colours."""
    program = chromium()
    if program is None:
        raise SystemExit("there is no Chromium, which draws the report")
    with Browser(program) as browser:
        opened = browser.open(page.as_uri(), width=REPORT_WIDTH)
        bottom = opened.evaluate("Math.ceil(document.querySelector('.two').getBoundingClientRect().bottom)")
        opened.resize(REPORT_WIDTH, int(bottom) + 8)
        opened.screenshot(picture)
    with Image.open(picture) as drawn:
        few = drawn.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def main() -> int:
    """Draw the last moment at which half of the trials still ran, and then the report."""
    chosen: Sequence[Text] = ()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for frame in frames([sys.executable, str(EXAMPLE)], folder):
            if running(frame) >= RUNNING_MIN and (lines := table(frame)):
                chosen = lines
        if not chosen:
            print(f"no moment of the run had {RUNNING_MIN} trials running", file=sys.stderr)
            return 1
        LIVE.write_text(draw(chosen, "agent-preflight run"), "utf-8")
        program = str(Path(sys.executable).with_name("agent-preflight"))
        run_id = next(run.name for run in (folder / "runs").iterdir())
        subprocess.run([program, "report", run_id, "-o", "report.html"], cwd=folder, check=True)
        draw_report(folder / "report.html", REPORT)
    print(LIVE, REPORT, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
