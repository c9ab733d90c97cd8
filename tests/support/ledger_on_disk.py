"""Short forms for tests of the store: a still clock, a ledger in a directory, calls by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preflight_proxy.core.ledger.commands import OpenAccount, Post, Reserve
from preflight_proxy.ledger.store import Store
from tests.support.fake_clock import FakeClock

BOOT = "boot 1"


def open_store(directory: Path, boot_id: str = BOOT, **more: Any) -> Store:
    """The ledger of a directory, opened in a given boot of the machine."""
    return Store(directory / "ledger.sqlite3", clock=FakeClock(), boot_id=boot_id, **more)


def open_account(store: Store, account: str = "a", limit_pusd: int = 1000, **more: Any) -> None:
    """Open an account of this limit."""
    store.commit(OpenAccount(account, "run", limit_pusd, f"token of {account}", **more))


def reserve(name: str, reserved_pusd: int = 100, account: str = "a") -> Reserve:
    """The command that reserves under a name."""
    return Reserve(name, account, reserved_pusd, "chat", "m/x", ("t", "u"), 16, streamed=True, digest="d")


def call(store: Store, name: str, cost_pusd: int, account: str = "a") -> None:
    """A whole call."""
    store.commit(reserve(name, max(cost_pusd, 1), account))
    store.commit(Post(name, cost_pusd))
