"""What `agent-preflight estimate` shows."""

import json

from agent_preflight.base.tables import text_of
from agent_preflight.base.usd import pusd
from agent_preflight.estimates.calls_that_fit import Estimate, estimate, rounded_up
from agent_preflight.estimates.report import report
from tests.support.quote_cases import endpoint

SONNET = "anthropic/claude-sonnet-4.5"


def of(budget: str, model: str = SONNET) -> Estimate:
    return estimate(model, pusd(budget), [endpoint()])


ESTIMATES = (
    of("50"),
    of("0.5"),
    of("0.05"),
    of("1", "openrouter/auto"),
    Estimate("a/b", pusd(1), 20_000, why_unread="HTTP 500"),
)


def shown(*estimates: Estimate) -> str:
    return text_of(*report(estimates, 20_000))


def test_a_row_has_budget_worst_case_count_and_first_answer() -> None:
    lines = shown(*ESTIMATES).splitlines()
    enough, clamped, low = ESTIMATES[:3]
    assert lines[0].split("  ")[0] == "model"
    rows = [line.split() for line in lines[1:6]]
    assert rows[0] == [SONNET, "$50.00", rounded_up(enough.worst_pusd), *f"{enough.calls} calls 64,000 tokens".split()]
    assert rows[1] == [
        SONNET,
        "$0.50",
        rounded_up(clamped.worst_pusd),
        *f"1 call {clamped.first_bound:,} tokens".split(),
    ]
    assert rows[2] == [SONNET, "$0.05", rounded_up(low.worst_pusd), "no", "call", "refused"]
    assert rows[3] == ["openrouter/auto", "$1.00", "-", "no", "call", "-"]
    assert rows[4] == ["a/b", "$1.00", "-", "-", "-"]
    assert low.calls == 0


def test_advice_is_given_only_if_a_count_is_low() -> None:
    text = " ".join(shown(*ESTIMATES).split())
    assert f"{SONNET}: one call takes at least $0.0855: raise the budget to $5.16 for 5 calls" in text
    assert "openrouter/auto: every call is refused: Routers" in text
    assert "a/b: not estimated: HTTP 500" in text
    assert text.endswith("Nothing was spent.")
    assert "raise" not in shown(of("50"))
    assert "at least" not in shown(of("0.5"))
    assert "raise the budget to $5.16 for 5 calls" in " ".join(shown(of("0.5")).split())


def test_a_low_count_has_the_largest_new_prompt_that_fits() -> None:
    assert f"Largest new prompt: ~9,730 tokens ({SONNET})" in " ".join(shown(ESTIMATES[2]).split())
    assert "Largest" not in shown(of("50"))


def test_what_a_token_is_reserved_as_is_said_for_each_bound() -> None:
    assert "Calls of 100 new prompt tokens, reserved with a margin." in text_of(*report([of("1")], 100))
    assert "Calls of 100 new prompt tokens, reserved as 4 bytes of text each." in text_of(
        *report([of("1")], 100, "proven")
    )


def test_no_line_is_longer_than_a_terminal() -> None:
    long = "someone/a-model-with-a-name-that-is-much-longer-than-a-column-of-a-table-can-be"
    assert max(map(len, shown(*ESTIMATES, of("1000", long)).splitlines())) <= 80


def test_a_model_whose_prices_could_not_be_read_is_json_with_the_reason() -> None:
    assert json.dumps(ESTIMATES[-1].to_json()) == '{"model": "a/b", "budget_usd": "1", "not_estimated": "HTTP 500"}'
