"""What all tiers share: their order, and what becomes of container tests where no Docker daemon answers.

A test is pure unless it is marked ``wire`` (sockets) or ``docker`` (containers). Pure tests run first, so that a broken
rule shows before the tests that only fail because of it.
"""

import functools
import gc
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from agent_preflight.engine.client import Engine, on_engine
from agent_preflight.engine.failure import DockerError
from tests.support.browser import NO_BROWSER, browser, browser_of_the_session

__all__ = ["browser", "browser_of_the_session"]

REQUIRE_DOCKER = os.environ.get("PREFLIGHT_REQUIRE_DOCKER") == "1"

NO_DAEMON = "no Docker daemon answers (PREFLIGHT_REQUIRE_DOCKER=1 makes that an error)"

# Examples are not drawn anew at each run: a failure that nobody's change caused would tell nothing about the change.
# Few, since `make check`, `make test` and CI draw more: `--hypothesis-profile=thorough`.
hypothesis.settings.register_profile("repeatable", max_examples=10, derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("thorough", hypothesis.settings.get_profile("repeatable"), max_examples=200)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """A command that ran in this process has sent the log to its own, captured, standard error."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def no_proxy_in_between() -> Iterator[None]:
    """What tests serve on this machine is asked directly, also where the machine has a proxy for all other hosts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost"))))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_state_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What outlives a run, quarantined endpoints and kinds of gates, is kept in a folder of this session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """Signals mean here, and to processes started here, what they mean at a terminal.

    Whoever starts the tests from a script's background has SIGINT ignored, and whoever does it with `nohup` SIGHUP.
    """
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


TEMPORARY_CHARS_MAX = 40
"""With pytest's own folders and a test's name a socket's path stays below the 108 bytes that the system allows."""


def pytest_configure() -> None:
    """Keep the tests' folders under a short path where the temporary directory's own is long; pytest reads this name."""
    if len(tempfile.gettempdir()) > TEMPORARY_CHARS_MAX:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/tmp")


@functools.cache
def docker_daemon() -> str:
    """Return the version of the daemon that answers, "" if there is none."""

    async def version(engine: Engine) -> str:
        return engine.version.version

    try:
        return on_engine(version)
    except DockerError:
        return ""


def tier(item: pytest.Item) -> int:
    """Return 0 for a pure test, 1 for wire, 2 for docker."""
    if item.get_closest_marker("docker"):
        return 2
    return 1 if item.get_closest_marker("wire") else 0


TIER_OF_A_FILE = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.(wire|docker)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of which no test is to run: clients' libraries alone take longer than all pure tests."""
    wanted = str(config.option.markexpr)
    unwanted = set(re.findall(r"\bnot (wire|docker)\b", wanted)) if " or " not in wanted else set()
    if not unwanted or collection_path.suffix != ".py":
        return True if collection_path.name == "clients" and "wire" in unwanted else None
    found = TIER_OF_A_FILE.search(collection_path.read_text("utf-8"))
    return True if found and found[1] in unwanted else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by tier; mark container tests as skipped where they cannot run."""
    items.sort(key=tier)
    in_containers = [item for item in items if tier(item) == 2]
    if not in_containers or docker_daemon():
        return
    if REQUIRE_DOCKER:
        raise pytest.UsageError("PREFLIGHT_REQUIRE_DOCKER=1, and no Docker daemon answers")
    for item in in_containers:
        item.add_marker(pytest.mark.skip(reason=NO_DAEMON))


def pytest_collection() -> None:
    """While tests are imported hardly anything becomes garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What was imported to get here stays to the end: the collector need not look through it over and over."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud that tests with containers or a browser were skipped, and how many."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for kind, reason in (("container", NO_DAEMON), ("browser", NO_BROWSER)):
        if count := sum(reason in why for why in skipped):
            terminalreporter.write_line(f"{count} {kind} tests skipped: {reason}")
