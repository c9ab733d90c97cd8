"""An agent that follows a session: it appends the reply and the tool's result, and calls again."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from tests.usable.sessions import Session, Turn

WRITES_ON_REQUEST = ("anthropic/",)
"""Models whose agents mark what is to be cached: the system text and the newest message."""
_MARK = {"type": "ephemeral"}
_LINE = (
    "    if found is None or len(found) != expected_count: raise ValueError(f'{name}: {found!r} is not {expected!r}')\n"
)
_PAGE = _LINE * 4_000

Json = dict[str, Any]


def text(size: int, label: str) -> str:
    """Text of `size` bytes that begins with `label`."""
    return f"{label}\n{_PAGE}"[:size]


class Agent:
    """One conversation after another, until a call is refused.

    Args:
        client: An open HTTP client.
        url: Of the chat completions.
        token: The trial token.
        model: The model's id.
        session: What to do.
        name: Makes its tasks different from those of other agents.
    """

    def __init__(
        self, client: aiohttp.ClientSession, url: str, token: str, model: str, session: Session, name: str
    ) -> None:
        self._client = client
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session = session
        self._name = name
        self._marks = model.startswith(WRITES_ON_REQUEST)
        self._fixed: Json = {"model": model}
        if session.bound is not None:
            self._fixed["max_tokens"] = session.bound
        if session.tools_bytes:
            self._fixed["tools"] = [_tool(number, size) for number, size in enumerate(session.tools_bytes)]
        self.calls = 0
        self.cut_short = 0
        """Answers that ended at their bound."""

    async def run(self, conversations_max: int | None = None) -> bool:
        """Work until a call is refused, and return True; or return False after `conversations_max` conversations."""
        number = 0
        while conversations_max is None or number < conversations_max:
            if not await self._conversation(f"{self._name} task {number}"):
                return True
            number += 1
        return False

    async def _conversation(self, label: str) -> bool:
        """One conversation; False if a call of it was refused."""
        messages = [
            _message("system", text(self._session.system_bytes, "You are an agent."), marked=self._marks),
            _message("user", text(self._session.task_bytes, label)),
        ]
        for number, turn in enumerate(self._session.turns):
            reply = await self._call(messages, turn)
            if reply is None:
                return False
            messages += self._results(reply, turn, f"{label} step {number}")
        return True

    def _results(self, reply: Json, turn: Turn, label: str) -> list[Json]:
        result = text(turn.result_bytes, label)
        calls = reply.get("tool_calls") or []
        if not calls:
            return [reply, _message("user", result)]
        return [reply, {**_message("tool", result), "tool_call_id": calls[0]["id"]}]

    async def _call(self, messages: list[Json], turn: Turn) -> Json | None:
        """Make one call; return the reply, or None if the call was refused."""
        sent = [*messages[:-1], _asking(messages[-1], self._directive(turn), marked=self._marks)]
        body = {**self._fixed, "messages": sent}
        async with self._client.post(self._url, json=body, headers=self._headers) as response:
            answer = await response.json()
            if response.status in (400, 401, 402):
                return None
            response.raise_for_status()
        self.calls += 1
        messages[-1] = _asking(messages[-1], self._directive(turn), marked=False)
        (choice,) = answer["choices"]
        self.cut_short += choice["finish_reason"] == "length"
        reply = {key: value for key, value in choice["message"].items() if key in ("role", "content", "tool_calls")}
        return {key: value for key, value in reply.items() if value is not None} | {"content": reply["content"] or ""}

    def _directive(self, turn: Turn) -> str:
        """Return the directive for the simulated model: how many tokens, and which tool call."""
        if not self._session.tools_bytes:
            return f"[[sim tokens={turn.reply_tokens}]]"
        arguments = json.dumps({"file": text(turn.arguments_bytes, "").replace("'", "").strip()})
        return f"[[sim tokens={turn.reply_tokens} tool=tool_0 args='{arguments}']]"


def _message(role: str, content: str, *, marked: bool = False) -> Json:
    part: Json = {"type": "text", "text": content}
    return {"role": role, "content": [{**part, "cache_control": _MARK} if marked else part]}


def _asking(message: Json, directive: str, *, marked: bool) -> Json:
    """The newest message with the simulator's directive at its end, once, and with the mark if it is to be cached."""
    (part,) = message["content"]
    words = part["text"] if part["text"].endswith(directive) else f"{part['text']}\n{directive}"
    return {**message, "content": _message("", words, marked=marked)["content"]}


def _tool(number: int, size: int) -> Json:
    parameters = {"type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"]}
    tool: Json = {"name": f"tool_{number}", "description": "", "parameters": parameters}
    rest = size - len(json.dumps(tool))
    return {"type": "function", "function": {**tool, "description": text(max(1, rest), "Does one thing.")}}
