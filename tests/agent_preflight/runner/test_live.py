"""One trial while it lives."""

from agent_preflight.runner.live import Times


def test_the_clock_of_a_trial_begins_with_its_agent_and_stops_with_its_end() -> None:
    times = Times()
    assert times.elapsed_s(times.began_s + 100) == 0.0
    times.started(10.0)
    assert times.elapsed_s(12.5) == 2.5
    times.ended(13.0)
    assert times.elapsed_s(99.0) == 3.0
