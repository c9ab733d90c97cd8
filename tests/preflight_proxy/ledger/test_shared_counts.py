"""What runs learn from one another, on real files, with real threads and processes."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import structlog

from preflight_proxy.base.clock import Clock, SystemClock
from preflight_proxy.core.pricing.token_factors import BY_BYTES
from preflight_proxy.ledger import shared_counts, shared_counts_file
from preflight_proxy.ledger.shared_counts import AGAIN_S, SharedCounts
from preflight_proxy.ledger.shared_counts_file import (
    FACTOR_S_MAX,
    PREAMBLE_S_MAX,
    ROWS_MAX,
    Note,
    Rows,
    SharedCountsFile,
    carried_factors,
)
from tests.support.fake_clock import FakeClock

ROOT = Path(__file__).resolve().parents[3]
HERE = "https://openrouter.ai"
TEXT = b"digest of a text"
ENDPOINT = ("m/x", "tag")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """In a folder that does not exist yet."""
    return tmp_path / "state" / "token_counts.sqlite3"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread waits for nothing."""
    monkeypatch.setattr(shared_counts, "GATHER_S", 0.0)
    monkeypatch.setattr(shared_counts, "SHARED_LOOK_S", 0.02)


@contextmanager
def run_of(path: Path | None, run: str = "a", clock: Clock | None = None) -> Iterator[SharedCounts]:
    """One run; what it noted is in the file afterwards."""
    counts = SharedCounts(path, run=run, upstream=HERE, clock=clock or FakeClock())
    counts.begin()
    try:
        yield counts
    finally:
        counts.close()


def note(path: Path, run: str, tokens: int = 0, factor: int = 0, clock: Clock | None = None) -> None:
    """What a run notes in all its life."""
    with run_of(path, run, clock) as counts:
        counts.note_preamble(TEXT, tokens, 1)
        counts.note_factor(*ENDPOINT, factor)


def until(holds: Callable[[], bool]) -> None:
    """Wait until the thread has done its work."""
    until_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def known(path: Path, run: str = "reader", clock: Clock | None = None) -> tuple[int, bool] | None:
    """What a run that begins now knows of the preamble."""
    with run_of(path, run, clock) as counts:
        until(lambda: counts._file is not None and counts._file.key == counts._known._key)
        return counts.preamble_tokens(TEXT)


def factor(path: Path, run: str = "reader", clock: Clock | None = None) -> int:
    """The same of the endpoint."""
    with run_of(path, run, clock) as counts:
        until(lambda: counts._file is not None and counts._file.key == counts._known._key)
        return counts.factor(*ENDPOINT)


def test_nothing_is_opened_before_it_begins(path: Path) -> None:
    counts = SharedCounts(path, run="a", upstream=HERE, clock=FakeClock())
    counts.note_preamble(TEXT, 1000, 1)
    counts.note_factor(*ENDPOINT, 1300)
    assert (counts.preamble_tokens(TEXT), counts.factor(*ENDPOINT)) == ((1000, False), 1300)
    assert not path.parent.exists()
    counts.begin()
    counts.close()
    assert known(path) == (1000, False)


def test_one_run_s_count_is_known_to_the_next_but_is_not_confirmed(path: Path) -> None:
    assert known(path) is None
    note(path, "a", 1000)
    assert known(path) == (1000, False)
    assert known(path, "a") == (1000, False)


@pytest.mark.parametrize(
    ("billed", "expected"),
    [
        ((1000, 1000), (1000, True)),
        ((990, 1000), (1000, True)),
        ((1000, 990), (1000, True)),
        ((989, 1000), (1000, False)),
        ((500, 1000, 2000), (2000, False)),
        ((500, 1000, 1005), (1005, True)),  # one run alone says 500
        ((1000, 1005, 2000), (1005, True)),  # the third had more to say before its first answer
        ((1000, 1005, 2000, 2001), (1005, True)),
    ],
)
def test_two_runs_must_agree_within_1_percent(path: Path, billed: tuple[int, ...], expected: tuple[int, bool]) -> None:
    for number, tokens in enumerate(billed):
        note(path, f"run {number}", tokens)
    assert known(path) == expected


