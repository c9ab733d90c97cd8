"""Files made from entries: completed at start, never the end of a call."""

import json
import resource
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from preflight_proxy.core.budget_text import Action
from preflight_proxy.core.ledger.rows import Account, Entry, EntryKind
from preflight_proxy.core.pricing.fits import PriceTier, PromptRate
from preflight_proxy.ledger import files as ledger_files
from preflight_proxy.ledger.files import BudgetFiles, CostLog, Files, Listing, read_listing

USD = 10**12
NEVER_S = 3600.0


def entry(entry_id: int, text: str = "") -> Entry:
    """An entry with a line of its own."""
    return Entry(entry_id, None, "a", EntryKind.POSTED, 1, 1.0, json.dumps({"entry_id": entry_id, "text": text}))


def text_of(entries: Sequence[Entry]) -> str:
    """Their lines."""
    return "".join(f"{each.line}\n" for each in entries)


ENTRIES = [entry(1), entry(2, "zwei"), entry(3)]
WHOLE = text_of(ENTRIES)
AHEAD = text_of([entry(4, "a commit that was lost with the power")])


def complete(path: Path, entries: Sequence[Entry] = ENTRIES, mark: tuple[int, int] = (0, 0)) -> CostLog:
    """Complete a costs.jsonl as a start does."""
    log, listing = CostLog(path), read_listing(path, mark)
    log.complete(listing, (each for each in entries if each.entry_id > listing.through))
    return log


@pytest.mark.parametrize(
    ("before", "after"),
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
    tmp_path: Path, before: str | None, after: str
) -> None:
    """Whatever the last life left of it: a line that the ledger lacks may have been paid for all the same."""
    path = tmp_path / "costs.jsonl"
    if before is not None:
        path.write_text(before)
    for _ in range(2):
        mark = complete(path).mark
        assert path.read_text() == after
        assert mark == (3, len(after))
        assert complete(path, mark=mark).mark == mark


def test_a_ledger_that_lost_its_entries_takes_no_line_away(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    path.write_text(WHOLE)
    complete(path, [])
    assert path.read_text() == WHOLE


def test_the_last_listed_entry_is_the_highest_of_the_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    assert read_listing(path) == Listing()
    path.write_text(f'{entry(7).line}\n{entry(2).line}\nno entry\n{{"entry_id": {2**53 + 1}}}\n{entry(9).line}')
    listing = read_listing(path)
    assert (listing.last_id, listing.entry_ids, listing.through) == (7, frozenset({2, 7}), 0)


def test_only_what_was_written_after_the_mark_is_read(tmp_path: Path) -> None:
    """So a start does not depend on the length of the file."""
    path = tmp_path / "costs.jsonl"
    mark = complete(path).mark
    path.write_text("x" * (mark[1] - 1) + "\n" + text_of([entry(5)]))
    assert read_listing(path, mark) == Listing(3, frozenset({5}), path.stat().st_size)
    path.write_text("x" * (mark[1] - 1) + "\n")
    assert read_listing(path, mark).last_id == 3


@pytest.mark.parametrize("content", [WHOLE[:-9], "\0" * 500, "x" + WHOLE, ""])
def test_a_file_that_is_not_as_the_mark_says_is_read_from_its_beginning(tmp_path: Path, content: str) -> None:
    """A person may have changed it, and a loss of power may have shortened it."""
    path = tmp_path / "costs.jsonl"
    mark = complete(path).mark
    path.write_text(content)
    assert read_listing(path, mark).through == 0
    assert read_listing(path, mark) == read_listing(path)


def test_the_mark_moves_with_each_line_and_stays_at_a_gap(tmp_path: Path) -> None:
    log = complete(tmp_path / "costs.jsonl", [])
    assert log.append(ENTRIES[:2])
    assert log.mark == (2, len(text_of(ENTRIES[:2])))
    assert log.append([entry(9)], after_gap=True)
    assert log.mark == (2, len(text_of(ENTRIES[:2])))


def test_the_cost_log_is_its_owners_alone(tmp_path: Path) -> None:
    """One that was made for all to read is closed at the next start."""
    path = tmp_path / "costs.jsonl"
    CostLog(path).append(ENTRIES[:1])
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    complete(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_fits_in_part_is_removed_and_written_whole_later(tmp_path: Path) -> None:
    """As where the disk gets full in the middle of a line."""
    path = tmp_path / "costs.jsonl"
    log, long = CostLog(path), entry(1, "x" * 100_000)
    log.append([long])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(long.line) + 4, hard))
    try:
        assert not log.append([entry(2)])
        assert path.read_text() == text_of([long])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.append([entry(2)])
    assert path.read_text() == text_of([long, entry(2)])


@pytest.fixture
def account(tmp_path: Path) -> Account:
    """With a budget file and a limit of a dollar."""
    return Account("a", "run", USD, budget_file=str(tmp_path / "budget.txt"))


def left(account: Account) -> str:
    """What the file says is left, in dollars."""
    assert account.budget_file is not None
    return Path(account.budget_file).read_text().split("$")[1].split()[0]


