"""One trial while it lives."""

from agent_preflight.runner.running_trial import GATE_BACK_S_MAX, Absence, Times
from agent_preflight.runner.watch import Seen
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.refusals.outcomes import NONE_YET, bad_request


def test_the_clock_of_a_trial_begins_with_its_agent_and_stops_with_its_end() -> None:
    times = Times()
    assert times.elapsed_s(times.began_s + 100) == 0.0
    times.started(10.0)
    assert times.elapsed_s(12.5) == 2.5
    times.ended(13.0)
    assert times.elapsed_s(99.0) == 3.0


def test_an_answer_that_an_event_has_overtaken_undoes_nothing() -> None:
    answer, event, later = Balance(as_of=1, gate="waiting"), Balance(as_of=2, gate="ready"), Balance(as_of=3, calls=1)
    seen = Seen()
    for heard, known in ((event, event), (answer, event), (later, later), (event, later)):
        seen.take(heard)
        assert seen.balance is known


def test_a_proxy_that_was_killed_takes_no_knowledge_of_calls_with_it() -> None:
    cause = bad_request("no")
    known = NONE_YET.with_served().with_unserved(cause)
    seen = Seen(balance=Balance(as_of=1, outcomes=known))
    seen.take(Balance(as_of=2, calls=1, outcomes=NONE_YET.with_served()))
    assert (seen.balance.calls, seen.balance.outcomes) == (1, known)
    later = known.with_unserved(cause)
    seen.take(Balance(as_of=3, outcomes=later))
    assert seen.balance.outcomes == later


def test_a_gate_that_does_not_come_back_to_a_restarted_proxy_is_lost() -> None:
    absence = Absence()
    late_s = GATE_BACK_S_MAX + 1.0
    assert not absence.is_too_long("ready", 0.0)
    assert not absence.is_too_long("waiting", 100.0)
    assert not absence.is_too_long("ready", 100.0 + late_s)
    assert not absence.is_too_long("waiting", 200.0)
    assert not absence.is_too_long("waiting", 200.0 + GATE_BACK_S_MAX)
    assert absence.is_too_long("waiting", 200.0 + late_s)


def test_an_agent_without_a_gate_misses_none() -> None:
    absence = Absence()
    assert not absence.is_too_long(None, 0.0)
    assert not absence.is_too_long(None, 1000.0)