def test_a_run_that_bills_twice_or_starts_again_is_one_run(path: Path) -> None:
    note(path, "a", 1000)
    note(path, "a", 1000)
    assert known(path) == (1000, False)
    note(path, "a", 900)
    note(path, "a", 1100)
    assert known(path) == (900, False)


def test_a_bill_below_half_the_estimate_or_beyond_all_prompts_is_ignored(path: Path) -> None:
    with run_of(path) as counts:
        for tokens, least in ((499, 500), (0, 0), (-3, -5), (10**10, 1), (2**70, 1)):
            counts.note_preamble(TEXT, tokens, least)
        assert counts.preamble_tokens(TEXT) is None
        counts.note_preamble(TEXT, 500, 500)
        assert counts.preamble_tokens(TEXT) == (500, False)
    assert known(path) == (500, False)


def test_an_overrun_deletes_the_count_of_every_run(path: Path) -> None:
    for run in ("a", "b"):
        note(path, run, 1000)
    with run_of(path, "c") as counts, run_of(path, "b") as other:
        until(lambda: counts.preamble_tokens(TEXT) == other.preamble_tokens(TEXT) == (1000, True))
        counts.forget_preamble(TEXT)
        assert counts.preamble_tokens(TEXT) is None
        until(lambda: other.preamble_tokens(TEXT) is None)
        counts.note_preamble(TEXT, 1500, 1)
        assert counts.preamble_tokens(TEXT) == (1500, False)
    assert known(path) == (1500, False)


def test_two_runs_at_once_see_what_the_other_wrote(path: Path) -> None:
    with run_of(path, "a") as one, run_of(path, "b") as two:
        for number in range(200):
            one.note_preamble(b"%d" % number, 1000, 1)
            two.note_preamble(b"%d" % number, 1000, 1)
        one.note_factor(*ENDPOINT, 1300)
        two.note_factor(*ENDPOINT, 1200)
        until(lambda: all(one.preamble_tokens(b"%d" % number) == (1000, True) for number in range(200)))
        until(lambda: all(two.preamble_tokens(b"%d" % number) == (1000, True) for number in range(200)))
        assert (one.factor(*ENDPOINT), two.factor(*ENDPOINT)) == (1300, 1200)
    assert factor(path) == 1200


def test_a_run_knows_its_own_factor_and_others_when_two_saw_one(path: Path) -> None:
    assert factor(path) == 1000
    note(path, "a", factor=1300)
    assert (factor(path, "a"), factor(path)) == (1300, 1000)
    note(path, "a", factor=1100)
    assert factor(path, "a") == 1300
    note(path, "b", factor=BY_BYTES)
    assert (factor(path, "a"), factor(path, "b"), factor(path)) == (1300, BY_BYTES, 1300)
    note(path, "c", factor=10 * BY_BYTES)
    assert factor(path, "c") == factor(path) == BY_BYTES
    note(path, "d", factor=1000)
    assert len(carried_factors(path, FakeClock().epoch_s())) == 1


def test_a_smaller_factor_changes_nothing(path: Path) -> None:
    counts = SharedCounts(path, run="a", upstream=HERE, clock=FakeClock())
    for seen in (900, 1000, 1300, 1100):
        counts.note_factor(*ENDPOINT, seen)
    assert counts.factor(*ENDPOINT) == 1300
    assert counts._news == [(ENDPOINT, 1300)]


