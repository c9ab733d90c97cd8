"""The size and the price of the caching check; its verdicts are in test_preflight."""

from decimal import Decimal

from agent_preflight.checks.caching import smoke_limit_usd, smoke_prompt


def test_the_limit_is_never_below_two_cents() -> None:
    assert smoke_limit_usd(100, Decimal(0)) == Decimal("0.02")


def test_the_limit_covers_two_uncached_prompts_rounded_up_to_a_cent() -> None:
    assert smoke_limit_usd(128, Decimal(3)) == Decimal("0.03")
    assert smoke_limit_usd(365, Decimal(15)) == Decimal("0.19")


def test_an_unknown_price_is_taken_as_high() -> None:
    assert smoke_limit_usd(365, None) == smoke_limit_usd(365, Decimal(20))


def test_the_prompt_has_numbered_lines_of_about_thirteen_tokens() -> None:
    lines = smoke_prompt(120).splitlines()
    assert len(set(lines)) == 120
    assert 50 <= len(lines[60]) <= 65
