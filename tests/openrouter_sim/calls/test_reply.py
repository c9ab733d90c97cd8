"""What is said, before and after a bound cuts it."""

from random import Random

import pytest

from openrouter_sim import Rule, Scenario, ToolCall
from openrouter_sim.calls.reply import compose, cut, directive, filler

PLAIN = Scenario()


def test_a_directive_sets_every_part_of_a_reply() -> None:
    found = directive("""go [[sim tokens=200 reasoning=50 tool=run args='{"a": [1]}' finish=stop fault=reset]] now""")
    assert found is not None
    rule, fault = found
    assert (rule.tokens, rule.reasoning, rule.finish, fault) == ((200, 200), 50, "stop", "reset")
    assert rule.tool_calls == (ToolCall("run", '{"a": [1]}'),)


def test_text_without_directive_has_none_and_a_bad_number_is_an_error() -> None:
    assert directive("sim tokens=4") is None
    assert directive("[[sim tokens=3-9]]") == (Rule(tokens=(3, 9)), None)
    with pytest.raises(ValueError):
        directive("[[sim tokens=many]]")


def test_without_a_rule_there_is_filler_of_about_fifty_tokens() -> None:
    said = compose(None, PLAIN, Random(0))
    assert 40 <= said.tokens <= 60
    assert said.finish == "stop"
    assert said.text


def test_a_text_is_as_long_as_it_is_and_calls_are_finished_by_calling() -> None:
    assert compose(Rule(text="abcdefgh"), PLAIN, Random(0)).tokens == 2
    called = compose(Rule(tool_calls=(ToolCall("run", "{}"),)), PLAIN, Random(0))
    assert (called.finish, called.text) == ("tool_calls", "")


def test_a_bound_shortens_the_text_and_drops_unfinished_calls() -> None:
    said = compose(Rule(tokens=100, reasoning=30, tool_calls=(ToolCall("run"),)), PLAIN, Random(0))
    short = cut(said, 50, PLAIN)
    assert (short.tokens, short.reasoning, short.tool_calls, short.finish) == (50, 30, (), "length")
    assert cut(said, 100, PLAIN) == said
    text = compose(Rule(text="abcdefgh" * 10), PLAIN, Random(0))
    assert text.text.startswith(cut(text, 10, PLAIN).text)
    assert len(cut(text, 10, PLAIN).text) == 40


def test_a_range_is_drawn_by_the_seed() -> None:
    rule = Rule(tokens=(10, 1000))
    assert compose(rule, PLAIN, Random(5)) == compose(rule, PLAIN, Random(5))
    assert compose(Rule(), PLAIN, Random(5)).tokens >= 40


def test_filler_is_readable_and_as_long_as_asked() -> None:
    assert len(filler(30).split()) == 30