def test_what_is_noted_while_the_file_is_read_is_neither_lost_nor_forgotten(path: Path) -> None:
    class Meanwhile(SharedCountsFile):
        def exchange(self, news: Sequence[Note], now_s: float) -> Rows | None:
            rows = super().exchange(news, now_s)
            counts.note_preamble(TEXT, 1000, 1)
            counts.forget_preamble(b"other")
            return rows

    note(path, "b", 1005)
    counts = SharedCounts(path, run="a", upstream=HERE, clock=FakeClock())
    counts.note_preamble(b"other", 1000, 1)
    file = Meanwhile(path, HERE, "a")
    counts._exchange(file)
    assert (counts.preamble_tokens(TEXT), counts.preamble_tokens(b"other")) == ((1005, True), None)
    assert counts._news == [(TEXT, 1000), (b"other", None)]
    file.close()


def test_a_factor_that_is_cleared_is_cleared_for_every_run(path: Path) -> None:
    for run in ("a", "b"):
        note(path, run, factor=1300)
    with run_of(path, "a") as counts:
        until(lambda: counts.factor(*ENDPOINT) == 1300)
        counts.clear_factor(*ENDPOINT)
        assert counts.factor(*ENDPOINT) == 1000
    assert factor(path, "b") == 1000


def test_counts_grow_old(path: Path) -> None:
    clock = FakeClock()
    for run in ("a", "b"):
        note(path, run, 1000, 1300, clock)
    clock.advance(FACTOR_S_MAX - 1)
    assert factor(path, "a", clock) == factor(path, clock=clock) == 1300
    clock.advance(1)
    assert factor(path, "a", clock) == factor(path, clock=clock) == 1000
    clock.advance(PREAMBLE_S_MAX - FACTOR_S_MAX - 1)
    assert known(path, clock=clock) == (1000, True)
    clock.advance(1)
    assert known(path, clock=clock) is None


def test_a_running_run_forgets_what_has_grown_old(path: Path) -> None:
    clock = FakeClock()
    with run_of(path, "a", clock) as counts:
        counts.note_preamble(TEXT, 1000, 1)
        counts.note_factor(*ENDPOINT, 1300)
        until(lambda: counts._news == [] and path.exists())
        clock.advance(PREAMBLE_S_MAX)
        until(lambda: counts.factor(*ENDPOINT) == 1000 and counts.preamble_tokens(TEXT) is None)


def test_what_is_seen_each_day_stays_and_is_written_once_a_day(path: Path) -> None:
    clock = FakeClock()
    counts = SharedCounts(path, run="a", upstream=HERE, clock=clock)
    for _ in range(100):
        counts.note_preamble(TEXT, 1000, 1)
        counts.note_factor(*ENDPOINT, 1300)
    assert len(counts._news) == 2
    clock.advance(AGAIN_S)
    for _ in range(100):
        counts.note_preamble(TEXT, 1000, 1)
        counts.note_factor(*ENDPOINT, 1100)
    assert len(counts._news) == 4


