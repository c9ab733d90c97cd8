"""The runner's side of the control socket: what it sends, what it reads."""

from pathlib import Path

import pytest

from agent_preflight.control_client import Account, Balance, ControlClient, ControlUnreachableError, LedgerEvent
from preflight_proxy.core.secret import Secret


def test_amounts_are_read_to_the_pico_dollar() -> None:
    balance = Balance.from_json(
        {"id": "a", "limit_usd": "0.25", "posted_usd": "0.000000000001", "calls": 3, "spent": True}
    )
    assert (balance.limit_pusd, balance.posted_pusd, balance.calls, balance.spent) == (250_000_000_000, 1, 3, True)
    assert (balance.gate, balance.frozen, balance.pending_pusd) == (None, None, 0)


def test_what_a_newer_proxy_says_besides_is_no_harm() -> None:
    assert Balance.from_json({"id": "a", "new_field": 1}).id == "a"


def test_an_account_goes_out_with_exact_text_and_shows_no_secret() -> None:
    account = Account("a", "run", 1, Secret("pf-token"), Secret("sk-or-key"), Path("/b/budget.txt"), "odd mode")
    document = account.document()
    assert (document["limit_usd"], document["token"], document["key"]) == ("0.000000000001", "pf-token", "sk-or-key")
    assert document["budget_mode"] == "simple"
    assert "sk-or-key" not in repr(account)
    assert "pf-token" not in repr(account)


def test_an_event_carries_its_balance_and_its_own_facts() -> None:
    event = LedgerEvent.from_json(
        {"seq": 7, "type": "settled", "account": "a", "balance": {"id": "a", "calls": 1}, "cost_usd": "0.1"}
    )
    assert event.balance is not None
    assert (event.seq, event.balance.calls, event.facts) == (7, 1, {"cost_usd": "0.1"})


def test_a_heartbeat_is_an_event_without_a_place() -> None:
    assert LedgerEvent.from_json({"type": "heartbeat"}).seq == 0


@pytest.mark.wire
async def test_nobody_on_the_socket_is_an_error_that_can_be_told_from_a_refusal(tmp_path: Path) -> None:
    client = ControlClient(tmp_path / "none.sock")
    try:
        with pytest.raises(ControlUnreachableError):
            await client.balance("a")
        with pytest.raises(ControlUnreachableError):
            async for _ in client.follow("run", 0):
                pass
    finally:
        await client.close()
