"""A score's command as a real process: what it gets, how it ends, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

import psutil
import pytest

from agent_preflight.runs.record import Score
from agent_preflight.sandboxes.interface import Pipes
from agent_preflight.sandboxes.process import SessionProcess, orphan_processes
from agent_preflight.scoring.command import (
    CUT,
    SCORE_LOG_BYTES_MAX,
    SHELL,
    ScoreError,
    score_by_command,
    within,
)

pytestmark = pytest.mark.wire


async def score(tmp_path: Path, command: str, timeout_s: float = 60.0, hurry: asyncio.Event | None = None) -> Score:
    """Run a command to its end, after which nothing of it may be left."""
    budget_file = tmp_path / "budget.txt"
    env = {"PATH": os.environ["PATH"], "PREFLIGHT_BUDGET_FILE": str(budget_file)}
    place = SessionProcess("the score's command", (*SHELL, command), tmp_path, env, budget_file)
    found, gone = await score_by_command(place, tmp_path / "score.log", timeout_s, 1.0, hurry or asyncio.Event())
    assert gone == "ok"
    assert orphan_processes(budget_file) == set()
    return found


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def python(text: str) -> str:
    return f"exec {sys.executable} -c '{text}'"


async def test_the_last_line_is_the_score_and_all_that_was_printed_is_in_a_private_log(tmp_path: Path) -> None:
    found = await score(tmp_path, "echo begins; echo careful >&2; echo 0.5")
    assert (found.value, found.success, found.reason) == (0.5, False, None)
    log = tmp_path / "score.log"
    assert sorted(log.read_text().split()) == ["0.5", "begins", "careful"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("echo 1; echo it broke >&2; exit 3", "the command ended with exit code 3: it broke"),
        ("exit 0", "it printed nothing"),
        ("echo oops", "its last line is no number and no JSON: 'oops'"),
        ("/no/such/program", "the command ended with exit code 127: "),
        ("kill -9 $$", "the command ended with exit code 137"),
        ("echo '((' | sh", "the command ended with exit code "),
    ],
)
async def test_a_command_that_fails_is_no_score(tmp_path: Path, command: str, why: str) -> None:
    found = await score(tmp_path, command)
    assert (found.value, found.success) == (None, None)
    assert str(found.reason).startswith(why)


async def test_a_command_that_hangs_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    forks = f"""echo 1; sleep 3600 & setsid sleep 3601 & (setsid sh -c "sleep 3602 & echo \\$! > {tmp_path}/pid" &); sleep 3603"""
    found = await score(tmp_path, f"trap '' TERM; {forks}", timeout_s=1.0)
    assert found.reason == "it took longer than 1 s (score_timeout_s)"
    assert not runs(int((tmp_path / "pid").read_text()))


async def test_what_a_command_leaves_running_is_ended_and_does_not_delay_its_score(tmp_path: Path) -> None:
    left = f"""(setsid sh -c "sleep 3604 & echo \\$! > {tmp_path}/pid; sleep 3605" &)"""
    found = await score(tmp_path, f"{left}; while ! test -s {tmp_path}/pid; do :; done; echo 1")
    assert found.value == 1.0
    assert not runs(int((tmp_path / "pid").read_text()))


async def test_a_flood_is_read_and_dropped_and_its_end_counts(tmp_path: Path) -> None:
    flood = python('import sys\nfor _ in range(300): sys.stdout.write("x" * 65535 + "\\n")\nprint(0.25)')
    found = await score(tmp_path, flood)
    assert found.value == 0.25
    assert (tmp_path / "score.log").stat().st_size == SCORE_LOG_BYTES_MAX


async def test_an_endless_flood_ends_at_the_time_limit(tmp_path: Path) -> None:
    found = await score(tmp_path, "yes >&2 & yes", timeout_s=0.5)
    assert "took longer" in str(found.reason)
    assert (tmp_path / "score.log").stat().st_size <= SCORE_LOG_BYTES_MAX


@pytest.mark.parametrize(
    "printed",
    [
        'sys.stdout.write("1" * (3 * 2**20))',
        'sys.stdout.buffer.write(b"\\xff" * 1000)',
        'sys.stdout.write("[" * 500000)',
        "sys.stdout.write(chr(10) * (3 * 2**20))",
    ],
)
async def test_hostile_output_is_no_score(tmp_path: Path, printed: str) -> None:
    found = await score(tmp_path, python(f"import sys\n{printed}"))
    assert found.value is None
    assert found.reason


async def test_a_run_that_is_ended_at_once_cuts_the_command(tmp_path: Path) -> None:
    hurry = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, hurry.set)
    assert (await score(tmp_path, "echo 1; sleep 3600", hurry=hurry)).reason == CUT


async def test_the_loop_goes_on_while_a_command_runs(tmp_path: Path) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    await score(tmp_path, f"while ! test -e {tmp_path}/go; do :; done & sleep 0.2; touch {tmp_path}/go; wait; echo 1")
    counting.cancel()
    assert turns > 100


async def test_an_earlier_log_is_replaced_and_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "score.log").symlink_to(victim)
    await score(tmp_path, "echo 1")
    assert (victim.read_text(), (tmp_path / "score.log").read_text()) == ("mine", "1\n")


async def test_work_that_fails_says_why_itself() -> None:
    async def fails() -> None:
        raise ScoreError("own reason")

    with pytest.raises(ScoreError, match="own reason"):
        await within(fails(), 5.0, asyncio.Event())


async def test_whatever_goes_wrong_at_its_start_what_was_started_is_ended(tmp_path: Path) -> None:
    class Broken(SessionProcess):
        async def start(self) -> Pipes:
            await super().start()
            raise ValueError("not expected")

    budget_file = tmp_path / "budget.txt"
    env = {"PATH": os.environ["PATH"], "PREFLIGHT_BUDGET_FILE": str(budget_file)}
    place = Broken("it", (*SHELL, "sleep 3600"), tmp_path, env, budget_file)
    found, gone = await score_by_command(place, tmp_path / "score.log", 60.0, 1.0, asyncio.Event())
    assert (found.value, found.reason, gone) == (None, "ValueError: not expected", "ok")
    assert orphan_processes(budget_file) == set()