def test_memory_is_bounded_where_nothing_can_be_written(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    counts = SharedCounts(path, run="a", upstream=HERE, clock=FakeClock())
    for number in range(3 * ROWS_MAX):
        counts.note_preamble(b"%d" % number, 1000, 1)
    counts._exchange(SharedCountsFile(path, HERE, "a"))
    assert len(counts._news) == len(counts._known.preambles.answers) == ROWS_MAX
    assert counts.preamble_tokens(b"%d" % (3 * ROWS_MAX - 1)) == (1000, False)


def test_of_too_many_preambles_the_oldest_is_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    for digest in (b"old", b"newer", b"new"):
        with run_of(path, "a", clock) as counts:
            counts.note_preamble(digest, 1000, 1)
        clock.advance(1)
    monkeypatch.setattr(shared_counts, "ROWS_MAX", 3)
    with run_of(path, "b", clock) as counts:
        until(lambda: counts.preamble_tokens(b"new") is not None)
        with counts._lock:
            counts._known.note(TEXT, 1000, clock.epoch_s())
            assert [counts.preamble_tokens(each) is None for each in (b"old", b"newer", b"new")] == [True, False, False]


def test_without_a_file_no_preamble_is_known_and_factors_are_this_process_s() -> None:
    with run_of(None) as counts:
        counts.note_preamble(TEXT, 1000, 1)
        counts.forget_preamble(TEXT)
        counts.note_factor(*ENDPOINT, 1300)
        assert counts.preamble_tokens(TEXT) is None
        assert counts.factor(*ENDPOINT) == 1300
        counts.clear_factor(*ENDPOINT)
        assert counts.factor(*ENDPOINT) == 1000
        assert counts._news == []


def test_what_cannot_be_written_is_one_line_and_this_run_s_own(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with structlog.testing.capture_logs() as log, run_of(path) as counts:
        counts.note_factor(*ENDPOINT, 1300)
        counts.note_preamble(TEXT, 1000, 1)
        until(lambda: len(log) > 0)
        counts.note_preamble(TEXT, 900, 1)
        assert (counts.factor(*ENDPOINT), counts.preamble_tokens(TEXT)) == (1300, (900, False))
    assert len(log) == 1
    assert list(path.parent.iterdir()) == []


def test_a_locked_file_delays_no_lookup_and_is_written_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts_file, "SHARED_BUSY_S", 0.01)
    note(path, "a", 1000)
    with structlog.testing.capture_logs() as log, run_of(path, "b") as counts:
        until(lambda: counts.preamble_tokens(TEXT) is not None)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            counts.note_preamble(TEXT, 1000, 1)
            until(lambda: len(log) > 0)
            assert counts.preamble_tokens(TEXT) == (1000, True)
            other.execute("ROLLBACK")
        until(lambda: counts._news == [])
    assert [line["kind"] for line in log] == ["SQLITE_BUSY"]
    assert known(path) == (1000, True)


def test_a_damaged_file_is_begun_anew_while_the_run_goes_on(path: Path) -> None:
    with structlog.testing.capture_logs() as log, run_of(path) as counts:
        counts.note_preamble(b"other", 1000, 1)
        until(path.exists)
        until(lambda: counts._news == [])
        path.unlink()
        path.write_bytes(b"no database at all" * 100)
        path.chmod(0o600)
        counts.note_preamble(TEXT, 1000, 1)
    assert [line["kind"] for line in log] == ["SQLITE_NOTADB"]
    assert known(path) == (1000, False)


def test_a_proxy_that_shares_no_preambles_carries_factors_all_the_same(path: Path) -> None:
    """Accounts of different people learn nothing from one another's prompts."""
    note(path, "a", 1000, 1300)
    counts = SharedCounts(path, run="b", upstream=HERE, clock=FakeClock(), share_preambles=False)
    counts.begin()
    counts.note_preamble(TEXT, 1000, 1)
    counts.note_factor(*ENDPOINT, 1300)
    counts.close()
    assert counts.preamble_tokens(TEXT) is None
    assert known(path) == (1000, False)
    assert factor(path) == 1300


@pytest.mark.wire
def test_a_run_that_is_killed_leaves_a_file_that_others_use(path: Path) -> None:
    """Several times, in the middle of writing, while another run writes too."""
    command = [sys.executable, str(ROOT / "tests" / "support" / "shared_counts_process.py"), str(path)]
    with structlog.testing.capture_logs() as log, run_of(path, "beside", SystemClock()) as beside:
        for number in range(6):
            with subprocess.Popen([*command, f"run {number}"], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                beside.note_preamble(b"beside %d" % number, 1000, 1)
                time.sleep(0.02 * number)
                process.send_signal(signal.SIGKILL)
        until(lambda: beside._news == [])
    assert log == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM preambles").fetchone()[0] > 20
    with run_of(path, "reader", SystemClock()) as reader:
        until(lambda: reader.preamble_tokens(b"first") == (1000, True))
