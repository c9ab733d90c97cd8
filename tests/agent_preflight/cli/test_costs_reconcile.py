"""`agent-preflight costs --reconcile`: the table, its JSON, and what the exit code says."""

import json
from pathlib import Path

import pytest

from preflight_proxy.core.ledger.commands import Post
from tests.support.cli_commands import invoke
from tests.support.ledger_on_disk import call, open_account, open_store, reserve


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one account that spent a cent of a shared key, and no management key in sight."""
    for name in ("OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    store = open_store(tmp_path)
    open_account(store, "a", 10**12)
    call(store, "r", 10**10)
    store.close()
    return tmp_path


def test_books_without_drift_exit_with_0(data: Path) -> None:
    ended = invoke("costs", "--data", str(data), "--reconcile")
    assert ended.exit_code == 0, ended.output
    assert "TOTAL" in ended.output
    assert "$0.01" in ended.output


def test_an_overrun_exits_with_4_and_names_the_endpoint(data: Path) -> None:
    store = open_store(data)
    store.commit(reserve("s", 100))
    store.commit(Post("s", 101))
    store.close()
    ended = invoke("costs", "--data", str(data), "--reconcile", "--json")
    assert ended.exit_code == 4, ended.output
    found = json.loads(ended.output)
    assert found["total"]["overrun_usd"] == "0.000000000001"
    assert {each["model"] for each in found["quarantined"]} == {"m/x"}


@pytest.mark.wire
def test_an_openrouter_that_cannot_be_reached_is_told_with_its_address_and_what_to_do(data: Path) -> None:
    url = "http://127.0.0.1:1/v1"
    ended = invoke("costs", "--data", str(data), "--reconcile", env={"OR_ADMIN_KEY": "key", "OPENROUTER_BASE_URL": url})
    assert ended.exit_code == 1
    said = f"the list of keys could not be read: Cannot reach OpenRouter at {url}: connection refused. "
    assert said + "Check OPENROUTER_BASE_URL and your network" in ended.stderr
    assert "Nothing was spent" not in ended.output
