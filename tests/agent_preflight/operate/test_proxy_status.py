"""The state of a stand-alone proxy, from the proxy and from its ledger."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from agent_preflight.operate.proxy_status import (
    AccountStatus,
    ProxyStatus,
    of_balance,
    on_proxy,
    proxy_status,
    show_status,
)
from agent_preflight.sidecar.control_client import ControlClient, ControlUnreachableError
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.commands import Freeze, OpenAccount, Post, Reserve
from preflight_proxy.core.ledger.rows import CLOSED
from preflight_proxy.ledger.store import Store
from tests.support.cases import each

USD = 10**12
ROWS = (
    AccountStatus("alice", 5 * USD, USD // 4, USD // 100, 474 * USD // 100, 12, "open"),
    AccountStatus("b" * 64, 1_000_000 * USD, 0, 0, 1_000_000 * USD, 1_234_567, "frozen"),
)


def ledger(data: Path) -> None:
    """A ledger at rest: open, frozen, spent, removed, and an account of a run."""
    store = Store(data / "ledger.sqlite3", clock=SystemClock())
    for name, run in (("open", ""), ("frozen", ""), ("spent", ""), ("gone", ""), ("trial", "run")):
        store.commit(OpenAccount(name, run, USD, f"token of {name}"))
    store.commit(Freeze("frozen", "by hand"))
    store.commit(Freeze("gone", CLOSED))
    store.commit(Reserve("r", "spent", USD, "chat", "m/x", ("t",), 16))
    store.commit(Post("r", USD))
    store.commit(Reserve("r2", "open", USD // 4, "chat", "m/x", ("t",), 16))
    store.close()


def test_without_a_proxy_the_ledger_tells_all_but_removed_accounts(tmp_path: Path) -> None:
    ledger(tmp_path)
    found = proxy_status(tmp_path)
    assert (found.pid, found.base_url, found.uptime_s) == (None, None, None)
    assert [(each.name, each.state, each.calls) for each in found.accounts] == [
        ("open", "open", 0),
        ("frozen", "frozen", 0),
        ("spent", "spent", 1),
    ]
    assert found.accounts[0].document() == {
        "account": "open",
        "limit_usd": "1",
        "spent_usd": "0",
        "reserved_usd": "0.25",
        "available_usd": "0.75",
        "calls": 0,
        "state": "open",
    }
    assert json.loads(json.dumps(found.document()))["running"] is False


def test_a_folder_that_no_proxy_ever_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no ledger"):
        proxy_status(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_change_without_a_proxy_says_how_to_start_one(tmp_path: Path) -> None:
    async def ask(_client: object) -> None:
        raise AssertionError("nobody is there to be asked")

    with pytest.raises(ConfigError, match=r"so nothing was changed\. Start it: agent-preflight proxy --data"):
        on_proxy(tmp_path, ask)


@pytest.mark.wire
def test_a_proxy_that_dies_before_it_has_answered_leaves_a_hint_where_to_look(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dying:
        dying.bind(str(tmp_path / "control.sock"))
        dying.listen()

        async def ask(client: ControlClient) -> None:
            dying.close()
            await client.top_up("a", USD)

        with pytest.raises(ControlUnreachableError) as raised:
            on_proxy(tmp_path, ask)
    assert raised.value.__notes__ == [
        f"What was changed before is told by: agent-preflight proxy account list --data {tmp_path}"
    ]


@pytest.mark.wire
def test_a_socket_that_a_killed_proxy_left_is_no_proxy(tmp_path: Path) -> None:
    ledger(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(tmp_path / "control.sock"))
    assert proxy_status(tmp_path).pid is None


@each(
    "balance, state",
    [
        (Balance(), "open"),
        (Balance(spent=True), "spent"),
        (Balance(frozen="by hand"), "frozen"),
        (Balance(frozen="by hand", spent=True), "frozen"),
    ],
)
def test_a_freeze_is_reported_before_a_spent_budget(balance: Balance, state: str) -> None:
    assert of_balance(balance).state == state


def test_the_table_fits_eighty_columns_and_figures_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(ProxyStatus(Path("data"), 7, "http://127.0.0.1:8788/api/v1", 3725.0, ROWS))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "running  http://127.0.0.1:8788/api/v1  process 7  up 1h02m"
    text = "".join(lines)
    assert all(figure in text for figure in ("$5.0000", "$0.2500", "$0.0100", "$4.7400", "$1000000.0000", "1,234,567"))
    assert sum(line.count("b") for line in lines[4:] if "frozen" in line or set(line.strip()) == {"b"}) == 64


@pytest.mark.parametrize(("seconds", "text"), [(5.9, "up 5.9s"), (65, "up 1m05s"), (90000, "up 1d")])
def test_how_long_it_has_served_is_said(seconds: float, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_status(ProxyStatus(Path("data"), 7, None, seconds, ()))
    said = capsys.readouterr().out
    assert said.splitlines()[0] == f"running  on a unix socket  process 7  {text}"
    assert said.endswith("no account\n")


def test_a_proxy_that_does_not_run_is_said_not_to(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(ProxyStatus(Path("data\x1b[31m"), None, None, None, ROWS[:1]))
    said = capsys.readouterr().out
    assert said.startswith("not running  data\n")
    assert "alice" in said
