"""What an agent says of its own end."""

from typing import Any

from agent_preflight.runner.agent_end import ERROR_CHARS_MAX, AgentEnd
from tests.support.cases import each

END = {"type": "agent_end"}
RETRIES = {"type": "auto_retry_start", "attempt": 1, "delayMs": 2000}
GIVES_UP = {"type": "auto_retry_end", "success": False}
STARTS = {"type": "agent_start"}
COMPACTS = {"type": "compaction_start", "reason": "overflow"}
IN_VAIN = {"type": "compaction_end", "reason": "overflow", "willRetry": False}
COMPACTED = {"type": "compaction_end", "reason": "overflow", "willRetry": True}


def after(*events: dict[str, Any]) -> AgentEnd:
    end = AgentEnd()
    for event in events:
        end.take(event)
    return end


@each(
    "events, said",
    [
        ([], False),
        ([STARTS], False),
        ([END], True),
        ([{**END, "status": "done"}, END], True),
        ([END, RETRIES], False),
        ([END, RETRIES, {**GIVES_UP, "success": True}], False),
        ([END, STARTS], False),
        ([{**END, "willRetry": True}], False),
        ([END, {**END, "willRetry": True}], False),
        ([END, COMPACTS], False),
        ([END, COMPACTS, COMPACTED], False),
        ([END, RETRIES, STARTS, END], True),
        ([END, COMPACTS, COMPACTED, STARTS, END], True),
        ([{**END, "willRetry": True}, RETRIES, STARTS, END], True),
    ],
)
def test_an_end_holds_until_the_agent_goes_on(events: list[dict[str, Any]], said: bool) -> None:
    assert after(*events).said is said


@each("event", [RETRIES, STARTS, COMPACTS, COMPACTED, {**END, "willRetry": True}])
def test_an_end_before_a_retry_that_comes_to_nothing_is_one_again(event: dict[str, Any]) -> None:
    given_up = after(END, event, GIVES_UP).said, after(END, event, IN_VAIN).said
    assert given_up == ((False, False) if event is STARTS else (True, True))


@each("event", [GIVES_UP, IN_VAIN, COMPACTED, RETRIES, COMPACTS])
def test_without_an_end_nothing_ends_by_a_retry_or_a_compaction(event: dict[str, Any]) -> None:
    assert not after(STARTS, event).said
    assert not after(STARTS, event, GIVES_UP, IN_VAIN).said


@each(
    "event",
    [
        {"type": "compaction_start", "reason": "threshold"},
        {"type": "auto_retry_end", "success": True},
        {"type": "turn_start"},
        {"type": "message_start"},
        {"type": "raw", "data": "auto_retry_start"},
        {"type": "tool_execution_start"},
        *({**END, "willRetry": value} for value in (False, None, 1, "true", [True])),
    ],
)
def test_nothing_else_takes_an_end_back(event: dict[str, Any]) -> None:
    assert after(END, event).said


def test_each_change_is_told_once() -> None:
    end = AgentEnd()
    told = [end.take(event) for event in (STARTS, END, END, RETRIES, STARTS, END)]
    assert told == [False, True, False, True, False, True]


def spoken(role: str = "assistant", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": [], **fields}


FAILED = spoken(stopReason="error", errorMessage="402 Budget\n spent.")
FINE = spoken(stopReason="stop")
ODD_MESSAGES: list[Any] = [None, "error", {}, [], ["x", None], [{"stopReason": "error"}]]
TOLD = "the agent's last message is an error: 402 Budget spent."


@each(
    "events, error",
    [
        ([END], ""),
        ([{**END, "messages": [FINE]}], ""),
        ([{**END, "messages": [spoken("user"), FAILED]}], TOLD),
        ([{**END, "messages": [FINE, FAILED, spoken("toolResult")]}], TOLD),
        ([{**END, "messages": [FAILED, FINE]}], ""),
        ([{**END, "messages": [FAILED]}, {**END, "messages": [FINE]}], ""),
        ([{**END, "messages": [FAILED]}, RETRIES, STARTS], TOLD),
        ([{"type": "message_end", "message": FAILED}], TOLD),
        ([{"type": "message_end", "message": FAILED}, END], TOLD),
        ([{"type": "message_end", "message": FAILED}, {"type": "message_end", "message": FINE}, END], ""),
        ([{"type": "message_end", "message": {**FAILED, "role": "user"}}], ""),
        ([{"type": "message_update", "message": FAILED}], ""),
        ([{**END, "messages": [spoken(stopReason="error")]}], "the agent's last message is an error: error"),
        ([{**END, "messages": [spoken(stopReason="aborted")]}], "the agent's last message is an error: aborted"),
        ([{**END, "messages": [spoken(stopReason="error", errorMessage=["x"])]}], f"{TOLD.split(':')[0]}: error"),
        *(([{**END, "messages": odd}], "") for odd in ODD_MESSAGES),
    ],
)
def test_the_error_is_that_of_the_agents_last_message(events: list[dict[str, Any]], error: str) -> None:
    assert after(*events).error == error


@each("text", ["x" * 10**6, " " * 10**6 + "x", "x\r\n" * 10**5, "ejected: budget"])
def test_an_error_is_capped_and_never_passes_for_our_own(text: str) -> None:
    error = after({**END, "messages": [spoken(stopReason="error", errorMessage=text)]}).error
    assert len(error) <= ERROR_CHARS_MAX
    assert error.startswith("the agent's last message is an error: ")
    assert error.isprintable()


@each("event", [{"type": "agent_end", "messages": [[[]]]}, {"type": "message_end", "message": []}, {"type": ""}, {}])
def test_no_event_makes_it_raise(event: dict[str, Any]) -> None:
    assert after(event).error == ""
