"""The accounts as a process has them."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.secret import Secret
from preflight_proxy.ledger import sessions as ledger_sessions
from preflight_proxy.ledger.sessions import Sessions
from tests.support.fake_clock import FakeClock

ACCOUNT = Account("a", "run", 1, token_hash="hash")


def test_an_account_is_reached_by_its_newest_token_alone() -> None:
    sessions = Sessions([ACCOUNT, replace(ACCOUNT, id="b", token_hash="of b")], FakeClock())
    sessions.note_token(replace(ACCOUNT, token_hash="new"))
    assert [sessions.by_token(token) for token in ("new", "of b", "hash", "")] == ["a", "b", None, None]


async def test_a_key_is_waited_for_and_the_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_sessions, "KEY_LOOK_S", 0.001)
    clock = FakeClock()
    sessions = Sessions([], clock)
    assert not await sessions.opened("a", clock.monotonic_s() - 1)
    waiting = asyncio.ensure_future(sessions.opened("a", clock.monotonic_s() + 1))
    await asyncio.sleep(0)
    sessions.state("a").key = Secret("sk-or-v1-x")
    assert await waiting
    assert await sessions.opened("a", clock.monotonic_s() - 1)


class Stream:
    """A running call."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def cut(self, reason: str) -> None:
        self.reasons.append(reason)


async def test_all_running_streams_end_whatever_their_account() -> None:
    sessions, streams = Sessions([], FakeClock()), [Stream(), Stream()]
    for account_id, stream in zip("ab", streams, strict=True):
        sessions.state(account_id).running.add(stream)
    sessions.cut("stopped")
    assert [stream.reasons for stream in streams] == [["stopped"], ["stopped"]]
