"""The ledger on disk: what a restart finds, and what makes it fail closed."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.account_changes import with_ended, with_refused
from preflight_proxy.core.ledger.commands import (
    Assume,
    ClearQuarantine,
    Freeze,
    MarkUnknown,
    Post,
    Quarantine,
    Recover,
    SetGeneration,
    SetLimit,
    Unfreeze,
    Void,
)
from preflight_proxy.core.ledger.projection import Marks, check_sums, marks_of
from preflight_proxy.core.ledger.rows import USAGE_UNREAD, CallFacts
from preflight_proxy.core.refusals.outcomes import LEFT, bad_request
from preflight_proxy.core.refusals.refusals import Code, Refusal
from preflight_proxy.ledger import file as ledger_file
from preflight_proxy.ledger import tables
from preflight_proxy.ledger.store import GenerationTakenError
from tests.support.ledger_cases import rows_of
from tests.support.ledger_on_disk import call, open_account, open_store, reserve


def test_a_restart_finds_the_same_book(tmp_path: Path) -> None:
    """Every kind of change, every field."""
    store = open_store(tmp_path)
    open_account(store, models=("m/x",), key_hash="k", key_is_own=True, key_usage_pusd=5, budget_file="b.txt")
    open_account(store, "b")
    store.commit(reserve("r"))
    store.commit(SetGeneration("r", "gen-1", "t"))
    store.commit(MarkUnknown("r"))
    store.commit(reserve("s"))
    store.commit(Assume("s", 60))
    store.commit(reserve("v"))
    store.commit(Void("v", "refused"))
    call(store, "p", 70, "b")
    store.commit(reserve("o", 10, "b"))
    store.commit(Post("o", 12, CallFacts(tag="u")))
    store.commit(Recover("b", 3))
    store.commit(Freeze("b", "by hand"))
    store.commit(Quarantine("m/y", "t", "by hand"))
    store.commit(ClearQuarantine("m/y", "t"))
    state, entries = store.state, list(store.entries())
    store.close()
    again = open_store(tmp_path)
    assert rows_of(again.state) == rows_of(state)
    assert list(again.entries()) == entries
    assert [entry.entry_id for entry in entries] == [1, 2, 3, 4, 5]
    assert not again.boot_changed
    again.close()


def test_an_assumed_cost_is_known_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store)
    store.commit(reserve("r"))
    store.commit(Assume("r", 60))
    store.close()
    store = open_store(tmp_path)
    assert store.state.accounts["a"].assumed_pusd == 60
    store.close()


@pytest.mark.parametrize("restart", [False, True])
def test_an_id_that_is_pending_is_not_used_again(tmp_path: Path, restart: bool) -> None:
    """And the ledger goes on."""
    store = open_store(tmp_path)
    open_account(store)
    store.commit(reserve("r"))
    if restart:
        store.close()
        store = open_store(tmp_path)
    with pytest.raises(ValueError, match="used before"):
        store.commit(reserve("r"))
    assert not store.poisoned
    assert store.state.accounts["a"].pending_pusd == 100
    call(store, "s", 5)
    assert store.state.accounts["a"].posted_pusd == 5
    store.close()


def test_an_id_of_upstream_is_one_calls_whoever_has_it_and_however_long_ago(tmp_path: Path) -> None:
    """M16: the answer that bears it is another call's. Nothing changes, the ledger goes on."""
    store = open_store(tmp_path)
    open_account(store)
    open_account(store, "b")
    for name in ("r", "s"):
        store.commit(reserve(name))
        store.commit(SetGeneration(name, f"gen-{name}"))
    store.commit(Post("r", 5))
    store.close()
    store = open_store(tmp_path)
    store.commit(reserve("t", 10, "b"))
    before = store.state.reservations["t"]
    for taken in ("gen-r", "gen-s"):
        assert store.is_anothers(taken, "t")
        with pytest.raises(GenerationTakenError):
            store.commit(SetGeneration("t", taken))
        with pytest.raises(GenerationTakenError):
            store.commit(Post("t", 5, CallFacts(generation_id=taken)))
    assert (store.state.reservations["t"], store.poisoned) == (before, False)
    store.commit(SetGeneration("t", "gen-t"))
    assert not store.is_anothers("gen-t", "t")
    assert not store.is_anothers("gen-u", "t")
    store.close()


