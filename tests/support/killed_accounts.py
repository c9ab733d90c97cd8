"""Changes of a stand-alone proxy's accounts that are killed at each state of the disk in turn; run by a test.

Usage: killed_accounts.py FOLDER. After each kill the same folder must start, with the accounts as before the change or after it,
each with a token that is its own. Prints how many states of the disk there were.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from preflight_proxy.app import running
from preflight_proxy.base import atomic_file, log
from preflight_proxy.base.config import Config
from preflight_proxy.calls.routes import hash_token
from preflight_proxy.control import standalone_accounts
from preflight_proxy.control.standalone_accounts import StandaloneAccounts, read_tokens
from preflight_proxy.core.money import limit_pusd
from preflight_proxy.core.secret import Secret

OURS = {standalone_accounts.__file__, atomic_file.__file__}
COMMITS = "_transact"
"""Of the store. With `OURS` it decides the order in which the two files change."""

State = Mapping[str, tuple[int, bool]]
"""Accounts: limit and whether frozen."""

ONE = 10**12
BEFORE: State = {"a": (ONE, False), "b": (2 * ONE, True)}


async def start(
    data: Path, limits_usd: Mapping[str, str], change: Callable[[StandaloneAccounts], Awaitable[None]]
) -> State:
    """Start as a stand-alone proxy does, without listening; apply a change; return the accounts."""
    async with running(Config(data=str(data), upstream="http://127.0.0.1:9/api/v1")) as proxy:
        named = StandaloneAccounts(proxy.ledger, proxy.accounts, data, Secret("sk-or-v1-key"))
        await named.open_all({name: limit_pusd(limit) for name, limit in limits_usd.items()})
        await change(named)
        tokens = [named.token(name) for name in named.names()]
        assert len(set(tokens)) == len(tokens)
        for name, token in zip(named.names(), tokens, strict=True):
            assert proxy.ledger.sessions.by_token(hash_token(token)) == name
            assert proxy.ledger.account_state(name).key is not None
        assert read_tokens(data) == dict(zip(named.names(), tokens, strict=True))
        found = {name: proxy.ledger.account(name) for name in named.names()}
        return {name: (account.limit_pusd, account.frozen is not None) for name, account in found.items()}


async def nothing(_named: StandaloneAccounts) -> None:
    """Change nothing."""


async def make(named: StandaloneAccounts) -> None:
    """Make the accounts that exist before each change; `gone` was removed."""
    for name, limit_usd in (("a", "1"), ("b", "2"), ("gone", "4")):
        await named.add(name, limit_pusd(limit_usd))
    await named._accounts.freeze("b", "by hand")
    await named.remove("gone")


async def add(named: StandaloneAccounts) -> None:
    """Add a new account."""
    await named.add("c", limit_pusd("3"))


async def add_again(named: StandaloneAccounts) -> None:
    """Add an account that was removed."""
    await named.add("gone", limit_pusd("5"))


async def remove(named: StandaloneAccounts) -> None:
    """Remove an open account."""
    await named.remove("a")


async def remove_frozen(named: StandaloneAccounts) -> None:
    """Remove a frozen account."""
    await named.remove("b")


CHANGES: Mapping[str, tuple[Mapping[str, str], Callable[[StandaloneAccounts], Awaitable[None]], State]] = {
    "add": ({}, add, {**BEFORE, "c": (3 * ONE, False)}),
    "add-again": ({}, add_again, {**BEFORE, "gone": (5 * ONE, False)}),
    "remove": ({}, remove, {"b": BEFORE["b"]}),
    "remove-frozen": ({}, remove_frozen, {"a": BEFORE["a"]}),
    "start": ({"b": "7", "gone": "6"}, nothing, {"a": BEFORE["a"], "b": (7 * ONE, True), "gone": (6 * ONE, False)}),
}
"""Limits that the start names, the change, and what stands afterwards."""


def on_disk(data: Path) -> list[tuple[str, bytes]]:
    """Return the files that a change writes, as a killed process leaves them."""
    return [
        (path.name, path.read_bytes()) for path in [*sorted(data.glob("*tokens.json*")), data / "ledger.sqlite3-wal"]
    ]


def in_child(data: Path, name: str, at_line: Callable[[int], None]) -> bool:
    """Start and change in a child that tells of each line of ours that is new to it, by number; True if it was killed."""
    child = os.fork()
    if child == 0:
        seen = set[tuple[str, int]]()

        def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
            if frame.f_code.co_filename not in OURS and frame.f_code.co_name != COMMITS:
                return None
            before = len(seen)
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) > before:
                at_line(len(seen))
            return trace

        limits_usd, change, _after = CHANGES[name]

        async def traced(named: StandaloneAccounts) -> None:
            sys.settrace(trace)
            await change(named)
            sys.settrace(None)

        if name == "start":
            sys.settrace(trace)
        asyncio.run(start(data, limits_usd, traced))
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def die_at(line: int, number: int) -> None:
    """Kill this process if this is the line."""
    if number == line:
        os.kill(os.getpid(), signal.SIGKILL)


def steps(data: Path, name: str) -> list[int]:
    """The lines before which something on the disk has changed; each state of the disk is found by a kill at one of them."""
    told = data.with_name("steps")
    told.write_text("")
    states: list[list[tuple[str, bytes]]] = []

    def note(line_number: int) -> None:
        states.append(on_disk(data))
        if len(states) == 1 or states[-1] != states[-2]:
            told.write_text(f"{told.read_text()}{line_number} ")

    assert not in_child(data, name, note)
    return [int(each) for each in told.read_text().split()]


def main(place: Path) -> None:
    """Kill each change at each of its steps."""
    log.configure()
    made, data = place / "made", place / "data"
    (made / "budget").mkdir(parents=True)
    assert asyncio.run(start(made, {}, make)) == BEFORE

    def fresh() -> Path:
        shutil.rmtree(data, ignore_errors=True)
        return shutil.copytree(made, data)

    for name, (_limits_usd, _change, after) in CHANGES.items():
        lines = steps(fresh(), name)
        assert asyncio.run(start(data, {}, nothing)) == after
        for line in lines:
            assert in_child(fresh(), name, partial(die_at, line))
            found = asyncio.run(start(data, {}, nothing))
            for each, state in found.items():
                assert state in (BEFORE.get(each), after.get(each)), (name, line, each, state)
            assert BEFORE.keys() & after.keys() <= found.keys() <= BEFORE.keys() | after.keys(), (name, line)
        print(name, len(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
