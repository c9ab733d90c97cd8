"""Does what a page says, from its top to its bottom: writes its files, runs its commands in one shell, compares what they print.

What a page has to do with it:

- A block of `bash` is run. One that cannot be is behind a comment `<!-- not run: WHY -->`.
- A block of `text` behind it is what it prints: figures, ids and spaces may differ, a line `...` stands for any lines.
- A code block behind a line that is `` `PATH`: `` is that file. It is written, or is what is there already.

    python -m tests.docs.walk README.md FOLDER           what each command prints, in a copy of the checkout in FOLDER
    python -m tests.docs.walk README.md FOLDER --update  the same, and takes the figures over into the page
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import FENCE, HEADING, ROOT

REASON = re.compile(r"<!-- not run: (?P<why>[^>]+) -->")
NOT_RUN = re.compile(REASON.pattern + r"\s*\Z")
FILE_NAME = re.compile(r"(?:^|\n)`(?P<path>[\w./-]+)`:\s*\Z")
ANY = "..."
BLOCK_S_MAX = 300
"""For one block: `make demo` installs packages before it begins."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the page says to do: a file to write, or commands to run and what they print."""

    line: int
    text: str
    path: str = ""
    printed: str | None = None
    span: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a step's commands."""

    step: Step
    output: str
    failed: bool


def steps(page: str) -> list[Step]:
    """Return what a page says to do, in its order."""
    found: list[Step] = []
    above: int | None = None  # where the block of commands above ends; `text` in the same section is what they print
    for block in FENCE.finditer(page):
        before, line = page[: block.start()], page.count("\n", 0, block.start()) + 1
        runs = block["kind"] == "bash" and not NOT_RUN.search(before)
        if name := FILE_NAME.search(before):
            found.append(Step(line, block["text"], name["path"]))
        elif runs:
            found.append(Step(line, block["text"]))
        elif block["kind"] == "text" and above and not HEADING.search(page, above, block.start()):
            found[-1] = Step(found[-1].line, found[-1].text, printed=block["text"], span=block.span("text"))
        above = block.end() if runs else None
    return found


