"""The line of costs.jsonl."""

import json

import msgspec
from msgspec.structs import replace

from preflight_proxy.core.ledger.cost_line import LineTokens, clean, entry_of, tokens_of
from preflight_proxy.core.ledger.rows import CallFacts, EntryKind, Reservation

POSTED = Reservation("r1", "a", 2_000_000_000, "chat", "m/x", ("t",), 16, True, 1.0, generation_id="gen-1", tag="t")
CALL = CallFacts("m/x-2026", "OpenAI", "gen-1", "t", 1000, 900, 10, 50, 20, 200, 340, 1234, "c0ffee", "tools", -5)
CALL = replace(CALL, prices=msgspec.Raw(b'{"prompt":"0.00000025"}'), waited_ms=70)


def test_a_line_holds_every_field_of_the_contract() -> None:
    """Amounts as exact decimal text, the moment in UTC."""
    line = entry_of(7, 1_760_000_000.25, "a", EntryKind.POSTED, 1_590_000_000, POSTED, CALL).line
    assert "\n" not in line
    assert json.loads(line) == {
        "entry_id": 7,
        "time": "2025-10-09T08:53:20.250Z",
        "account": "a",
        "model": "m/x-2026",
        "provider": "OpenAI",
        "generation_id": "gen-1",
        "tag": "t",
        "prompt_tokens": 1000,
        "cached_tokens": 900,
        "cache_write_tokens": 10,
        "completion_tokens": 50,
        "reasoning_tokens": 20,
        "conversation": "c0ffee",
        "cache_miss": "tools",
        "cache_saved_usd": "-0.000000000005",
        "cost_usd": "0.00159",
        "reserved_usd": "0.002",
        "status": 200,
        "ttft_ms": 340,
        "duration_ms": 1234,
        "api": "chat",
        "streamed": True,
        "outcome": "posted",
        "reservation_id": "r1",
        "reason": "",
        "purpose": "",
        "prices": {"prompt": "0.00000025"},
        "waited_ms": 70,
    }


def test_a_line_has_the_tags_of_a_run_that_has_some() -> None:
    tags = msgspec.Raw(b'{"task":"refactor"}')
    line = entry_of(7, 0.0, "a", EntryKind.POSTED, 1, POSTED, CALL, tags=tags).line
    assert json.loads(line)["tags"] == {"task": "refactor"}


def test_a_line_says_what_a_call_was_for_that_is_none_of_the_agents() -> None:
    weighing = replace(POSTED, purpose="weighing")
    line = entry_of(7, 0.0, "a", EntryKind.POSTED, 1, weighing, CALL).line
    assert json.loads(line)["purpose"] == "weighing"


def test_a_line_without_a_reservation_and_without_facts() -> None:
    """What was recovered; the fields stay the same."""
    line = json.loads(entry_of(1, 0.0, "a", EntryKind.RECOVERED, -5, None, CallFacts()).line)
    assert set(line) == set(json.loads(entry_of(7, 0.0, "a", EntryKind.POSTED, 1, POSTED, CALL).line))
    assert (line["cost_usd"], line["reserved_usd"], line["reservation_id"]) == ("-0.000000000005", "0", None)
    assert (line["model"], line["generation_id"], line["tag"], line["status"]) == ("", None, None, None)
    assert (line["conversation"], line["cache_miss"], line["cache_saved_usd"]) == (None, None, None)
    assert (line["prices"], line["waited_ms"]) == (None, 0)


def test_the_quoted_model_stands_where_upstream_named_none() -> None:
    """And the reason of a void is told."""
    line = json.loads(entry_of(1, 0.0, "a", EntryKind.VOIDED, 0, POSTED, CallFacts(), "never sent").line)
    assert (line["model"], line["outcome"], line["reason"]) == ("m/x", "voided", "never sent")


def test_text_of_upstream_is_one_line_of_valid_unicode_and_short() -> None:
    """Whatever it sends."""
    long = "\ud800" + "x" * 10_000
    hostile = CallFacts(model=f"m\n{long}", provider=f'"}}\u2028{long}', generation_id="g\udfff", cache_miss=long)
    line = entry_of(1, 0.0, "a", EntryKind.RECOVERED, 1, None, hostile).line
    assert "\n" not in line
    assert len(line) < 1200
    assert json.loads(line)["model"].startswith("m\n?xxx")
    assert json.loads(line)["generation_id"] == "g?"
    assert len(json.loads(line)["provider"]) == len(json.loads(line)["cache_miss"]) == 200
    assert clean("é") == "é"


def test_the_token_counts_of_a_line_are_read_again_and_a_torn_line_has_none() -> None:
    line = entry_of(7, 0.0, "a", EntryKind.POSTED, 1, POSTED, CALL).line
    assert tokens_of(line) == LineTokens(1000, 900, 10, 50, "t")
    assert tokens_of(line[:-9]) == tokens_of('{"prompt_tokens": "x"}') == LineTokens()
