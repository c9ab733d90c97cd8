"""The report of a sweep."""

from pathlib import Path

from agent_preflight.sweeping.report import Leftover, SweepReport

ITEM = Leftover("sub-key", "agent-preflight:r:a:1", Path("/runs/r"))


def test_a_thing_is_a_line() -> None:
    assert ITEM.line() == "sub-key agent-preflight:r:a:1 of /runs/r"
    assert Leftover("proxy", "7", Path("/runs/r"), "busy").line() == "proxy 7 of /runs/r: busy"
    assert Leftover("gate", "c0a122", Path("/runs/r"), trial="a").line() == "gate c0a122 of trial a in /runs/r"


def test_it_is_verified_unless_something_is_left_or_was_not_looked_for() -> None:
    assert SweepReport(removed=(ITEM,), live=(ITEM,), unreadable=(ITEM,), notes=("x",)).verified
    assert not SweepReport(left=(ITEM,)).verified
    assert not SweepReport(trouble=("the engine does not answer",)).verified
