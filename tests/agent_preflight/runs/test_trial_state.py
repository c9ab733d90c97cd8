"""The states of a trial, how it can end, and what is owed from each state."""

from agent_preflight.runs.trial_state import TIME_LIMIT, By, CleanUp, Ending, State, error_of, owed, worst
from agent_preflight.sandboxes.interface import Exit
from preflight_proxy.core.errors import OperatingError
from tests.support.cases import each


def test_the_states_come_in_one_order() -> None:
    assert sorted(State) == list(State)
    assert State.PLANNED < State.SUMMARISED


def test_a_trial_that_was_only_planned_owes_nothing() -> None:
    assert owed(State.PLANNED) == ()


def test_a_key_that_exists_is_read_and_deleted_even_if_no_account_was_opened() -> None:
    assert owed(State.PROVISIONED) == (CleanUp.KEY_USAGE, CleanUp.SUB_KEY)


@each("reached", [State.OPENED, State.CREATED, State.RUNNING])
def test_from_an_open_account_on_everything_is_owed_and_money_comes_first(reached: State) -> None:
    assert owed(reached) == tuple(CleanUp)
    assert owed(reached)[0] is CleanUp.FREEZE
    assert owed(reached)[-1] is CleanUp.SUB_KEY


@each(
    "ending, exit_, error",
    [
        (Ending(By.AGENT), Exit(0), None),
        (Ending(By.AGENT), Exit(3), "the agent ended with exit code 3"),
        (Ending(By.AGENT), Exit(137, out_of_memory=True), "the agent was killed: out of memory"),
        (Ending(By.AGENT), Exit(159, bad_system_call=True), "32-bit programs do not run in a trial"),
        (Ending(By.AGENT), Exit(159), "the agent ended with exit code 159"),
        (Ending(By.EJECTED, "idle"), Exit(159, bad_system_call=True), "ejected: idle"),
        (Ending.broken(OperatingError("the disk is full")), None, "the disk is full"),
        (Ending.broken(KeyError("x")), None, "KeyError: 'x'"),
        (Ending.broken(OperatingError("no key"), By.PROVISIONING), None, "provisioning_failed: no key"),
        (Ending(By.AGENT), Exit(None), "the agent is gone and its exit code is lost"),
        (Ending(By.AGENT_END), Exit(143), None),
        (Ending(By.AGENT_END, "its own error"), Exit(0), "its own error"),
        (Ending(By.AGENT, "its own error"), Exit(0), "its own error"),
        (Ending(By.AGENT, "its own error"), Exit(3), "the agent ended with exit code 3"),
        (Ending(By.EJECTED, "idle"), Exit(137), "ejected: idle"),
        (TIME_LIMIT, None, "ejected: time limit"),
        (Ending(By.PROVISIONING, "no"), None, "provisioning_failed: no"),
        (Ending(By.CALLBACK, "boom"), Exit(0), "boom"),
        (Ending(By.ERROR), None, "error"),
    ],
)
def test_an_exit_code_counts_only_if_the_agent_ended_by_itself(ending: Ending, exit_: Exit | None, error: str) -> None:
    assert error_of(ending, exit_) == error


def test_an_ending_is_told_in_one_word() -> None:
    assert Ending(By.EJECTED, "x").outcome("ejected: x") == "ejected"
    assert Ending(By.AGENT).outcome(None) == "done"
    assert Ending(By.AGENT).outcome("exit 3") == "failed"


def test_the_worst_step_counts() -> None:
    assert worst({}) == "ok"
    assert worst({"a": "ok", "b": "unverified"}) == "unverified"
    assert worst({"a": "failed", "b": "unverified"}) == "failed"
