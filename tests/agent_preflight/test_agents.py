"""What well-known agents print, in the event types that scripts know."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.agents import OPEN_TOOLS_MAX, AgentOutput
from agent_preflight.usage import read_usage
from tests.support.cases import each


def derive(*events: dict[str, Any]) -> list[dict[str, Any]]:
    output = AgentOutput()
    return [derived for event in events for derived in output.derive(event)]


def claude(kind: str, *blocks: dict[str, Any], message_id: str = "msg_1") -> dict[str, Any]:
    usage = {
        "input_tokens": 10, "cache_read_input_tokens": 800, "cache_creation_input_tokens": 90, "output_tokens": 7,
    }  # fmt: skip
    message = {
        "id": message_id,
        "role": kind,
        "content": list(blocks),
        **({"usage": usage} if kind == "assistant" else {}),
    }
    return {"type": kind, "session_id": "s", "message": message}


def test_claude_code_s_tools_start_and_end_by_name() -> None:
    events = derive(
        claude(
            "assistant", {"type": "text", "text": "x"}, {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}
        ),
        claude("user", {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}),
    )
    assert [(e["type"], e.get("toolName"), e["agent"]) for e in events] == [
        ("tool_execution_start", "Bash", "claude-code"),
        ("usage_claim", None, "claude-code"),
        ("tool_execution_end", "Bash", "claude-code"),
    ]
    assert events[2]["success"] is True


def test_a_tool_that_failed_says_so() -> None:
    (end,) = derive(claude("user", {"type": "tool_result", "tool_use_id": "t1", "is_error": True}))
    assert (end["success"], end["toolName"]) == (False, "tool")


def test_claude_code_s_prompt_tokens_include_the_cached_ones() -> None:
    (claim,) = derive(claude("assistant"))
    usage = read_usage(claim["usage"])
    assert usage is not None
    assert (usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.completion_tokens) == (
        900,
        800,
        90,
        7,
    )


def test_an_answer_printed_in_blocks_is_counted_once() -> None:
    blocks = claude("assistant", {"type": "text"}), claude("assistant", {"type": "text"})
    assert len(derive(*blocks)) == 1
    assert len(derive(*blocks, claude("assistant", message_id="msg_2"))) == 2


def test_claude_code_s_result_is_the_end_of_a_turn_with_its_claim() -> None:
    assert derive({"type": "result", "session_id": "s", "subtype": "success", "total_cost_usd": 0.12}) == [
        {"type": "turn_end", "cost_usd_claim": 0.12, "agent": "claude-code"}
    ]


def test_codex_s_commands_are_tools() -> None:
    item = {"id": "item_1", "type": "command_execution", "command": "ls", "status": "in_progress"}
    events = derive(
        {"type": "thread.started", "thread_id": "t"},
        {"type": "item.started", "item": item},
        {"type": "item.completed", "item": {**item, "status": "failed", "exit_code": 1}},
    )
    assert [(e["type"], e["toolName"]) for e in events] == [
        ("tool_execution_start", "command_execution"),
        ("tool_execution_end", "command_execution"),
    ]
    assert events[1]["success"] is False


def test_a_codex_tool_that_only_completes_started_too() -> None:
    item = {"id": "item_2", "item_type": "mcp_tool_call", "tool": "search", "status": "completed"}
    events = derive({"type": "item.completed", "item": item})
    assert [(e["type"], e["toolName"]) for e in events] == [
        ("tool_execution_start", "search"),
        ("tool_execution_end", "search"),
    ]


def test_codex_s_messages_are_no_tools() -> None:
    assert derive({"type": "item.completed", "item": {"id": "item_3", "type": "agent_message", "text": "hi"}}) == []


def test_codex_s_turns_tell_their_tokens() -> None:
    usage = {"input_tokens": 26549, "cached_input_tokens": 22272, "output_tokens": 1590}
    end, claim = derive({"type": "turn.completed", "usage": usage})
    assert end["type"] == "turn_end"
    assert claim["usage"] == {
        "prompt_tokens": 26549,
        "completion_tokens": 1590,
        "prompt_tokens_details": {"cached_tokens": 22272, "cache_write_tokens": 0},
    }
    assert derive({"type": "turn.failed", "error": {"message": "x"}}) == [{"type": "turn_end", "agent": "codex"}]


def test_pi_s_nested_usage_is_a_claim() -> None:
    usage = {"input": 100, "output": 5, "cacheRead": 800, "cacheWrite": 50, "cost": {"total": 0.01}}
    (claim,) = derive({"type": "message_end", "message": {"role": "assistant", "usage": usage}})
    assert claim["usage"]["prompt_tokens"] == 950
    assert claim["cost_usd_claim"] == 0.01
    assert claim["agent"] == "pi"
    assert derive({"type": "message_end", "message": {"role": "user", "content": []}}) == []


def test_pi_s_tools_are_the_known_events_already() -> None:
    assert derive({"type": "tool_execution_start", "toolName": "bash", "toolCallId": "1"}) == []


def test_mini_swe_agent_s_steps() -> None:
    assert derive({"type": "raw", "data": "mini-swe-agent (step 3, $0.05):"}) == [
        {"type": "turn_end", "turn": 3, "cost_usd_claim": 0.05, "agent": "mini-swe-agent"}
    ]


@each(
    "event",
    [
        {"type": "raw", "data": "hello"},
        {"type": "raw", "data": 5},
        {"type": "assistant", "content": "x"},
        {"type": "assistant", "session_id": "s", "message": None},
        {"type": "user", "session_id": "s", "message": []},
        {"type": "assistant", "session_id": "s", "message": {"content": [3, None, {"type": "text"}]}},
        {"type": "item.started", "item": 5},
        {"type": "message_end", "message": {"role": "assistant", "usage": 3}},
        {},
    ],
)
def test_other_events_follow_into_nothing(event: dict[str, Any]) -> None:
    assert derive(event) == []


def test_counts_that_are_none_read_as_nothing() -> None:
    _, claim = derive({"type": "turn.completed", "usage": {"input_tokens": "9", "output_tokens": -1}})
    assert claim["usage"]["prompt_tokens"] == claim["usage"]["completion_tokens"] == 0


def test_tools_that_never_end_are_forgotten() -> None:
    output = AgentOutput()
    for number in range(OPEN_TOOLS_MAX + 5):
        output.derive({"type": "item.started", "item": {"id": str(number), "type": "web_search"}})
    (start, _) = output.derive({"type": "item.completed", "item": {"id": "0", "type": "web_search"}})
    assert start["type"] == "tool_execution_start"


KEYS = ("type", "message", "content", "usage", "item", "id", "name", "input", "cost", "role", "session_id", "data")
KINDS = ("assistant", "user", "result", "item.started", "item.completed", "turn.completed", "message_end", "raw")
ODD: list[Any] = [None, True, 5, "x", [], [3], [{"type": "tool_use"}], {}, {"usage": []}, {"content": {}}, {"id": {}}]


@given(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(ODD), max_size=6), st.sampled_from(KINDS))
def test_an_unusual_event_raises_nothing(event: dict[str, Any], kind: str) -> None:
    AgentOutput().derive({**event, "type": kind, "session_id": "s"})
