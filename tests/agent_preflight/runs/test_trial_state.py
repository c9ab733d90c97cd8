"""The states of a trial, the reasons of its end, and the steps of its clean-up."""

from agent_preflight.runs.trial_state import (
    TIME_LIMIT,
    CleanUpStep,
    Ender,
    EndReason,
    TrialState,
    error_of,
    owed,
    unverified_line,
    worst,
)
from agent_preflight.sandboxes.interface import Exit
from preflight_proxy.core.errors import OperatingError
from tests.support.cases import each


def test_the_states_come_in_one_order() -> None:
    assert sorted(TrialState) == list(TrialState)
    assert TrialState.PLANNED < TrialState.SUMMARISED


def test_a_trial_that_was_only_planned_owes_nothing() -> None:
    assert owed(TrialState.PLANNED) == ()


def test_a_key_that_exists_is_read_and_deleted_even_if_no_account_was_opened() -> None:
    assert owed(TrialState.PROVISIONED) == (CleanUpStep.KEY_USAGE, CleanUpStep.SUB_KEY)


@each("reached", [TrialState.OPENED, TrialState.CREATED, TrialState.RUNNING])
def test_from_an_open_account_on_everything_is_owed_and_money_comes_first(reached: TrialState) -> None:
    assert owed(reached) == tuple(CleanUpStep)
    assert owed(reached)[0] is CleanUpStep.FREEZE
    assert owed(reached)[-1] is CleanUpStep.SUB_KEY


@each(
    "ending, exit_, error",
    [
        (EndReason(Ender.AGENT), Exit(0), None),
        (EndReason(Ender.AGENT), Exit(3), "the agent ended with exit code 3"),
        (EndReason(Ender.AGENT), Exit(137, out_of_memory=True), "the agent was killed: out of memory"),
        (EndReason(Ender.AGENT), Exit(159, bad_system_call=True), "32-bit programs do not run in a trial"),
        (EndReason(Ender.AGENT), Exit(159), "the agent ended with exit code 159"),
        (EndReason(Ender.EJECTED, "idle"), Exit(159, bad_system_call=True), "ejected: idle"),
        (EndReason.broken(OperatingError("the disk is full")), None, "the disk is full"),
        (EndReason.broken(KeyError("x")), None, "KeyError: 'x'"),
        (EndReason.broken(OperatingError("no key"), Ender.PROVISIONING), None, "provisioning_failed: no key"),
        (EndReason(Ender.AGENT), Exit(None), "the agent is gone and its exit code is lost"),
        (EndReason(Ender.AGENT_END), Exit(143), None),
        (EndReason(Ender.AGENT_END, "its own error"), Exit(0), "its own error"),
        (EndReason(Ender.AGENT, "its own error"), Exit(0), "its own error"),
        (EndReason(Ender.AGENT, "its own error"), Exit(3), "the agent ended with exit code 3"),
        (EndReason(Ender.EJECTED, "idle"), Exit(137), "ejected: idle"),
        (TIME_LIMIT, None, "ejected: time limit"),
        (EndReason(Ender.PROVISIONING, "no"), None, "provisioning_failed: no"),
        (EndReason(Ender.CALLBACK, "boom"), Exit(0), "boom"),
        (EndReason(Ender.ERROR), None, "error"),
    ],
)
def test_an_exit_code_counts_only_if_the_agent_ended_by_itself(
    ending: EndReason, exit_: Exit | None, error: str
) -> None:
    assert error_of(ending, exit_) == error


def test_an_ending_is_reported_in_one_word() -> None:
    assert EndReason(Ender.EJECTED, "x").outcome("ejected: x") == "ejected"
    assert EndReason(Ender.AGENT).outcome(None) == "done"
    assert EndReason(Ender.AGENT).outcome("exit 3") == "failed"


def test_the_worst_step_counts() -> None:
    assert worst({}) == "ok"
    assert worst({"a": "ok", "b": "unverified"}) == "unverified"
    assert worst({"a": "failed", "b": "unverified"}) == "failed"


CLEAN = {"freeze": "ok", "sub_key": "ok"}
KEY_LEFT = {"freeze": "ok", "sub_key": "unverified"}


def test_keys_that_were_not_seen_to_be_deleted_are_counted() -> None:
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
