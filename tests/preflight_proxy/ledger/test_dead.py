"""A ledger that lost its proxy is settled by whoever holds it, and by nobody while a proxy has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerInUseError
from preflight_proxy.core.evidence.aftermath import EvidenceTimes
from preflight_proxy.core.ledger.commands import MarkUnknown, Post
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.ledger.dead import DeadLedger
from preflight_proxy.ledger.file import boot_id
from preflight_proxy.ledger.reader import read_snapshot
from tests.support.fake_clock import FakeClock
from tests.support.ledger_on_disk import call, open_account, open_store, reserve

CLOCKS = EvidenceTimes(call_s_max=100.0, lag_s=10.0)
OWN = {"key_hash": "k", "key_is_own": True, "key_usage_pusd": 0}


def leave_calls_pending(folder: Path) -> None:
    """Two accounts: one with a call whose end was seen, one with a call that went on when the proxy died."""
    store = open_store(folder, boot_id())
    open_account(store, "seen", 10**6, **OWN)
    open_account(store, "unseen", 10**6, **{**OWN, "key_hash": "l"})
    call(store, "s1", 20_000, "seen")
    store.commit(reserve("s2", 30_000, "seen"))
    store.commit(MarkUnknown("s2", CallFacts(generation_id="gen-1")))
    store.commit(reserve("u1", 40_000, "unseen"))
    store.close()


def test_the_end_that_was_seen_is_known_first(tmp_path: Path) -> None:
    leave_calls_pending(tmp_path)
    began_s = FakeClock().epoch_s()
    with DeadLedger(tmp_path, CLOCKS, FakeClock()) as ledger:
        assert [(each.account.id, each.known_at_s - began_s) for each in ledger.unsettled()] == [
            ("seen", 10.0),
            ("unseen", 110.0),
        ]


def test_what_is_settled_is_in_the_ledger_and_in_the_cost_log(tmp_path: Path) -> None:
    leave_calls_pending(tmp_path)
    (tmp_path / "costs.jsonl").write_text("torn")
    with DeadLedger(tmp_path, CLOCKS, FakeClock()) as ledger:
        seen, unseen = ledger.unsettled()
        ledger.settle(seen, 45_000)
        assert [each.account.id for each in ledger.unsettled()] == ["unseen"]
        ledger.settle(unseen, None)
        assert ledger.unsettled() == []
    found = {
        each.id: (each.posted_pusd, each.pending_pusd) for each in read_snapshot(tmp_path / "ledger.sqlite3").accounts
    }
    assert found == {"seen": (45_000, 0), "unseen": (40_000, 0)}
    lines = [json.loads(line) for line in (tmp_path / "costs.jsonl").read_text().splitlines()]
    assert [(line["account"], line["outcome"]) for line in lines] == [
        ("seen", "posted"),
        ("seen", "assumed"),
        ("unseen", "assumed"),
    ]


def test_after_a_restart_of_the_machine_every_account_is_unsettled(tmp_path: Path) -> None:
    store = open_store(tmp_path, boot_id="another boot")
    open_account(store, "a", 10**6, **OWN)
    store.commit(reserve("r", 30_000))
    store.commit(Post("r", 20_000))
    store.close()
    with DeadLedger(tmp_path, CLOCKS, FakeClock()) as ledger:
        (unsettled,) = ledger.unsettled()
        assert unsettled.known_at_s == FakeClock().epoch_s() + 110.0, (
            "a lost call may have begun right after the last entry"
        )
        ledger.settle(unsettled, 25_000)
    (account,) = read_snapshot(tmp_path / "ledger.sqlite3").accounts
    assert (account.posted_pusd, account.recovered_pusd, account.usage_unread) == (25_000, 5_000, False)


def test_a_ledger_that_a_proxy_has_is_left_to_it(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(LedgerInUseError):
        DeadLedger(tmp_path, CLOCKS, FakeClock())
    store.close()
