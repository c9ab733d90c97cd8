"""Whether this machine is fit for a run: its clock, its disk, its Docker engine."""

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
from agent_preflight.checks.line import CheckLine, failed, passed, warned
from agent_preflight.engine.client import Engine, on_engine
from agent_preflight.engine.failure import DockerError
from agent_preflight.openrouter.http import NO_ANSWER, opened, resolve_base_url
from preflight_proxy.core.errors import ConfigError

CLOCK, DISK, SOCKET = "Clock", "Disk", "Docker engine"

CLOCK_TIMEOUT_S = 10.0
CLOCK_WARN_S = 30.0
"""Beyond this, times in our files and OpenRouter's cannot be laid side by side."""
CLOCK_FAIL_S = 600.0
"""Beyond this, a sub-key's time of expiry may be over when it is made."""

MIB = 2**20
DISK_FAIL_BYTES = 200 * MIB
DISK_WARN_BYTES = 2048 * MIB
"""A trial's logs are capped at some hundred MiB; images and workspaces come on top."""
TRY_BYTES = MIB


def check_clock(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Compare this machine's clock with the one in OpenRouter's answers."""
    url = resolve_base_url(inputs.base_url) + "/key"
    try:
        before_s, before = time.monotonic(), datetime.now(UTC)
        with opened("GET", url, timeout_s=CLOCK_TIMEOUT_S) as answer:  # without a key: its Date is all that counts
            took_s, headers = time.monotonic() - before_s, answer.headers
    except NO_ANSWER as exc:
        reason = f"no answer to compare with: {exc if isinstance(exc, ConfigError) else type(exc).__name__}"
        return [failed(CLOCK, reason, f"{CLOCK}: {reason}")]
    ahead_s = seconds_ahead(before, took_s, headers)
    if ahead_s is None:
        return [warned(CLOCK, "the answer told no time to compare with")]
    return [clock_line(ahead_s)]


def seconds_ahead(before: datetime, took_s: float, headers: Mapping[str, str]) -> float | None:
    """Return how far our clock is ahead of an answer's; None if it tells no time.

    The header has whole seconds, cut off, and was written somewhere between question and answer: within that, it is 0.
    """
    try:
        told = parsedate_to_datetime(headers["Date"])
        behind_least, behind_most = (told - before).total_seconds() - took_s, (told - before).total_seconds() + 1.0
    except (KeyError, TypeError, ValueError):
        return None
    if behind_least <= 0 <= behind_most:
        return 0.0
    return -behind_least if behind_least > 0 else -behind_most


def clock_line(ahead_s: float) -> CheckLine:
    """Return the finding on a clock that is so many seconds ahead; negative: behind."""
    off_s = abs(ahead_s)
    if off_s <= CLOCK_WARN_S:
        return passed(CLOCK, "agrees with OpenRouter's" if off_s == 0 else f"within {off_s:.0f} s of OpenRouter's")
    detail = f"{off_s:.0f} s {'ahead of' if ahead_s > 0 else 'behind'} OpenRouter's"
    if off_s <= CLOCK_FAIL_S:
        return warned(CLOCK, detail)
    return failed(CLOCK, detail, f"{CLOCK}: {detail}; sub-keys would expire at the wrong time")


def check_disk(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that there is room for runs and for temporary files, and that both can be written."""
    runs = _nearest(RUNS_DIR.absolute())
    return [
        disk_line(place, shutil.disk_usage(place).free) for place in dict.fromkeys((runs, Path(tempfile.gettempdir())))
    ]


def disk_line(place: Path, free_bytes: int) -> CheckLine:
    """Return the finding on one folder with so much room."""
    name, room = f"{DISK} {place}", f"{free_bytes / MIB:,.0f} MiB free"
    try:
        with tempfile.TemporaryFile(dir=place) as tried:
            tried.write(bytes(TRY_BYTES))
            tried.flush()
            os.fsync(tried.fileno())
    except OSError as exc:
        reason = f"cannot be written: {exc.strerror or exc}"
        return failed(name, reason, f"{name} {reason}")
    if free_bytes < DISK_FAIL_BYTES:
        return failed(name, room, f"{name}: only {room}")
    return warned(name, room) if free_bytes < DISK_WARN_BYTES else passed(name, room)


def check_docker_socket(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that a Docker engine answers, and that it is one on this machine."""

    async def asked(engine: Engine) -> CheckLine:
        version, url = engine.version.version, engine.url
        if url.startswith("unix://"):
            return passed(SOCKET, f"{version} at {url}")
        return warned(
            SOCKET, f"{version} at {url}: not on this machine, so a gate cannot hand its listeners to the proxy"
        )

    try:
        return [on_engine(asked)]
    except DockerError as exc:
        return [failed(SOCKET, str(exc), f"{SOCKET}: {exc}")]


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())
