"""What `agent-preflight estimate` shows."""

import json

from agent_preflight.base.tables import text_of
from agent_preflight.base.usd import pusd
from agent_preflight.estimates.calls_that_fit import Estimate, estimate, rounded_up
from agent_preflight.estimates.report import Found, Unread, is_affordable, report, why_nothing
from tests.support.quote_cases import endpoint

SONNET = "anthropic/claude-sonnet-4.5"


def of(budget: str, model: str = SONNET) -> Estimate:
    return estimate(model, pusd(budget), [endpoint()])


FOUND: tuple[Found, ...] = (
    of("50"),
    of("0.5"),
    of("0.25"),
    of("1", "openrouter/auto"),
    Unread("a/b", pusd(1), "HTTP 500"),
)


def shown(*found: Found) -> str:
    return text_of(*report(found, 20_000))


def test_each_model_has_its_budget_its_worst_case_its_count_and_its_first_answer() -> None:
    lines = shown(*FOUND).splitlines()
    enough, clamped, low = (each for each in FOUND if isinstance(each, Estimate) and not each.why_none)
    assert lines[0].split("  ")[0] == "model"
    rows = [line.split() for line in lines[1:6]]
    assert rows[0] == [SONNET, "$50.00", rounded_up(enough.worst_pusd), *f"{enough.calls} calls 64,000 tokens".split()]
    assert rows[1] == [SONNET, "$0.50", "$1.21", *f"1 call {clamped.first_bound:,} tokens".split()]
    assert rows[2] == [SONNET, "$0.25", "$1.21", "no", "call", "refused"]
    assert rows[3] == ["openrouter/auto", "$1.00", "-", "no", "call", "-"]
    assert rows[4] == ["a/b", "$1.00", "-", "-", "-"]
    assert low.calls == 0


def test_what_to_do_is_said_where_a_count_is_low_and_only_there() -> None:
    text = " ".join(shown(*FOUND).split())
    assert f"{SONNET}: one call takes at least $0.257: raise the budget to $6.01 for 5 calls" in text
    assert "openrouter/auto: every call is refused: Routers" in text
    assert "a/b: not estimated: HTTP 500" in text
    assert text.endswith("Nothing was spent.")
    assert "raise" not in shown(of("50"))
    assert "at least" not in shown(of("0.5"))
    assert "raise the budget to $6.01 for 5 calls" in " ".join(shown(of("0.5")).split())


def test_no_line_of_figures_is_longer_than_a_terminal() -> None:
    long = "someone/a-model-with-a-name-that-is-much-longer-than-a-column-of-a-table-can-be"
    assert max(map(len, shown(*FOUND, of("1000", long)).splitlines())) <= 80


def test_what_was_not_read_is_told_once_where_nothing_was() -> None:
    a, b, c = Unread("a/b", 1, "429"), Unread("c/d", 1, "429"), Unread("e/f", 1, "no list")
    assert (why_nothing([a, b]), why_nothing([a, c])) == ("429", "429; no list")
    assert why_nothing([a, of("1")]) == ""


def test_a_budget_is_affordable_that_affords_a_call() -> None:
    assert [is_affordable(each) for each in FOUND] == [True, True, False, False, False]


def test_a_model_that_could_not_be_read_is_json_as_well() -> None:
    assert json.dumps(FOUND[-1].to_json()) == '{"model": "a/b", "budget_usd": "1", "not_estimated": "HTTP 500"}'
