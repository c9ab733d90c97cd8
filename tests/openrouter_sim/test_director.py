"""Who speaks and what strikes."""

from random import Random

import pytest

from openrouter_sim import FaultRule, Rule, Scenario, make_fault
from openrouter_sim.base.errors import ApiError
from openrouter_sim.calls.call import SimRequest
from openrouter_sim.director import Director


def ask(text: str = "hi", *, role: str = "user", stream: bool = False) -> SimRequest:
    return SimRequest({}, stream, None, (), text, role)


def said(director: Director, text: str, role: str = "user", model: str = "m") -> str:
    return director.late("chat", ask(text, role=role), model)[1].text


def test_the_first_matching_rule_speaks() -> None:
    replies = (
        Rule(contains="one", text="1"),
        Rule(role="tool", text="t"),
        Rule(model="x", text="x"),
        Rule(text="z"),
    )
    director = Director(Scenario(replies=replies), Random(0))
    assert said(director, "one two") == "1"
    assert said(director, "two", role="tool") == "t"
    assert said(director, "two", model="x") == "x"
    assert said(director, "two") == "z"


def test_a_rule_can_be_used_up() -> None:
    director = Director(Scenario(replies=(Rule(text="first", times=1), Rule(text="then"))), Random(0))
    assert [said(director, "a") for _ in range(3)] == ["first", "then", "then"]


def test_a_fault_strikes_after_so_many_calls_and_so_often() -> None:
    rule = FaultRule(make_fault("reset"), after=2, times=2)
    director = Director(Scenario(faults=(rule,)), Random(0))
    struck = [len(director.late("chat", ask(), "m")[0]) for _ in range(6)]
    assert struck == [0, 0, 1, 1, 0, 0]
    assert director.strikes == {"reset": 2}


def test_a_fault_concerns_only_what_it_says() -> None:
    rule = FaultRule(make_fault("reset"), api="chat", model="m", stream=True, contains="x")
    director = Director(Scenario(faults=(rule,)), Random(0))
    assert director.late("chat", ask("x", stream=True), "m")[0]
    assert not director.late("messages", ask("x", stream=True), "m")[0]
    assert not director.late("chat", ask("x", stream=True), "n")[0]
    assert not director.late("chat", ask("x"), "m")[0]
    assert not director.late("chat", ask("y", stream=True), "m")[0]


def test_probability_is_drawn_by_the_seed() -> None:
    scenario = Scenario(faults=(FaultRule(make_fault("reset"), probability=0.1),))

    def drawn(seed: int) -> list[int]:
        director = Director(scenario, Random(seed))
        return [len(director.late("chat", ask(), "m")[0]) for _ in range(1000)]

    assert drawn(3) == drawn(3)
    assert 50 < sum(drawn(3)) < 150


def test_early_faults_are_drawn_apart_and_a_directive_can_name_a_fault() -> None:
    director = Director(Scenario(faults=(FaultRule(make_fault("early_answer")),)), Random(0))
    assert [fault.name for fault in director.early(None, "chat")] == ["early_answer"]
    assert not director.late("chat", ask(), "m")[0]
    assert [fault.name for fault in director.late("chat", ask("[[sim fault=reset]]"), "m")[0]] == ["reset"]


def test_a_directive_that_cannot_be_understood_is_a_400_and_they_can_be_switched_off() -> None:
    with pytest.raises(ApiError):
        Director(Scenario(), Random(0)).late("chat", ask("[[sim fault=nope]]"), "m")
    Director(Scenario(directives=False), Random(0)).late("chat", ask("[[sim fault=nope]]"), "m")