def checkout(folder: Path) -> Path:
    """Copy what git would check out, with what is not committed yet, into a folder of this checkout's name."""
    fresh = folder / "agent-preflight"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (source := ROOT / name).is_file():
            (target := fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return fresh


class Shell:
    """A bash that keeps its variables, its folder and its background processes from block to block."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._count = 0

    def run(self, text: str) -> tuple[str, bool]:
        """Run a block and return what it printed, and whether a command of it failed."""
        self._count += 1
        mark = f"@@end-{self._count}-{os.getpid()}"
        trap = f"trap 'echo @@failed: $BASH_COMMAND' ERR\n{{\n{text}\n}} </dev/null\ntrap - ERR\necho {mark}\n"
        assert self._process.stdin is not None
        self._process.stdin.write(trap.encode())
        self._process.stdin.flush()
        output = self._until(mark)
        return output, "@@failed: " in output

    def _until(self, mark: str) -> str:
        assert self._process.stdout is not None
        heard, ends = b"", time.monotonic() + BLOCK_S_MAX
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while f"{mark}\n".encode() not in heard:
                if not selector.select(max(ends - time.monotonic(), 0)):
                    raise AssertionError(f"not done within {BLOCK_S_MAX} s; so far:\n{heard.decode(errors='replace')}")
                piece = os.read(self._process.stdout.fileno(), 65536)
                if not piece:
                    raise AssertionError(f"the shell ended:\n{heard.decode(errors='replace')}")
                heard += piece
        return heard.decode(errors="replace").replace(f"{mark}\n", "")

    def end(self) -> None:
        """End the shell and everything that it left running."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                break
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                continue
        self._process.communicate()


def walk(page: str, fresh: Path, environment: Mapping[str, str], replaced: Mapping[str, str]) -> Iterator[Ran]:
    """Do what the page says in the fresh folder, and yield what became of each block of commands.

    Args:
        page: Its text.
        fresh: A copy of the checkout.
        environment: What the shell finds.
        replaced: Parts of commands to what stands for them here: ports that are free, an image that is present.
    """
    shell = Shell(fresh, environment)
    try:
        for step in steps(page):
            if step.path:
                put(fresh / step.path, step.text)
                continue
            text = step.text
            for there, here in replaced.items():
                text = text.replace(there, here)
            output, failed = shell.run(text)
            yield Ran(step, output.replace(str(fresh), "/home/you/agent-preflight"), failed)
    finally:
        shell.end()


def put(path: Path, text: str) -> None:
    """Write a file that the page shows; one that is there already has that text.

    Raises:
        AssertionError: it has another.
    """
    if path.exists():
        assert path.read_text("utf-8") == text, f"{path.name} is not what the page shows"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def plain(line: str) -> str:
    """Return a line without what differs between two runs: figures, ids, tokens, rules and spaces."""
    line = re.sub(r"pf-[\w-]{20,}", "pf-TOKEN", line)
    line = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b|gen-[\w-]+", "ID", line)
    line = re.sub(r"\d+(?:[.,:]\d+)*", "0", line)
    line = re.sub(r"(?:0m)?0s\b", "0s", line)
    return " ".join(line.split())


def compared(shown: str, printed: str) -> tuple[list[str], list[str]]:
    """Return the shown lines with the figures that were printed, and those of them that were not printed in this order."""
    wanted, real = shown.splitlines(), printed.splitlines()
    filled, missing, at, free = list(wanted), [], 0, False
    for index, line in enumerate(wanted):
        if line.strip() == ANY:
            free = True
            continue
        if not line.strip():
            continue
        while at < len(real) and not real[at].strip():
            at += 1
        places = range(at, len(real)) if free else range(at, min(at + 1, len(real)))
        place = next((place for place in places if plain(real[place]) == plain(line)), None)
        if place is None:
            missing.append(line)
            free = True
            continue
        filled[index], at, free = real[place].rstrip(), place + 1, False
    if not free and any(line.strip() for line in real[at:]):
        missing.append(f"(nothing more; but it printed {real[at:]})")
    return filled, missing


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def here(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what stands for parts of commands on this machine: ports, and the base image of this machine."""
    simulator, proxy = free_ports(2)
    base = environment.get("PREFLIGHT_GATE_BASE")
    return {
        "127.0.0.1:8799": f"127.0.0.1:{simulator}",
        "127.0.0.1:8788": f"127.0.0.1:{proxy}",
        **({"docker build ": f"docker build --build-arg BASE={base} "} if base else {}),
    }


def surroundings(home: Path) -> dict[str, str]:
    """Return the environment of somebody who has just logged in: no key, no setting of ours but the base images."""
    kept = ("PATH", "LANG", "TERM", "TMPDIR", "SSL_CERT_FILE", "PIP_CONFIG_FILE", "DOCKER_HOST", "DOCKER_CONTEXT")
    ours = ("PREFLIGHT_GATE_BASE", "PREFLIGHT_DEMO_BASE")
    proxies = [name for name in os.environ if name.lower().endswith("_proxy")]
    found = {name: os.environ[name] for name in (*kept, *ours, *proxies) if name in os.environ}
    python = str(Path(sys.base_prefix) / "bin")
    return {
        **found,
        "PATH": f"{python}:{found.get('PATH', os.defpath)}",
        "HOME": str(home),
        "PIP_ROOT_USER_ACTION": "ignore",
    }


def updated(page: str, ran: Sequence[Ran]) -> str:
    """Return the page with the figures that were printed."""
    for each in sorted(ran, key=lambda each: each.step.span, reverse=True):
        if each.step.printed is not None:
            filled, _ = compared(each.step.printed, each.output)
            start, end = each.step.span
            page = page[:start] + "\n".join(filled) + "\n" + page[end:]
    return page


def main(name: str, folder: str, *options: str) -> int:
    """Walk a page, and say what its commands print."""
    page = (ROOT / name).read_text("utf-8")
    environment = surroundings(Path(folder))
    fresh = checkout(Path(folder))
    ran = []
    for each in walk(page, fresh, environment, here(environment)):
        ran.append(each)
        print(f"=== line {each.step.line}{' FAILED' if each.failed else ''}\n{each.step.text}---\n{each.output}")
        if each.step.printed is not None:
            print("--- missing:", compared(each.step.printed, each.output)[1])
    if "--update" in options:
        (ROOT / name).write_text(updated(page, ran), "utf-8")
    return any(each.failed for each in ran)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
