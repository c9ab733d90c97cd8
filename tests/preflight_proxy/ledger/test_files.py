"""Files made from entries: completed at start, never the end of a call."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from preflight_proxy.core.budget_text import Action
from preflight_proxy.core.ledger.rows import Account, Entry, EntryKind
from preflight_proxy.ledger import files as derived
from preflight_proxy.ledger.files import BUDGET_FILE_INTERVAL_S, BudgetFiles, CostLog, last_listed

USD = 10**12


def entry(entry_id: int, text: str = "") -> Entry:
    """An entry with a line of its own."""
    return Entry(entry_id, None, "a", EntryKind.POSTED, 1, 1.0, json.dumps({"entry_id": entry_id, "text": text}))


ENTRIES = [entry(1), entry(2, "zwei"), entry(3)]
WHOLE = "".join(f"{each.line}\n" for each in ENTRIES)


AHEAD = entry(4, "a commit that was lost with the power").line + "\n"


@pytest.mark.parametrize(
    ("found", "after"),
    [
        (None, WHOLE),
        ("", WHOLE),
        (WHOLE[:-1], WHOLE),
        (WHOLE[:-5], WHOLE),
        (WHOLE[: len(ENTRIES[0].line) + 1], WHOLE),
        (WHOLE, WHOLE),
        (WHOLE + AHEAD, WHOLE + AHEAD),
        (WHOLE + AHEAD + '{"entry_', WHOLE + AHEAD),
        (AHEAD, AHEAD + WHOLE),
        (WHOLE.replace("zwei", "drei"), WHOLE.replace("zwei", "drei")),
        (f"{ENTRIES[0].line}\n{ENTRIES[2].line}\n", f"{ENTRIES[0].line}\n{ENTRIES[2].line}\n{ENTRIES[1].line}\n"),
        ("\n" + WHOLE, "\n" + WHOLE),
        ("a person's note\n" + WHOLE[:-1], "a person's note\n" + WHOLE),
        ('{"entry_id": 1e999}\n{"entry_id": -1}\n[]\n', '{"entry_id": 1e999}\n{"entry_id": -1}\n[]\n' + WHOLE),
        ("\0" * 4096, WHOLE),
    ],
    ids=[
        *("none", "empty", "no newline", "torn", "short", "whole", "ahead", "torn ahead", "only ahead", "other", "gap"),
        *("shifted", "noted in", "odd", "zeros of a lost block"),
    ],
)
def test_at_start_the_cost_log_gets_what_it_lacks_and_loses_a_torn_last_line_alone(
    tmp_path: Path, found: str | None, after: str
) -> None:
    """Whatever the last life left of it: a line that the ledger lacks may have been paid for all the same."""
    path = tmp_path / "costs.jsonl"
    if found is not None:
        path.write_text(found)
    for _ in range(2):
        CostLog(path).complete(iter(ENTRIES))
        assert path.read_text() == after


def test_a_ledger_that_lost_its_entries_takes_no_line_away(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    path.write_text(WHOLE)
    CostLog(path).complete([])
    assert path.read_text() == WHOLE


def test_the_last_listed_entry_is_the_highest_of_the_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    assert last_listed(path) == 0
    path.write_text(f'{entry(7).line}\n{entry(2).line}\nno entry\n{{"entry_id": {2**53 + 1}}}\n{entry(9).line}')
    assert last_listed(path) == 7


def test_lines_are_appended_one_by_one(tmp_path: Path) -> None:
    """Each is there when the call returns."""
    log = CostLog(tmp_path / "costs.jsonl")
    log.complete(ENTRIES[:1])
    for each in ENTRIES[1:]:
        log.append(each.line)
    assert (tmp_path / "costs.jsonl").read_text() == WHOLE


def test_lines_that_could_not_be_written_come_with_the_next_one(tmp_path: Path) -> None:
    """In order and without a gap; nothing is raised meanwhile."""
    path = tmp_path / "there" / "costs.jsonl"
    log = CostLog(path)
    log.complete([])
    log.append(ENTRIES[0].line)
    log.append(ENTRIES[1].line)
    path.parent.mkdir()
    log.append(ENTRIES[2].line)
    assert path.read_text() == WHOLE


def test_a_log_too_far_behind_waits_for_the_next_start(tmp_path: Path) -> None:
    """Rather than to leave a gap, or to fill the memory."""
    path = tmp_path / "there" / "costs.jsonl"
    log = CostLog(path)
    for _ in range(derived.LINES_BEHIND_MAX):
        log.append("{}")
    path.parent.mkdir()
    log.append(ENTRIES[0].line)
    assert not path.exists()
    log.complete(ENTRIES[:1])
    log.append(ENTRIES[1].line)
    assert len(path.read_text().splitlines()) == 2


def test_the_cost_log_is_its_owners_alone(tmp_path: Path) -> None:
    """One that was made for all to read is closed at the next start."""
    path = tmp_path / "costs.jsonl"
    log = CostLog(path)
    log.append(ENTRIES[0].line)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    log.complete(ENTRIES)
    assert path.stat().st_mode & 0o777 == 0o600


class StoppedLoop:
    """An event loop whose time a test moves."""

    def __init__(self) -> None:
        self.now_s = 50.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay: float, callback: Callable[[], None]) -> "StoppedLoop":
        self.calls.append((self.now_s + delay, callback))
        return self

    def cancel(self) -> None:
        self.calls.clear()

    def move(self, seconds: float) -> None:
        self.now_s += seconds
        due = [each for each in self.calls if each[0] <= self.now_s]
        self.calls = [each for each in self.calls if each not in due]
        for _, callback in due:
            callback()


@pytest.fixture
def account(tmp_path: Path) -> Account:
    """With a budget file and a limit of a dollar."""
    return Account("a", "run", USD, budget_file=str(tmp_path / "budget.txt"))


def left(account: Account) -> str:
    """What the file says is left, in dollars."""
    assert account.budget_file is not None
    return Path(account.budget_file).read_text().split("$")[1].split()[0]


def test_a_change_is_written_at_once_then_ten_times_a_second_and_the_last_always(account: Account) -> None:
    """An agent that looks right after its call finds the new figure."""
    loop = StoppedLoop()
    files = BudgetFiles(loop)
    files.write(account, USD // 10, (), 0)
    assert left(account) == "0.900"
    for tenths in (2, 3, 4):
        files.write(account, tenths * USD // 10, (), 0)
    assert left(account) == "0.900"
    assert len(loop.calls) == 1
    loop.move(BUDGET_FILE_INTERVAL_S)
    assert left(account) == "0.600"
    files.write(account, USD // 2, (), 0)
    loop.move(BUDGET_FILE_INTERVAL_S)
    assert left(account) == "0.500"
    loop.move(BUDGET_FILE_INTERVAL_S)
    files.write(replace(account, limit_pusd=2 * USD), USD // 2, (), 0)
    assert left(account) == "1.500"


def test_a_budget_file_is_replaced_as_a_whole_and_readable_by_all(account: Account, tmp_path: Path) -> None:
    """The agent may run as any user; a reader of the old file keeps the old text."""
    loop = StoppedLoop()
    files = BudgetFiles(loop)
    files.write(account, 0, (), 0)
    path = tmp_path / "budget.txt"
    with path.open() as old:
        files.write(account, USD // 2, (), 0)
        loop.move(BUDGET_FILE_INTERVAL_S)
        assert old.read() == "Budget: $1.000 remaining of $1.00 (100% left)\n"
    assert path.read_text() == "Budget: $0.500 remaining of $1.00 (50% left)\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["budget.txt"]


def test_the_detailed_file_lists_the_newest_actions(account: Account, tmp_path: Path) -> None:
    """By the account's mode."""
    detailed = replace(account, budget_mode="detailed")
    BudgetFiles(StoppedLoop()).write(detailed, USD // 2, (Action("grep", USD // 10),), 5)
    assert "  - $0.1000  (grep)\n" in (tmp_path / "budget.txt").read_text()


def test_at_the_end_what_waits_is_written(account: Account) -> None:
    """And nothing is written after."""
    loop = StoppedLoop()
    files = BudgetFiles(loop)
    files.write(account, 0, (), 0)
    files.write(account, USD, (), 0)
    files.flush()
    assert left(account) == "0.000"
    assert loop.calls == []
    files.flush()


def test_an_account_without_a_file_and_one_without_a_directory_stop_nothing(tmp_path: Path) -> None:
    """Their budget holds all the same; the file comes once it can be written."""
    loop = StoppedLoop()
    files = BudgetFiles(loop)
    files.write(Account("a", "run", USD), 0, (), 0)
    lost = Account("b", "run", USD, budget_file=str(tmp_path / "later" / "budget.txt"))
    files.write(lost, 0, (), 0)
    loop.move(1.0)
    files.write(lost, 0, (), 0)
    (tmp_path / "later").mkdir()
    loop.move(1.0)
    files.write(lost, 0, (), 0)
    assert left(lost) == "1.000"


async def test_the_running_loop_keeps_the_time_by_default(account: Account) -> None:
    """The second write waits on it, and comes."""
    files = BudgetFiles()
    files.write(account, 0, (), 0)
    files.write(account, USD // 2, (), 0)
    assert left(account) == "1.000"
    async with asyncio.timeout(30):
        while left(account) != "0.500":
            await asyncio.sleep(0.005)
