"""Opening an account, and opening it again."""

import pytest
from msgspec.structs import replace

from preflight_proxy.core.ledger.account_changes import with_ended, with_refused
from preflight_proxy.core.ledger.commands import Freeze, OpenAccount, Post, SetLimit, Unfreeze
from preflight_proxy.core.ledger.transition import transition
from preflight_proxy.core.money import LIMIT_USD_MAX, PUSD_PER_USD
from preflight_proxy.core.refusals.outcomes import LEFT, NONE_YET, bad_request, refused
from preflight_proxy.core.refusals.refusals import Code
from tests.support.ledger_cases import NOW_S, account, do, hold, opened

FIRST = OpenAccount("a", "run", 1000, "token of a", key_hash="k", key_is_own=True, key_usage_pusd=70)


def test_opening_again_brings_new_figures_and_keeps_the_balance() -> None:
    """As after a restart of the proxy, or of a stand-alone one with another budget."""
    state = opened(1000)
    do(state, hold("r", 100))
    do(state, hold("s", 100))
    do(state, Post("r", 60))
    do(state, OpenAccount("a", "run 2", 500, "new token", models=("m/x",), budget_file="b.txt", budget_mode="detailed"))
    now = account(state)
    assert (now.limit_pusd, now.posted_pusd, now.pending_pusd, now.calls) == (500, 60, 100, 1)
    assert (now.run, now.token_hash, now.models) == ("run 2", "new token", ("m/x",))
    assert (now.budget_file, now.budget_mode) == ("b.txt", "detailed")


def test_opening_again_does_not_thaw() -> None:
    """A trial that was ended stays ended."""
    state = opened()
    do(state, Freeze("a", "ended"))
    do(state, FIRST)
    assert account(state).frozen == "ended"
    do(state, Unfreeze("a"))
    assert account(state).frozen is None


def test_a_token_belongs_to_one_account() -> None:
    """Or a call would be posted on either."""
    state = opened()
    with pytest.raises(ValueError, match="another account"):
        transition(state, OpenAccount("b", "run", 1, "token of a"), NOW_S)


@pytest.mark.parametrize("limit_pusd", [-1, LIMIT_USD_MAX * PUSD_PER_USD + 1])
def test_a_limit_has_limits(limit_pusd: int) -> None:
    """At opening and after."""
    state = opened()
    for command in (SetLimit("a", limit_pusd), replace(FIRST, limit_pusd=limit_pusd)):
        with pytest.raises(ValueError, match="a limit lies between"):
            transition(state, command, NOW_S)


@pytest.mark.parametrize("command", [replace(FIRST, account=""), replace(FIRST, token_hash="")])
def test_an_account_has_a_name_and_a_token(command: OpenAccount) -> None:
    """Without a token anybody would be it."""
    with pytest.raises(ValueError, match="an id and a token"):
        transition(opened(), command, NOW_S)


def test_a_keys_usage_counts_from_its_first_reading() -> None:
    """M13: what the key had used before belongs to nobody here."""
    state = opened()
    do(state, FIRST)
    do(state, replace(FIRST, key_usage_pusd=500))
    assert (account(state).key_usage_base_pusd, account(state).key_is_own) == (70, True)


def test_another_key_is_compared_without_what_was_posted_before_it() -> None:
    """Usage minus base is to equal all of posted."""
    state = opened()
    do(state, FIRST)
    do(state, hold("r", 100))
    do(state, Post("r", 60))
    do(state, replace(FIRST, key_hash="l", key_usage_pusd=10))
    assert account(state).key_usage_base_pusd == 10 - 60


def test_another_keys_usage_proves_nothing_about_calls_in_flight() -> None:
    """They left with the key before; with nothing in flight the next reading counts."""
    state = opened()
    do(state, FIRST)
    do(state, hold("r", 100))
    other = replace(FIRST, key_hash="l", key_usage_pusd=10)
    do(state, other)
    assert (account(state).key_usage_base_pusd, account(state).key_is_own) == (None, False)
    do(state, Post("r", 60))
    do(state, other)
    assert (account(state).key_usage_base_pusd, account(state).key_is_own) == (-50, True)


def test_a_key_whose_usage_was_not_read_is_no_evidence() -> None:
    """Nothing can be compared with it."""
    state = opened()
    do(state, replace(FIRST, key_hash="l", key_usage_pusd=None))
    assert (account(state).key_usage_base_pusd, account(state).key_is_own) == (None, False)


def test_what_became_of_calls_is_known_until_another_agent_gets_the_account() -> None:
    """A runner opens it with the same token after a restart of the proxy, and with another for the next attempt."""
    state = opened()
    do(state, FIRST)
    cause = bad_request("no")
    served = with_ended(account(state), None, overtaken=False)
    state.accounts["a"] = with_ended(with_refused(served, cause), LEFT, overtaken=False)
    known = NONE_YET.with_served().with_unserved(cause).with_unserved(LEFT)
    do(state, replace(FIRST, limit_pusd=7))
    assert (account(state).outcomes, account(state).refused) == (known, 1)
    do(state, replace(FIRST, token_hash="another"))
    assert (account(state).outcomes, account(state).refused) == (NONE_YET, 1)


def test_a_call_that_was_under_way_does_not_take_back_the_budgets_last_word() -> None:
    dear = refused(Code.SPENT, "m/x")
    after = with_refused(account(opened()), dear)
    for cause in (None, bad_request("no")):
        after = with_ended(after, cause, overtaken=True)
        assert after.outcomes.last == dear
    assert with_ended(after, None, overtaken=False).outcomes.last is None


def test_refused_calls_are_counted() -> None:
    before = account(opened())
    assert with_refused(before, LEFT) == replace(before, refused=1, outcomes=NONE_YET.with_unserved(LEFT))
