"""The ledger on disk: what a restart finds, and what makes it fail closed."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import (
    Assume,
    ClearQuarantine,
    Conclude,
    Freeze,
    MarkUnknown,
    Post,
    Quarantine,
    Recover,
    Refuse,
    SetGeneration,
    SetLimit,
    Unfreeze,
    Void,
)
from preflight_proxy.core.ledger.rows import USAGE_UNREAD, CallFacts, ReservationState
from preflight_proxy.core.ledger.state import Change
from preflight_proxy.core.refusals.outcomes import LEFT, NONE_YET, bad_request
from preflight_proxy.core.refusals.refusals import Code, Refusal
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
    assert again.state == state
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
    assert store.state.accounts["a"].assumed_pusd == store.state.assumed["r"].posted_pusd == 60
    store.close()


@pytest.mark.parametrize("restart", [False, True])
def test_no_id_is_used_twice(tmp_path: Path, restart: bool) -> None:
    """Not even that of a reservation that ended long ago; and the ledger goes on."""
    store = open_store(tmp_path)
    open_account(store)
    call(store, "r", 5)
    if restart:
        store.close()
        store = open_store(tmp_path)
    with pytest.raises(ValueError, match="used before"):
        store.commit(reserve("r"))
    assert not store.poisoned
    assert store.state.accounts["a"].pending_pusd == 0
    call(store, "s", 5)
    assert store.state.accounts["a"].posted_pusd == 10
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
    assert store.reservation("r") is None
    store.close()


def test_a_crash_loses_only_what_became_of_the_calls_since_the_accounts_last_change(tmp_path: Path) -> None:
    """As it does of the count of refusals."""
    (tmp_path / "first").mkdir()
    store, cause = open_store(tmp_path / "first"), bad_request("no")
    open_account(store)
    store.commit(Refuse("a", cause))
    store.commit(Conclude("a"))
    call(store, "r", 1)
    durable = store.state.accounts["a"].outcomes
    store.commit(Conclude("a", LEFT))
    shutil.copytree(tmp_path / "first", tmp_path / "crashed")
    kept = store.state.accounts["a"].outcomes
    store.close()
    for folder, expected in (("crashed", durable), ("first", kept)):
        again = open_store(tmp_path / folder)
        assert again.state.accounts["a"].outcomes == expected
        again.close()
    assert (durable, kept) == (
        NONE_YET.with_unserved(cause).with_served(),
        NONE_YET.with_unserved(cause).with_served().with_unserved(LEFT),
    )


@pytest.mark.parametrize("followed_by_a_change", [False, True])
def test_counted_refusals_are_written_with_the_next_change_or_at_the_end(
    tmp_path: Path, followed_by_a_change: bool
) -> None:
    """A client in a loop of refusals costs no transactions."""
    store = open_store(tmp_path)
    open_account(store)
    for _ in range(3):
        assert isinstance(store.commit(Refuse("a")), Change)
    if followed_by_a_change:
        call(store, "r", 1)
    store.close()
    store.close()
    store = open_store(tmp_path)
    assert store.state.accounts["a"].refused == 3
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
    ended = store.reservation("r")
    assert ended is not None
    assert (ended.state, ended.posted_pusd, ended.tags, ended.streamed) == (
        ReservationState.POSTED,
        5,
        ("t", "u"),
        True,
    )
    assert store.generation("a", "gen-1") == ended
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
    store.commit(Refuse("a"))
    assert len(list(store.entries())) == 1
    with pytest.raises(LedgerError, match="cannot be read"):
        store.reservation("r")
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
        ("UPDATE accounts SET posted_pusd = posted_pusd - 1", "posted is not the sum"),
        ("UPDATE accounts SET pending_pusd = 0", "pending is not the sum"),
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
