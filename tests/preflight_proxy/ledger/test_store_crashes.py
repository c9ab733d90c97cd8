"""The ledger under kill -9, a full disk and a second process: real processes on a real file."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from preflight_proxy.base.clock import SystemClock
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Void
from preflight_proxy.ledger.reader import read_whole
from preflight_proxy.ledger.store import Store
from tests.support.store_process import COST_PUSD

pytestmark = pytest.mark.wire

ROOT = Path(__file__).resolve().parents[3]
CHILD = ROOT / "tests" / "support" / "store_process.py"


def child(path: Path, first: int, *more: str) -> subprocess.Popen[str]:
    """Start the committing process."""
    command = [sys.executable, str(CHILD), str(path), str(first), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed_after(path: Path, first: int, lines_count: int) -> list[str]:
    """Everything that a process acknowledged, which was killed once it had acknowledged so much."""
    with child(path, first) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(lines_count)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.read().split("\n")[:-1]
    assert process.returncode == -signal.SIGKILL
    return acknowledged


def numbers(lines: list[str], word: str) -> set[int]:
    """The numbers that were acknowledged under a word."""
    return {int(line.split()[1]) for line in lines if line.startswith(word)}


def test_every_acknowledged_commit_is_there_after_kill_9(tmp_path: Path) -> None:
    """Several times on one file; projections and checkpoints run beside the commits."""
    path, first = tmp_path / "ledger.sqlite3", 0
    for lines_count in (1, 2, 35, 300, 301, 1_200, 4_000):
        acknowledged = killed_after(path, first, lines_count)
        reserved, acknowledged_posts = numbers(acknowledged, "reserved"), numbers(acknowledged, "posted")
        store = Store(path, clock=SystemClock())
        entries = list(store.entries())
        in_ledger = {int((entry.reservation_id or "")[1:]) for entry in entries if entry.cost_pusd}
        pending = {int(held.id[1:]) for held in store.pending()}
        assert acknowledged_posts <= in_ledger
        assert reserved <= in_ledger | pending | set(range(first))
        assert len(pending) <= 1
        assert store.state.accounts["a"].posted_pusd == COST_PUSD * len(in_ledger)
        for held in store.pending():
            store.commit(Void(held.id, "nothing was sent"))
            first = int(held.id[1:])
        first = max(in_ledger | pending | {first}) + 1
        assert len((tmp_path / "costs.jsonl").read_text().splitlines()) == len(entries)
        store.close()
        read_whole(path)


def test_a_full_disk_closes_the_ledger_and_loses_nothing(tmp_path: Path) -> None:
    """Nothing is admitted any more, the balance stands as acknowledged, and after a restart the ledger is complete."""
    path = tmp_path / "ledger.sqlite3"
    with child(path, 0, str(200_000)) as process:
        out, err = process.communicate()
    lines = out.splitlines()
    assert {"poisoned True", "closed", "unchanged True"} <= set(lines)
    assert "cannot be written" in err
    posted = numbers(lines, "posted")
    assert posted
    store = Store(path, clock=SystemClock())
    assert not store.poisoned
    assert store.state.accounts["a"].posted_pusd == COST_PUSD * len(posted)
    store.close()


def test_a_second_process_is_refused_while_the_first_one_lives(tmp_path: Path) -> None:
    """And let in once it is killed: the lock needs no cleaning up."""
    path = tmp_path / "ledger.sqlite3"
    with child(path, 0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reserved 0\n"
        with pytest.raises(LedgerError, match="in use by another proxy"):
            Store(path, clock=SystemClock())
        process.kill()
        process.stdout.read()
    Store(path, clock=SystemClock()).close()


def test_a_start_that_is_killed_at_any_line_leaves_a_folder_that_starts_again(tmp_path: Path) -> None:
    """That of a new ledger, and of one whose last commits went with the machine's power."""
    memory = Path("/dev/shm")  # syncs at once: there are some 350 starts
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as place:
        command = [sys.executable, "-m", "tests.support.killed_start", place]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = dict(line.split() for line in done.stdout.splitlines() if line.split()[0] in ("new", "old"))
    assert lines.keys() == {"new", "old"}
    assert all(int(count) > 100 for count in lines.values())
