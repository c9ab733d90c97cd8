"""One entry of a ledger, with all facts of its cost line."""

import json
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.runs.call import Call
from agent_preflight.runs.record import read_record
from preflight_proxy.core.ledger.commands import Post
from preflight_proxy.core.ledger.rows import CallFacts
from tests.support.ledger_on_disk import open_account, open_store, reserve
from tests.support.run_on_disk import CENT, keep_ledger, plan


@pytest.fixture
def run(tmp_path: Path, no_engine: str) -> Path:
    """A run with two trials that are planned, on a machine without an engine."""
    return plan(tmp_path / "run-1", "b", "a")


def test_a_line_of_the_ledger_keeps_all_its_facts(run: Path) -> None:
    store = open_store(run)
    open_account(store, "a", 25 * CENT)
    store.commit(reserve("r", 3 * CENT))
    facts = CallFacts(
        *("m/served", "Acme", "gen-1", "acme/fp8"),
        *(2000, 500, 100, 70, 20),
        status=200,
        ttft_ms=15,
        duration_ms=900,
        conversation="c1",
        cache_miss="message 3",
        cache_saved_pusd=-5,
    )
    store.commit(Post("r", CENT + 1, facts))
    store.close()
    (found,) = read_record(run).calls
    assert (found.model, found.provider, found.endpoint, found.generation_id) == (
        "m/served",
        "Acme",
        "acme/fp8",
        "gen-1",
    )
    assert (found.cost_pusd, found.reserved_pusd, found.cache_saved_pusd) == (CENT + 1, 3 * CENT, -5)
    assert (found.prompt_tokens, found.cached_tokens, found.cache_write_tokens) == (2000, 500, 100)
    assert (found.completion_tokens, found.reasoning_tokens, found.status) == (70, 20, 200)
    assert (found.ttft_ms, found.duration_ms, found.conversation, found.cache_miss) == (15, 900, "c1", "message 3")
    assert (found.reservation_id, found.api, found.streamed, found.is_call) == ("r", "chat", True, True)


def with_line(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the line of the first entry of a ledger, as another version would have written it."""
    connection = sqlite3.connect(run / "ledger.sqlite3")
    ((line,),) = connection.execute("SELECT line FROM entries WHERE entry_id = 1").fetchall()
    document = json.loads(line)
    document = change(document) or document
    text = document if isinstance(document, str) else json.dumps(document)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("UPDATE entries SET line = ? WHERE entry_id = 1", (text,))
    connection.commit()
    connection.close()


def test_prices_waits_and_tags_of_a_line_are_exact(run: Path) -> None:
    keep_ledger(run, "a")
    prices = {"prompt": "0.00000025", "completion": "0.000002", "cache_read": None}
    with_line(run, lambda line: line.update(prices=prices, waited_ms=1200, tags={"task": "refactor"}))
    (found,) = read_record(run).calls
    assert found.prices == {"prompt": Decimal("0.00000025"), "completion": Decimal("0.000002"), "cache_read": None}
    assert (found.waited_ms, found.tags) == (1200, {"task": "refactor"})


def test_a_line_of_an_older_version_has_no_prices(run: Path) -> None:
    keep_ledger(run, "a")
    with_line(run, lambda line: [line.pop(name, None) for name in ("prices", "waited_ms", "tags")] and None)
    (found,) = read_record(run).calls
    assert (found.prices, found.waited_ms, found.tags) == (None, 0, {})


@pytest.mark.parametrize("line", ["", "{", '{"model": 5}', '{"prices": {"prompt": "dear"}}'])
def test_of_a_line_that_cannot_be_read_the_cost_is_known(run: Path, line: str) -> None:
    keep_ledger(run, "a")
    with_line(run, lambda document: line or " ")
    (found,) = read_record(run).calls
    assert (found.entry_id, found.trial, found.cost_pusd, found.outcome, found.model) == (1, "a", CENT, "posted", "")
    assert found.at_s > 0


def test_a_weighing_has_a_cost_and_is_no_call_of_the_agent() -> None:
    call = Call(outcome="posted")
    assert (call.is_call, call.has_cost) == (True, True)
    weighing = Call(outcome="posted", purpose="weighing")
    assert (weighing.is_call, weighing.has_cost) == (False, True)