def test_a_refusal_changes_nothing_on_disk(tmp_path: Path) -> None:
    """It is an answer, not an event of the ledger."""
    store = open_store(tmp_path)
    open_account(store, limit_pusd=99)
    refused = store.commit(reserve("r", 100))
    assert isinstance(refused, Refusal)
    assert refused.code is Code.DOES_NOT_FIT
    store.close()
    store = open_store(tmp_path)
    assert store.pending() == []
    store.close()


def test_a_crash_loses_only_how_the_calls_since_the_last_projection_ended(tmp_path: Path) -> None:
    """As it does of the count of refusals. A client in a loop of refusals costs no transactions."""
    (tmp_path / "first").mkdir()
    store, cause = open_store(tmp_path / "first"), bad_request("no")
    open_account(store)
    for _ in range(3):
        store.note(with_refused(store.state.accounts["a"], cause))
    store.note(with_ended(store.state.accounts["a"], None, overtaken=False))
    store.close()
    store.close()
    store = open_store(tmp_path / "first")
    durable = store.state.accounts["a"]
    store.note(with_refused(durable, cause))
    store.note(with_ended(store.state.accounts["a"], LEFT, overtaken=False))
    shutil.copytree(tmp_path / "first", tmp_path / "crashed")
    kept = store.state.accounts["a"]
    store.close()
    for folder, expected in (("crashed", durable), ("first", kept)):
        again = open_store(tmp_path / folder)
        assert again.state.accounts["a"] == expected
        again.close()
    assert (durable.refused, durable.outcomes.served, durable.outcomes.unserved) == (3, 1, 3)
    assert (kept.refused, kept.outcomes.served, kept.outcomes.unserved) == (4, 1, 5)


async def test_a_running_store_writes_its_projection_so_that_a_start_reads_few_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the marks of one moment, from the thread."""
    monkeypatch.setattr(ledger_file, "CHECKPOINT_S", 0.01)
    (tmp_path / "run").mkdir()
    store = open_store(tmp_path / "run")
    watching = asyncio.ensure_future(store.watch(every_s=0.001))
    open_account(store)
    call(store, "r", 5)
    store.commit(reserve("s"))
    store.note(with_ended(store.state.accounts["a"], None, overtaken=False))
    with closing(sqlite3.connect(tmp_path / "run" / "ledger.sqlite3")) as reader:
        async with asyncio.timeout(60):
            while tables.read_marks(reader) != Marks(1, 2, (2,)):
                await asyncio.sleep(0.001)
    watching.cancel()
    call(store, "t", 6)
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    state = store.state
    store.close()
    again = open_store(tmp_path / "killed")
    assert rows_of(again.state) == rows_of(state)
    assert again.state.accounts["a"].outcomes.served == 1
    again.close()


def test_a_start_reads_no_entry_that_the_projection_includes(tmp_path: Path) -> None:
    """So its time does not depend on the number of calls: an entry that no start could read does no harm."""
    store = open_store(tmp_path)
    open_account(store)
    for number in range(4):
        call(store, f"r{number}", 5)
    store.complete_costs()
    store.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as other, other:
        other.execute("DROP TRIGGER entries_update")
        other.execute("UPDATE entries SET kind = 'damaged', line = 'damaged' WHERE entry_id = 2")
    store = open_store(tmp_path)
    assert store.state.accounts["a"].posted_pusd == 20
    call(store, "later", 1)
    store.close()


def test_pending_and_ended_reservations_are_found(tmp_path: Path) -> None:
    """By id, and by upstream's id for those of the account alone."""
    store = open_store(tmp_path)
    open_account(store)
    open_account(store, "b")
    store.commit(reserve("r"))
    store.commit(SetGeneration("r", "gen-1"))
    store.commit(Post("r", 5))
    store.commit(reserve("s", 7, "b"))
    ended = store.generation("a", "gen-1")
    assert ended is not None
    assert (ended.id, ended.tags, ended.streamed, ended.generation_id) == ("r", ("t", "u"), True, "gen-1")
    assert store.generation("b", "gen-1") is None
    assert store.generation("a", "gen-2") is None
    assert [held.id for held in store.pending()] == [held.id for held in store.pending("b")] == ["s"]
    assert store.pending("a") == []
    store.close()


