"""Whether this machine is fit for a run: its clock, its disk, its Docker engine, the agents' image."""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from agent_preflight.artifacts import RUNS_DIR
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.report import CheckLine, failed, passed, warned
from agent_preflight.engine.client import Engine, on_engine
from agent_preflight.engine.failure import DockerError
from agent_preflight.openrouter.http import NO_ANSWER, opened, resolve_base_url
from agent_preflight.openrouter.reachable import cause_of

CLOCK, DISK, SOCKET = "Clock", "Disk", "Docker engine"

CLOCK_TIMEOUT_S = 10.0
CLOCK_WARN_S = 30.0
"""Beyond this, times in our files and OpenRouter's cannot be compared."""
CLOCK_FAIL_S = 600.0
"""Beyond this, a sub-key may have expired when it is made."""

MIB = 2**20
DISK_FAIL_BYTES = 200 * MIB
DISK_WARN_BYTES = 2048 * MIB
"""A trial's logs are limited to some hundred MiB; images and workspaces need more."""
TRY_BYTES = MIB

DATE_CHARS = 19
"""Of a date that cannot be read: usually to the second."""


def check_clock(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Compare this machine's clock with the one in OpenRouter's answers."""
    return [clock_line(inputs.base_url)]


def clock_line(base_url: str | None) -> CheckLine:
    """Compare this machine's clock with the one in the answers at a base URL. Sends no key."""
    url = resolve_base_url(base_url) + "/key"
    try:
        before_s, before = time.monotonic(), datetime.now(UTC)
        with opened("GET", url, timeout_s=CLOCK_TIMEOUT_S) as answer:
            took_s, headers = time.monotonic() - before_s, answer.headers
    except NO_ANSWER as exc:
        return failed(CLOCK, f"no answer to compare with: {cause_of(exc, url)}")
    ahead_s = seconds_ahead(before, took_s, headers)
    return warned(CLOCK, "the answer has no time to compare with") if ahead_s is None else offset_line(ahead_s)


def seconds_ahead(before: datetime, took_s: float, headers: Mapping[str, str]) -> float | None:
    """Return how far our clock is ahead of an answer's; None if the answer has no time.

    The header has whole seconds, rounded down, and was written between request and answer. Within that, the result is 0.
    """
    try:
        theirs = parsedate_to_datetime(headers["Date"])
        behind_least, behind_most = (theirs - before).total_seconds() - took_s, (theirs - before).total_seconds() + 1.0
    except (KeyError, TypeError, ValueError):
        return None
    if behind_least <= 0 <= behind_most:
        return 0.0
    return -behind_least if behind_least > 0 else -behind_most


def offset_line(ahead_s: float) -> CheckLine:
    """Return the finding on a clock that is so many seconds ahead, or behind if the number is negative."""
    off_s = abs(ahead_s)
    if off_s <= CLOCK_WARN_S:
        return passed(CLOCK, "agrees with OpenRouter's" if off_s == 0 else f"within {off_s:.0f} s of OpenRouter's")
    detail = f"{off_s:.0f} s {'ahead of' if ahead_s > 0 else 'behind'} OpenRouter's"
    if off_s <= CLOCK_FAIL_S:
        return warned(CLOCK, detail)
    return failed(CLOCK, detail, f"{CLOCK}: {detail}; sub-keys would expire at the wrong time")


def check_disk(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that runs and temporary files can be written, and that there is room for them."""
    return disk_lines()


def disk_lines() -> list[CheckLine]:
    """Return the findings on the folders that a run writes to: the one for runs, or the nearest above it, and the temporary one."""
    runs = RUNS_DIR.absolute()
    existing = next(folder for folder in (runs, *runs.parents) if folder.is_dir())
    folders = dict.fromkeys((existing, Path(tempfile.gettempdir())))
    return [disk_line(folder, shutil.disk_usage(folder).free) for folder in folders]


def disk_line(folder: Path, free_bytes: int) -> CheckLine:
    """Return the finding on one folder with so much room."""
    name, room = f"{DISK} {folder}", f"{free_bytes / MIB:,.0f} MiB free"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(TRY_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        reason = f"cannot be written: {exc.strerror or exc}"
        return failed(name, reason, f"{name} {reason}")
    if free_bytes < DISK_FAIL_BYTES:
        return failed(name, room, f"{name}: only {room}")
    return warned(name, room) if free_bytes < DISK_WARN_BYTES else passed(name, room)


def check_docker_socket(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that a Docker engine answers, and that it is on this machine."""

    async def line(engine: Engine) -> CheckLine:
        where = f"{engine.version.version} at {engine.url}"
        if engine.url.startswith("unix://"):
            return passed(SOCKET, where)
        return warned(SOCKET, f"{where}: not on this machine, so a gate cannot hand its listeners to the proxy")

    try:
        return [on_engine(line)]
    except DockerError as exc:
        return [failed(SOCKET, str(exc))]


def image_name(image: str) -> str:
    """Return the name of an image in the report."""
    return f"Docker image '{image}'"


def check_docker_image(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that the image exists on this machine; no line if the user names no image."""
    if not inputs.docker_image:
        return []
    image, name = inputs.docker_image, image_name(inputs.docker_image)
    try:
        local = on_engine(lambda engine: engine.image(image))
    except DockerError as exc:
        return [failed(name, str(exc))]
    if local is None:
        hint = f"docker pull {image}, or build it: docker build -t {image} ."
        return [failed(name, "not found", f"{name} not found", hint)]
    return [passed(name, f"created {_utc(local.created)}")]


def _utc(created: str) -> str:
    """Return an engine's date to the second, in UTC and marked so. A date without a zone stays as it is."""
    try:
        date = datetime.fromisoformat(created)
        if date.tzinfo is not None:
            return date.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        pass
    return created[:DATE_CHARS]
