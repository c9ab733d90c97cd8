"""Derives events of known types from the output of well-known agents, for scripts and policies.

Each of these agents prints events of its own kind. The derived types are `tool_execution_start`, `tool_execution_end`,
`turn_end` and `usage_claim`. The agent's own event is kept unchanged. The agent is recognised by the form of each event, so
no option names it. Nothing is derived from unknown events.

Tokens and dollars in these events are what the agent claims. Costs are counted by the proxy.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Event = Mapping[str, Any]
Derived = dict[str, Any]

OPEN_TOOLS_MAX = 1000
"""How many running tools and messages are remembered. An agent that never ends a tool must not fill the memory."""

TOOL_ITEMS = ("command_execution", "file_change", "mcp_tool_call", "web_search")
"""The types of Codex's items that are tool calls."""

MINI_STEP = re.compile(r"mini-swe-agent \(step (\d{1,9}), \$(\d{1,9}\.\d{1,9})\)")


class AgentOutput:
    """Derives events from those of one agent. It remembers the tools that run, and the messages whose usage it has reported."""

    def __init__(self) -> None:
        self._tools: OrderedDict[str, str] = OrderedDict()
        self._reported_messages: OrderedDict[str, None] = OrderedDict()

    def derive(self, event: Event) -> list[Derived]:
        """Return the events that are derived from one event, in order. Each names the agent in `agent`. Never raises."""
        kind = event.get("type")
        if not isinstance(kind, str) or (recogniser := RECOGNISERS.get(kind)) is None:
            return []
        agent, recognise = recogniser
        return [{**each, "agent": agent} for each in recognise(self, event)]

    def _claude_code(self, event: Event) -> Iterator[Derived]:
        """Source: code.claude.com/docs/en/headless, ``--output-format stream-json``, read 2026-10."""
        if not isinstance(event.get("session_id"), str):
            return
        message = _mapping(event.get("message"))
        match event.get("type"):
            case "assistant":
                yield from (self._start(b.get("id"), b.get("name")) for b in _blocks(message, "tool_use"))
                yield from self._claude_usage(message)
            case "user":
                for block in _blocks(message, "tool_result"):
                    yield self._end(block.get("tool_use_id"), success=block.get("is_error") is not True)
            case "result":
                yield {"type": "turn_end", "cost_usd_claim": event.get("total_cost_usd")}

    def _claude_usage(self, message: Event) -> Iterator[Derived]:
        """Report the usage of an answer once: each of its blocks is an event that has the usage of the whole answer."""
        usage, message_id = _mapping(message.get("usage")), str(message.get("id"))
        if message_id not in self._reported_messages and "input_tokens" in usage:
            _remember(self._reported_messages, message_id, None)
            read, written = (_count(usage.get(f"cache_{kind}_input_tokens")) for kind in ("read", "creation"))
            prompt = _count(usage.get("input_tokens")) + read + written
            yield _claim(prompt, _count(usage.get("output_tokens")), read, written)

    def _codex(self, event: Event) -> Iterator[Derived]:
        """Source: developers.openai.com/codex/noninteractive, ``codex exec --json``, read 2026-10."""
        item = _mapping(event.get("item"))
        kind, item_id = item.get("type") or item.get("item_type"), item.get("id")
        match event.get("type"):
            case "item.started" if kind in TOOL_ITEMS:
                yield self._start(item_id, item.get("tool") or kind)
            case "item.completed" if kind in TOOL_ITEMS:
                if str(item_id) not in self._tools:
                    yield self._start(item_id, item.get("tool") or kind)
                yield self._end(item_id, success=item.get("status") != "failed")
            case "turn.completed":
                usage = _mapping(event.get("usage"))
                prompt, output, cached = (_count(usage.get(f"{n}_tokens")) for n in ("input", "output", "cached_input"))
                yield {"type": "turn_end"}
                yield _claim(prompt, output, cached, 0)
            case "turn.failed":
                yield {"type": "turn_end"}

    def _pi(self, event: Event) -> Iterator[Derived]:
        """Derive the usage only: pi's tool events have the known types already.

        Source: github.com/earendil-works/pi, packages/coding-agent/docs/rpc.md, read 2026-10.
        """
        message = _mapping(event.get("message"))
        usage = _mapping(message.get("usage"))
        if event.get("type") == "message_end" and message.get("role") == "assistant" and "input" in usage:
            prompt, output, read, written = (
                _count(usage.get(n)) for n in ("input", "output", "cacheRead", "cacheWrite")
            )
            yield _claim(prompt + read + written, output, read, written, _mapping(usage.get("cost")).get("total"))

    def _mini_swe_agent(self, event: Event) -> Iterator[Derived]:
        """Read the line that it prints before each step, with the number of calls and the dollars so far."""
        data = event.get("data")
        if event.get("type") == "raw" and isinstance(data, str) and (step := MINI_STEP.search(data)):
            yield {"type": "turn_end", "turn": int(step[1]), "cost_usd_claim": float(step[2])}

    def _start(self, call_id: object, name: object) -> Derived:
        tool = name if isinstance(name, str) and name else "tool"
        _remember(self._tools, str(call_id), tool)
        return {"type": "tool_execution_start", "toolName": tool, "toolCallId": str(call_id)}

    def _end(self, call_id: object, *, success: bool) -> Derived:
        tool = self._tools.pop(str(call_id), "tool")
        return {"type": "tool_execution_end", "toolName": tool, "toolCallId": str(call_id), "success": success}


RECOGNISERS: dict[str, tuple[str, Callable[[AgentOutput, Event], Iterator[Derived]]]] = {
    **dict.fromkeys(("assistant", "user", "result"), ("claude-code", AgentOutput._claude_code)),
    **dict.fromkeys(("item.started", "item.completed", "turn.completed", "turn.failed"), ("codex", AgentOutput._codex)),
    "message_end": ("pi", AgentOutput._pi),
    "raw": ("mini-swe-agent", AgentOutput._mini_swe_agent),
}
"""The reader of each type of event, with its agent. No type is of two agents."""


def _claim(prompt: int, completion: int, cached: int, written: int, cost_usd: object = None) -> Derived:
    """Return a claim with tokens as OpenRouter counts them: the prompt includes those read from and written to a cache."""
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    return {"type": "usage_claim", "usage": usage, **({} if cost_usd is None else {"cost_usd_claim": cost_usd})}


def _blocks(message: Event, kind: str) -> list[Event]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if isinstance(block, Mapping) and block.get("type") == kind]


def _mapping(value: object) -> Event:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def _remember(memory: OrderedDict[str, Any], name: str, value: object) -> None:
    memory[name] = value
    while len(memory) > OPEN_TOOLS_MAX:
        memory.popitem(last=False)
