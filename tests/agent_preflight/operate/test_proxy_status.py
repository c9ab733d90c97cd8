"""The state of a stand-alone proxy, from the proxy and from its ledger."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from agent_preflight.operate.proxy_status import (
    ProxyStatus,
    account_document,
    on_proxy,
    proxy_status,
    show_status,
    state_of,
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
    Balance(
        id="alice",
        limit_pusd=5 * USD,
        posted_pusd=USD // 4,
        pending_pusd=USD // 100,
        available_pusd=474 * USD // 100,
        calls=12,
    ),
    Balance(id="b" * 64, limit_pusd=1_000_000 * USD, available_pusd=1_000_000 * USD, calls=1_234_567, frozen="by hand"),
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


def test_without_a_proxy_the_ledger_shows_all_accounts_but_removed_ones(tmp_path: Path) -> None:
    ledger(tmp_path)
    found = proxy_status(tmp_path)
    assert (found.pid, found.base_url, found.uptime_s) == (None, None, None)
    assert [(each.id, state_of(each), each.calls) for each in found.accounts] == [
        ("open", "open", 0),
        ("frozen", "frozen", 0),
        ("spent", "spent", 1),
    ]
    assert account_document(found.accounts[0]) == {
        "account": "open",
        "limit_usd": "1",
        "spent_usd": "0",
        "reserved_usd": "0.25",
        "available_usd": "0.75",
        "calls": 0,
        "fits_tokens": None,
        "fits_model": None,
        "state": "open",
    }
    assert json.loads(json.dumps(found.document()))["running"] is False


def test_a_folder_without_a_ledger_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no ledger"):
        proxy_status(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_change_without_a_proxy_says_how_to_start_one(tmp_path: Path) -> None:
    async def ask(_client: object) -> None:
        raise AssertionError("there is no proxy to call")

    with pytest.raises(ConfigError, match=r"so nothing was changed\. Start it: agent-preflight proxy --data"):
        on_proxy(tmp_path, ask)


@pytest.mark.wire
def test_a_lost_answer_has_a_note_that_names_the_command_to_look_with(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dying:
        dying.bind(str(tmp_path / "control.sock"))
        dying.listen()

        async def ask(client: ControlClient) -> None:
            dying.close()
            await client.top_up("a", USD)

        with pytest.raises(ControlUnreachableError) as raised:
            on_proxy(tmp_path, ask)
    assert raised.value.__notes__ == [
        f"See what was changed before: agent-preflight proxy account list --data {tmp_path}"
    ]


@pytest.mark.wire
def test_the_socket_of_a_killed_proxy_is_not_a_running_proxy(tmp_path: Path) -> None:
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
    assert state_of(balance) == state


def test_the_table_fits_eighty_columns_and_figures_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(ProxyStatus(Path("data"), 7, "http://127.0.0.1:8788/api/v1", 3725.0, ROWS))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "running  http://127.0.0.1:8788/api/v1  process 7  up 1h02m"
    text = "".join(lines)
    assert all(figure in text for figure in ("$5.0000", "$0.2500", "$0.0100", "$4.7400", "$1000000.0000", "1,234,567"))
    assert sum(line.count("b") for line in lines[4:] if "frozen" in line or set(line.strip()) == {"b"}) == 64


@pytest.mark.parametrize(("seconds", "text"), [(5.9, "up 5.9s"), (65, "up 1m05s"), (90000, "up 1d")])
def test_the_status_says_how_long_the_proxy_has_served(
    seconds: float, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_status(ProxyStatus(Path("data"), 7, None, seconds, ()))
    said = capsys.readouterr().out
    assert said.splitlines()[0] == f"running  on a unix socket  process 7  {text}"
    assert said.endswith("no account\n")


def test_the_status_of_a_stopped_proxy_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(ProxyStatus(Path("data\x1b[31m"), None, None, None, ROWS[:1]))
    said = capsys.readouterr().out
    assert said.startswith("not running  data\n")
    assert "alice" in said
