"""Lines of the report."""

from agent_preflight.checks.line import failed, passed, skipped, warned


def test_only_a_failed_line_has_a_failure() -> None:
    assert (passed("n", "d").ok, passed("n", "d").failure) == (True, "")
    assert (warned("n", "d").ok, warned("n", "d").failure) == (None, "")
    assert (skipped("n", "d").ok, skipped("n", "d").failure) == (None, "")
    assert (failed("n", "d", "f").ok, failed("n", "d", "f").failure) == (False, "f")
