"""When a refusal gets a final status (M19)."""

import pytest

from preflight_proxy.core.admission.escalation import (
    DIGESTS_MAX,
    ESCALATION_GRACE_S,
    REFUSED_TOKENS_MAX,
    REPEAT_S,
    Escalation,
)
from tests.support.cases import each


@each("after_s, escalated", [(0.0, True), (REPEAT_S, True), (REPEAT_S + 1, False)])
def test_the_same_body_again_is_escalated_for_ten_minutes(after_s: float, escalated: bool) -> None:
    """A client that repeats itself did not stop at the first refusal."""
    refusals = Escalation()
    assert not refusals.seen("token", "body", False, 100.0)
    assert refusals.seen("token", "body", False, 100.0 + after_s) is escalated


def test_another_body_is_not_escalated_while_something_may_fit() -> None:
    """A shorter prompt is a fair try."""
    refusals = Escalation()
    refusals.seen("token", "body", False, 0.0)
    assert not refusals.seen("token", "shorter body", False, 1000.0)


@pytest.mark.parametrize(("after_s", "escalated"), [(ESCALATION_GRACE_S - 0.1, False), (ESCALATION_GRACE_S, True)])
def test_any_call_is_escalated_once_the_account_is_spent_or_frozen(after_s: float, escalated: bool) -> None:
    """Five seconds after its first refusal: calls side by side get the usual status first."""
    refusals = Escalation()
    assert not refusals.seen("token", "one", True, 0.0)
    assert refusals.seen("token", "another", True, after_s) is escalated


def test_tokens_do_not_see_each_other() -> None:
    """Nor do two runs with the same prompt."""
    refusals = Escalation()
    refusals.seen("token", "body", True, 0.0)
    assert not refusals.seen("another", "body", True, 100.0)


def test_an_admitted_call_clears_it() -> None:
    """A refusal never latches."""
    refusals = Escalation()
    refusals.seen("token", "body", True, 0.0)
    refusals.clear("token")
    refusals.clear("unknown token")
    assert not refusals.seen("token", "body", True, 100.0)


def test_what_is_remembered_is_bounded() -> None:
    """The oldest is forgotten first."""
    refusals = Escalation()
    for number in range(DIGESTS_MAX + 1):
        refusals.seen("token", f"body {number}", False, 0.0)
    assert not refusals.seen("token", "body 0", False, 1.0)
    assert refusals.seen("token", f"body {DIGESTS_MAX}", False, 1.0)
    for number in range(REFUSED_TOKENS_MAX):
        refusals.seen(f"token {number}", "body", False, 2.0)
    assert not refusals.seen("token", f"body {DIGESTS_MAX}", False, 3.0)
