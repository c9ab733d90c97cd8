"""Writes the files of runs, without a runner, for tests of what reads them."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_preflight.models import RunResult
from preflight_proxy.core.ledger.commands import Post
from preflight_proxy.core.ledger.rows import CallFacts
from tests.support.ledger_on_disk import open_account, open_store, reserve

CENT = 10**10
EVENTS = (
    {"timestamp": "2026-01-01T00:00:00+00:00", "type": "agent_start", "elapsed_s": 0.5},
    {"timestamp": "2026-01-01T00:00:03+00:00", "type": "tool_execution_start", "elapsed_s": 3.5},
)


def plan(run: Path, *aliases: str) -> Path:
    """Write a plan of trials with 25 cents each."""
    run.mkdir(parents=True, exist_ok=True)
    trials = [
        {"alias": alias, "model_id": "m/x", "budget_usd": "0.25", "key_name": f"agent-preflight:{alias}"}
        for alias in aliases
    ]
    (run / "plan.json").write_text(json.dumps({"trials": trials}))
    return run


def begin(run: Path, alias: str, *events: dict[str, Any]) -> Path:
    """Write a trial that has printed these events."""
    folder = run / alias
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def finish(run: Path, alias: str, block: dict[str, Any] | None = None, **fields: Any) -> Path:
    """Write a trial that has ended, with or without the block of this version."""
    folder = run / alias
    folder.mkdir(parents=True, exist_ok=True)
    document = RunResult(alias, "m/x", 0.5, **fields).to_dict()
    (folder / "summary.json").write_text(json.dumps(document if block is None else {**document, "preflight": block}))
    return folder


def keep_ledger(run: Path, *accounts: str, pending: bool = False) -> None:
    """A ledger in which each account of a quarter dollar has made a call of a cent, and may have one under way for two."""
    run.mkdir(parents=True, exist_ok=True)
    store = open_store(run)
    for account in accounts:
        open_account(store, account, 25 * CENT)
        store.commit(reserve(f"of {account}", CENT, account))
        store.commit(Post(f"of {account}", CENT, CallFacts("m/x", prompt_tokens=2000, cached_tokens=500)))
        if pending:
            store.commit(reserve(f"next of {account}", 2 * CENT, account))
    store.close()


@contextlib.contextmanager
def alive(run: Path) -> Iterator[None]:
    """Lock the run as its runner does."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