def test_after_a_restart_of_the_machine_accounts_wait_for_their_keys_usage(tmp_path: Path) -> None:
    """M21: the last commits may be lost. A person's freeze stays, and does not lift this one."""
    store = open_store(tmp_path)
    open_account(store)
    store.close()
    store = open_store(tmp_path, "boot 2")
    assert store.boot_changed
    assert store.state.accounts["a"].frozen == USAGE_UNREAD
    refused = store.commit(reserve("r"))
    assert isinstance(refused, Refusal)
    assert refused.code is Code.FROZEN
    store.commit(Unfreeze("a"))
    store.close()
    store = open_store(tmp_path, "boot 2")
    assert not store.boot_changed
    assert store.state.accounts["a"].frozen == USAGE_UNREAD
    store.commit(Recover("a", 30))
    assert store.state.accounts["a"].frozen is None
    store.close()
    store = open_store(tmp_path, "boot 2")
    assert (store.state.accounts["a"].frozen, store.state.accounts["a"].posted_pusd) == (None, 30)
    store.close()


def test_what_was_made_to_survive_a_loss_of_power_needs_no_reading(tmp_path: Path) -> None:
    """Durability "power" of the life before decides, not that of this one."""
    store = open_store(tmp_path, durability="power")
    open_account(store)
    store.close()
    store = open_store(tmp_path, "boot 2")
    assert not store.boot_changed
    assert store.state.accounts["a"].frozen is None
    store.close()


def test_an_older_copy_of_the_ledger_is_not_opened_beside_a_newer_cost_log(tmp_path: Path) -> None:
    """What its missing entries cost would be spent again: a person decides."""
    store = open_store(tmp_path, durability="power")
    open_account(store)
    call(store, "r", 5)
    (tmp_path / "costs.jsonl").write_text('{"entry_id": 1}\n{"entry_id": 2}\n')
    store.close()
    for boot in ("boot 1", "boot 2"):
        with pytest.raises(
            LedgerError, match=r"up to 2, the ledger only up to 1.*newest copy.*or move costs\.jsonl away"
        ):
            open_store(tmp_path, boot, durability="power")
    (tmp_path / "costs.jsonl").rename(tmp_path / "away")
    open_store(tmp_path).close()


def test_entries_that_went_with_the_machines_power_give_their_ids_to_no_others(tmp_path: Path) -> None:
    """Their lines stay in costs.jsonl; what they cost is read from the key before its account opens. Twice over."""
    found: list[int] = []
    for life, lost in enumerate((3, 0, 2, 0, 0), start=1):
        store = open_store(tmp_path, f"boot {min(life, 4)}")
        if life == 1:
            open_account(store)
        elif store.boot_changed:
            store.commit(Recover("a", store.state.accounts["a"].posted_pusd))
        call(store, f"r{life}", 5)
        found = [entry.entry_id for entry in store.entries()]
        store.close()
        (tmp_path / "costs.jsonl").write_text(f'{{"entry_id": {found[-1] + lost}}}\n')
    assert found == [1, 5, 6, 7, 8, 11, 12, 13]  # 2 to 4, 9 and 10 were lost


def test_a_system_that_tells_no_boot_counts_as_restarted(tmp_path: Path) -> None:
    """But a new ledger has nothing to lose."""
    store = open_store(tmp_path, "")
    assert not store.boot_changed
    store.close()
    store = open_store(tmp_path, "")
    assert store.boot_changed
    store.close()


def test_a_second_proxy_is_refused_and_may_follow(tmp_path: Path) -> None:
    """One writer, always."""
    store = open_store(tmp_path)
    with pytest.raises(LedgerError, match="in use by another proxy"):
        open_store(tmp_path)
    store.close()
    open_store(tmp_path).close()


def test_a_failed_commit_closes_the_ledger_until_a_restart(tmp_path: Path) -> None:
    """Fail closed: after one error nothing is posted, refusals are still counted, and reading goes on."""
    store = open_store(tmp_path)
    open_account(store)
    call(store, "r", 5)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as other:
        other.execute("ALTER TABLE reservations RENAME TO gone")
    before = store.state.accounts["a"]
    with pytest.raises(LedgerError, match="cannot be written"):
        store.commit(reserve("s"))
    assert store.poisoned
    assert store.state.accounts["a"] == before
    with pytest.raises(LedgerError, match="until the proxy is started again"):
        store.commit(SetLimit("a", 1))
    store.note(with_refused(before, bad_request("no")))
    assert store.state.accounts["a"].refused == before.refused + 1
    assert len(list(store.entries())) == 1
    with pytest.raises(LedgerError, match="cannot be read"):
        store.generation("a", "gen-1")
    store.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as other:
        other.execute("ALTER TABLE gone RENAME TO reservations")
    store = open_store(tmp_path)
    call(store, "s", 5)
    assert store.state.accounts["a"].posted_pusd == 10
    store.close()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("UPDATE projection SET document = json_set(document, '$.pending_pusd', 0)", "pending is not the sum"),
        ("UPDATE projection SET document = json_set(document, '$.pending', json('[]'))", "pending is not the sum"),
        (
            "UPDATE projection SET document = json_set(document, '$.pending', json('[2, 9]'))",
            "pending reservations are missing",
        ),
        ("UPDATE projection SET document = json_set(document, '$.entry_id', 0)", "no reservation r is pending"),
        ("INSERT INTO entries VALUES (9, NULL, 'a', 'posted', 0, 1.0, '{}')", "entries are missing"),
        ("DROP TABLE entries", "no such table"),
        ("UPDATE meta SET value = '99' WHERE name = 'schema_version'", "use a newer one"),
    ],
)
def test_a_ledger_that_does_not_balance_is_not_opened(tmp_path: Path, damage: str, complaint: str) -> None:
    """Nothing could be promised on it; and the lock is let go again."""
    store = open_store(tmp_path)
    open_account(store)
    call(store, "r", 5)
    store.commit(reserve("s"))
    store.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as other:
        other.execute(damage)
        other.commit()
    for _ in range(2):
        with pytest.raises(LedgerError, match=complaint):
            open_store(tmp_path)


