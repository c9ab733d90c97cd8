"""What many parallel callers spend above the limit of their account, with natural and with crafted text."""

from __future__ import annotations

from random import Random

import pytest

from openrouter_sim import Tokenizer
from tests.usable.measure import Rules
from tests.usable.overshoot import Asked, Spent, overshoot
from tests.usable.texts import CRAFTED, NATURAL, crafted, natural

CALLS = 300


def test_texts_are_of_twenty_kinds_and_as_long_as_asked() -> None:
    assert len(NATURAL) == 20
    made = [*(natural(kind, Random(1), 900) for kind in NATURAL), *(crafted(kind, Random(1), 900) for kind in CRAFTED)]
    assert all(300 < len(text) <= 900 for text in made)
    assert len(set(made)) == len(made)


def test_an_account_may_be_over_by_a_quarter_or_by_one_call() -> None:
    assert Spent("a", 100, 25, 0, 1).is_within
    assert not Spent("a", 100, 26, 0, 1).is_within
    assert Spent("a", 100, 26, 26, 1).is_within
    assert not Spent("a", 100, 1, 26, 1, next_overruns=1).is_within


@pytest.mark.wire
@pytest.mark.parametrize("bound", ["measured", "proven"])
async def test_natural_text_passes_no_limit(bound: str) -> None:
    rules = Rules("measured" if bound == "measured" else "proven", counter=Tokenizer.REALISTIC)
    result = await overshoot(Asked(CALLS, rules=rules))
    assert result.calls >= CALLS
    assert result.over == []


@pytest.mark.wire
async def test_crafted_text_passes_no_limit_by_the_proven_bound() -> None:
    result = await overshoot(Asked(CALLS, text="crafted", rules=Rules("proven", counter=Tokenizer.DENSE)))
    assert result.over == []
    assert all(account.overruns == 0 for account in result.accounts)


@pytest.mark.wire
async def test_crafted_text_passes_a_limit_by_no_more_than_is_promised_and_the_next_call_is_right() -> None:
    result = await overshoot(Asked(CALLS, text="crafted", rules=Rules(counter=Tokenizer.DENSE)))
    assert sum(account.overruns for account in result.accounts) > 0
    assert result.outside == []
