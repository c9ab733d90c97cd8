"""What is not verified of a clean-up is told in a line, with what to do."""

from agent_preflight.runs.trial_state import CleanUp
from agent_preflight.runs.unverified import SUB_KEY, unverified_line

CLEAN = {"freeze": "ok", "sub_key": "ok"}
KEY_LEFT = {"freeze": "ok", "sub_key": "unverified"}


def test_keys_that_were_not_seen_to_be_deleted_are_counted() -> None:
    assert CleanUp.SUB_KEY.value == SUB_KEY
    assert unverified_line([KEY_LEFT] * 5 + [CLEAN]) == (
        "The clean-up of 5 trials is not verified (5 keys were not seen to be deleted; they end by themselves within 7 days). "
        "Run `agent-preflight sweep`."
    )
    assert unverified_line([KEY_LEFT], " --runs-dir x") == (
        "The clean-up of 1 trial is not verified (1 key was not seen to be deleted; it ends by itself within 7 days). "
        "Run `agent-preflight sweep --runs-dir x`."
    )


def test_other_steps_are_named() -> None:
    assert unverified_line([{"settle": "unverified"}, {"agent": "failed", "settle": "failed"}]) == (
        "The clean-up of 2 trials is not verified (not verified: settle, agent). Run `agent-preflight sweep`."
    )
    both = unverified_line([{"settle": "unverified", "sub_key": "unverified"}])
    assert both is not None
    assert "within 7 days; also not verified: settle)" in both


def test_a_clean_end_says_nothing() -> None:
    assert unverified_line([CLEAN, {}]) is None
