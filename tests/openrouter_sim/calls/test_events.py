"""Events as bytes."""

from openrouter_sim.calls.events import event, spread


def test_an_event_has_its_name_where_it_has_one() -> None:
    assert event({"a": 1}) == b'data: {"a":1}\n\n'
    assert event({"a": 1}, "x") == b'event: x\ndata: {"a":1}\n\n'


def test_tokens_are_spread_so_that_the_last_event_has_them_all() -> None:
    assert spread(4, 10) == [2, 5, 7, 10]
    assert spread(0, 10) == []
