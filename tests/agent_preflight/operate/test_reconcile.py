"""A run's ledgers against OpenRouter's figures: from a summary, or read live."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_preflight import provision
from agent_preflight.base.usd import pusd
from agent_preflight.operate.reconcile import reconcile_folder
from openrouter_sim import Simulator
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.commands import Quarantine
from preflight_proxy.ledger.store import Store
from tests.support.fake_clock import FakeClock
from tests.support.ledger_on_disk import call, open_account, open_store

CENT = 10**10


def ledger(folder: Path, *, key_hash: str = "k", key_is_own: bool = True, base_pusd: int = 0) -> Store:
    """A ledger with one account and one call of a cent."""
    store = open_store(folder)
    key = {"key_hash": key_hash, "key_is_own": key_is_own, "key_usage_pusd": base_pusd}
    open_account(store, "a", 10**12, **key)
    call(store, "r", CENT)
    return store


def summary(folder: Path, usage_usd: str | None, later_s: float = 3600.0) -> None:
    """What the end of trial `a` has written, so long after its call."""
    (folder / "a").mkdir()
    ended_at = datetime.fromtimestamp(FakeClock().epoch_s() + later_s, UTC)
    document = {"finished_at": ended_at.isoformat(), "preflight": {"key_usage_usd": usage_usd}}
    (folder / "a" / "summary.json").write_text(json.dumps(document))


@pytest.mark.parametrize(("usage_usd", "exit_code"), [("0.01", 0), ("0.0100009", 0), ("0.010002", 3), ("0.009", 3)])
def test_a_ledger_is_compared_with_the_figure_in_the_summary(tmp_path: Path, usage_usd: str, exit_code: int) -> None:
    with_ledger = ledger(tmp_path)
    summary(tmp_path, usage_usd)
    found = reconcile_folder(tmp_path)
    with_ledger.close()
    (row,) = found.rows
    assert (row.account, row.posted_pusd, row.source) == ("a", CENT, "summary")
    assert row.drift_pusd == pusd(usage_usd) - CENT
    assert found.exit_code == exit_code


def test_costs_posted_within_the_lag_may_be_missing_from_the_figure(tmp_path: Path) -> None:
    ledger(tmp_path).close()
    summary(tmp_path, "0", later_s=0.0)
    found = reconcile_folder(tmp_path)
    assert (found.rows[0].recent_pusd, found.exit_code) == (CENT, 0)
    assert "lag" in found.rows[0].verdict


def test_what_the_key_had_used_before_the_account_does_not_count(tmp_path: Path) -> None:
    ledger(tmp_path, base_pusd=5 * CENT).close()
    summary(tmp_path, "0.06")
    assert reconcile_folder(tmp_path).rows[0].drift_pusd == 0


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"finished_at": "x", "preflight": {"key_usage_usd": "1"}}'])
def test_without_a_figure_there_is_no_drift(tmp_path: Path, document: str) -> None:
    ledger(tmp_path).close()
    summary(tmp_path, None)
    (tmp_path / "a" / "summary.json").write_text(document)
    found = reconcile_folder(tmp_path)
    assert (found.rows[0].drift_pusd, found.exit_code) == (None, 0)


def test_the_usage_of_a_shared_key_is_no_evidence(tmp_path: Path) -> None:
    ledger(tmp_path, key_is_own=False).close()
    summary(tmp_path, "7")
    assert reconcile_folder(tmp_path).rows[0].upstream_pusd is None


def test_quarantined_endpoints_are_reported(tmp_path: Path) -> None:
    store = ledger(tmp_path)
    store.commit(Quarantine("m/x", "t", "billed above its reservation"))
    store.close()
    assert [each.tag for each in reconcile_folder(tmp_path).quarantined] == ["t"]


def test_no_ledger_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no ledger"):
        reconcile_folder(tmp_path)


@pytest.mark.wire
def test_a_key_that_still_exists_is_read_live_while_the_proxy_runs(tmp_path: Path, simulator: Simulator) -> None:
    """Found by its hash; nothing was spent with it, so a cent that was posted long ago is drift."""
    _, key_hash = provision.provision_key_full(simulator.admin_key, "trial", 1.0)
    store = ledger(tmp_path, key_hash=key_hash)
    found = reconcile_folder(tmp_path, simulator.admin_key)
    store.close()
    (row,) = found.rows
    assert (row.source, row.upstream_pusd, row.drift_pusd) == ("live", 0, -CENT)
    assert found.exit_code == 3


def test_an_endpoint_that_two_upstreams_have_is_listed_for_each(tmp_path: Path) -> None:
    upstreams = ("https://openrouter.ai", "http://127.0.0.1:9", "https://openrouter.ai")
    for number, upstream in enumerate(upstreams):
        (tmp_path / str(number)).mkdir()
        store = open_store(tmp_path / str(number), upstream=upstream)
        store.commit(Quarantine("m/x", "t", "dear"))
        store.close()
    quarantined = reconcile_folder(tmp_path).quarantined
    assert [endpoint.upstream for endpoint in quarantined] == ["http://127.0.0.1:9", "https://openrouter.ai"]
