"""Refused calls that no budget explains are told once as they happen, and summed up at the end."""

from agent_preflight.runner.refusals import Refusals

UNPRICED = {"code": "unpriced", "model": "no/price"}


def test_a_reason_is_told_when_it_first_comes_up() -> None:
    refusals = Refusals()
    told = [refusals.hear(UNPRICED), refusals.hear({**UNPRICED, "model": "other/model"})]
    assert told == ["a call to no/price was refused: This model has no known price, so its cost has no bound.", None]


def test_the_end_has_one_sentence_for_each_reason() -> None:
    refusals = Refusals()
    for facts in (UNPRICED, UNPRICED, {"code": "model_not_allowed", "model": "m/x"}):
        refusals.hear(facts)
    assert refusals.sentences() == [
        "2 calls were refused, the first to no/price: This model has no known price, so its cost has no bound.",
        "1 call was refused, the first to m/x: This model is not allowed in this run.",
    ]


def test_what_the_budget_refuses_and_what_nobody_knows_is_not_counted() -> None:
    refusals = Refusals()
    for code in ("spent", "does_not_fit", "frozen", "no such code", None):
        assert refusals.hear({"code": code, "model": "m/x"}) is None
    assert refusals.sentences() == []