class CountedWrites:
    """Counts the writes of budget files, and can hold them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written = threading.Semaphore(0)
        self.count = 0
        self.threads: set[threading.Thread] = set()
        self._write = ledger_files.BudgetFiles.write
        monkeypatch.setattr(ledger_files.BudgetFiles, "write", self._counted())

    def _counted(self) -> Callable[[BudgetFiles, Account], None]:
        def write(files: BudgetFiles, account: Account) -> None:
            self._write(files, account)
            self.count += 1
            self.threads.add(threading.current_thread())
            self.written.release()

        return write


def test_a_change_is_written_at_once_then_after_the_pause_and_the_last_always(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that looks right after its call finds the new figure; many calls cost one write."""
    writes = CountedWrites(monkeypatch)
    files = Files(complete(tmp_path / "costs.jsonl", []), interval_s=NEVER_S)
    files.show(account)
    assert writes.written.acquire(timeout=60)
    assert left(account) == "1.000"
    for tenths in range(1, 6):
        files.show(replace(account, posted_pusd=tenths * USD // 10))
        files.add(entry(tenths))
    assert (left(account), writes.count) == ("1.000", 1)
    files.close()
    assert (left(account), writes.count) == ("0.500", 2)
    assert [json.loads(line)["entry_id"] for line in (tmp_path / "costs.jsonl").read_text().splitlines()] == [
        1,
        2,
        3,
        4,
        5,
    ]
    files.close()
    assert writes.count == 2


def test_what_changes_during_a_pause_is_written_after_it(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another change, and never on the thread that brought the change."""
    writes = CountedWrites(monkeypatch)
    files = Files(complete(tmp_path / "costs.jsonl", []))
    for half in range(3):
        files.show(replace(account, posted_pusd=half * USD // 2))
        assert writes.written.acquire(timeout=60)
        assert left(account) == f"{1 - half / 2:.3f}"
    files.add(entry(1))
    files.close()
    assert threading.current_thread() not in writes.threads
    assert (tmp_path / "costs.jsonl").read_text() == text_of([entry(1)])


def test_lines_that_could_not_be_written_come_with_the_next_ones(tmp_path: Path) -> None:
    """In order and without a gap; nothing is raised meanwhile."""
    path = tmp_path / "there" / "costs.jsonl"
    files = Files(complete(path, []), interval_s=0.0)
    files.add(ENTRIES[0])
    files.add(ENTRIES[1])
    path.parent.mkdir()
    files.add(ENTRIES[2])
    files.close()
    assert path.read_text() == WHOLE


def test_a_log_too_far_behind_waits_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than to fill the memory. The mark stays before the gap, so the next start appends what is missing."""
    monkeypatch.setattr(ledger_files, "LINES_BEHIND_MAX", 2)
    path = tmp_path / "there" / "costs.jsonl"
    log = complete(path, [])
    files = Files(log, interval_s=NEVER_S)
    for each in ENTRIES:
        files.add(each)
    path.parent.mkdir()
    files.close()
    assert path.read_text() == text_of(ENTRIES[:2])
    assert log.mark == (0, 0)
    complete(path, mark=log.mark)
    assert path.read_text() == WHOLE


def test_a_budget_file_is_replaced_as_a_whole_and_readable_by_all(account: Account, tmp_path: Path) -> None:
    """The agent may run as any user; a reader of the old file keeps the old text."""
    files, path = BudgetFiles(), tmp_path / "budget.txt"
    files.write(account)
    with path.open() as old:
        files.write(replace(account, posted_pusd=USD // 4, pending_pusd=USD // 4))
        assert old.read() == "Budget: $1.000 remaining of $1.00 (100% left)\n"
    assert path.read_text() == "Budget: $0.500 remaining of $1.00 (50% left)\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["budget.txt"]


def test_the_detailed_file_lists_the_newest_actions(account: Account, tmp_path: Path) -> None:
    """By the account's mode."""
    detailed = replace(account, budget_mode="detailed", actions=(Action("grep", USD // 10),), actions_count=5)
    BudgetFiles().write(replace(detailed, posted_pusd=USD // 2))
    assert "  - $0.1000  (grep)\n" in (tmp_path / "budget.txt").read_text()


def test_the_detailed_file_ends_with_the_largest_new_prompt_that_fits(account: Account, tmp_path: Path) -> None:
    """The simple one stays one line."""
    rate = PromptRate("a/b", 10**6, 100, (PriceTier(-1, 0, 3 * USD),))
    known = replace(account, rate=rate, actions=(Action("grep", USD // 10),), actions_count=1)
    path, whole = tmp_path / "budget.txt", replace(known, budget_mode="detailed")
    BudgetFiles().write(whole)
    assert path.read_text().splitlines()[-2:] == [
        "Estimated actions remaining: ~0",
        "Largest new prompt: ~332,000 tokens (a/b)",
    ]
    BudgetFiles().write(known)
    assert len(path.read_text().splitlines()) == 1


def test_an_account_without_a_file_and_one_without_a_directory_stop_nothing(tmp_path: Path) -> None:
    """Their budget holds all the same; the file comes once it can be written."""
    files = BudgetFiles()
    files.write(Account("a", "run", USD))
    lost = Account("b", "run", USD, budget_file=str(tmp_path / "later" / "budget.txt"))
    files.write(lost)
    files.write(lost)
    (tmp_path / "later").mkdir()
    files.write(lost)
    assert left(lost) == "1.000"