def test_an_endpoint_goes_out_of_use_and_comes_back_for_one_upstream(tmp_path: Path) -> None:
    """One ledger may have been used before several."""
    for upstream, reason in (("https://a", "dear"), ("https://b", "byok")):
        store = open_store(tmp_path, upstream=upstream)
        store.commit(Quarantine("m/x", "t", reason))
        store.close()
    store = open_store(tmp_path, upstream="https://b")
    store.commit(ClearQuarantine("m/x", "t"))
    store.close()
    for upstream, reasons in (("https://a", ["dear"]), ("https://b", []), ("https://openrouter.ai", [])):
        store = open_store(tmp_path, upstream=upstream)
        assert [row.reason for row in store.state.quarantined.values()] == reasons
        store.close()


def test_a_log_that_ends_anywhere_leaves_a_ledger_that_balances(tmp_path: Path) -> None:
    """As after a loss of power: rows and projection are those of one moment, wherever the log was cut."""
    (tmp_path / "run").mkdir()
    store = open_store(tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "ledger.sqlite3", isolation_level=None)) as thread:
        open_account(store)
        for number in range(8):
            call(store, f"r{number}", 5)
            store.commit(reserve(f"s{number}", 7))
            projection: tables.Projection = {
                tables.MARKS: marks_of(store.state, (0, 0)),
                "a": store.state.accounts["a"],
            }
            thread.execute(tables.PUT_PROJECTION, (tables.projection_text(projection),))
            call(store, f"t{number}", 6)
        shutil.copytree(tmp_path / "run", tmp_path / "whole")
    store.close()
    size_bytes = (tmp_path / "whole" / "ledger.sqlite3-wal").stat().st_size
    posted = set[int]()
    for cut_bytes in range(0, size_bytes + 2048, 2048):
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "cut")
        (tmp_path / "cut" / "ledger.sqlite3-shm").unlink()
        os.truncate(tmp_path / "cut" / "ledger.sqlite3-wal", min(cut_bytes, size_bytes))
        again = open_store(tmp_path / "cut")
        check_sums(again.state.accounts, again.entries())
        posted |= {account.posted_pusd for account in again.state.accounts.values()}
        again.close()
    assert {5, 11, 16, 88} <= posted


def test_an_overrun_is_synced_and_what_follows_it_is_not(tmp_path: Path) -> None:
    """M14: the endpoint stays disabled after a loss of power too."""
    store = open_store(tmp_path)
    open_account(store)
    store.commit(reserve("r", 10))
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    store.commit(Post("r", 12))
    levels = [statement for statement in statements if "synchronous" in statement or statement == "COMMIT"]
    assert levels == ["PRAGMA synchronous = FULL", "COMMIT", "PRAGMA synchronous = NORMAL"]
    store.close()


def test_after_a_new_boot_the_whole_cost_log_is_read(tmp_path: Path) -> None:
    """The machine may have lost its beginning, while its length stayed."""
    store = open_store(tmp_path)
    open_account(store)
    call(store, "r", 5)
    store.complete_costs()
    store.close()
    costs = tmp_path / "costs.jsonl"
    line = costs.read_text()
    damaged = "x" * (len(line) - 1) + "\n"
    costs.write_text(damaged)
    for boot, after in (("boot 1", damaged), ("boot 2", damaged + line)):
        open_store(tmp_path, boot).close()
        assert costs.read_text() == after
