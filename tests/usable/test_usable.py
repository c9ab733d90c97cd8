"""Why most of a budget can be used: by its bytes alone a conversation would be refused long before its last dollar."""

from __future__ import annotations

from decimal import Decimal

import pytest

from openrouter_sim import Tokenizer
from openrouter_sim.catalog.models import load_catalog
from tests.usable.measure import Rules, check_usd, usable
from tests.usable.sessions import Session, Turn

pytestmark = pytest.mark.wire

MODEL = "anthropic/claude-sonnet-4.5"
LIMIT_USD = "0.20"
OPENING_BYTES = 24_000
BYTES_USD = OPENING_BYTES * Decimal("0.000003")
"""What the opening alone would count for if each of its bytes were a token, at the lowest price of a prompt token."""


def session(agents: int = 1) -> Session:
    """One conversation, longer than its budget."""
    turns = (Turn(30, 20, 300),) * 200
    return Session("test", OPENING_BYTES - 1_000, (), 1_000, 4_000, turns, agents)


async def test_less_is_left_over_than_the_bytes_of_the_conversation_would_need() -> None:
    """Billed prefixes tighten the quote, so the call that is refused in the end is one that bytes would have refused."""
    found = await usable(session(), MODEL, LIMIT_USD)
    assert found.calls > 1
    assert (1 - found.at_first) * Decimal(LIMIT_USD) < BYTES_USD


async def test_agents_side_by_side_leave_no_more_than_one_alone_in_the_end() -> None:
    """Those that wait are quoted with what the first was billed at; each goes on until it is refused by itself."""
    found = await usable(session(agents=4), MODEL, LIMIT_USD)
    assert found.calls > 4
    assert (1 - found.at_end) * Decimal(LIMIT_USD) < BYTES_USD


async def test_other_promises_and_another_tokenizer_can_be_measured() -> None:
    """The bill is within the limit whatever is promised; the denser a text is counted, the fewer calls fit."""
    usual = await usable(session(), MODEL, LIMIT_USD, Rules("proven"))
    realistic = await usable(session(), MODEL, LIMIT_USD, Rules("proven", "billed", Tokenizer.REALISTIC))
    assert 1 < realistic.calls < usual.calls


def test_a_key_has_room_for_the_longest_prompt_on_the_dearest_endpoint() -> None:
    """A million tokens at the price above 200,000, $6."""
    assert check_usd(load_catalog()[MODEL]) == 6
