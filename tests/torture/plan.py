"""The calls of a torture run and its kills, as values drawn by the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

HANG_UP_SHARE = 0.06
"""Share of calls whose client leaves before the end."""
TIMED_SHARE = 4
"""One kill in this many comes from outside, at no particular step."""

STEPS = (
    "reserve",
    "reserve-row",
    "first-byte",
    "send",
    "id",
    "head",
    "relay",
    "post",
    "post-row",
    "end",
    "line",
    "budget-file",
)
"""The steps at which a proxy can be killed, in the order of a call; see `kill`."""

CHEAP = (
    "openai/gpt-4.1-nano",
    "openai/gpt-4.1-mini",
    "mistralai/mistral-small-3.2-24b-instruct",
    "meta-llama/llama-3.3-70b-instruct",
    "deepseek/deepseek-chat-v3.1",
    "google/gemini-2.5-flash",
)
DEAR = ("anthropic/claude-sonnet-4.5", "anthropic/claude-haiku-4.5", "openai/gpt-5-mini", "qwen/qwen3-coder")
EMBEDDING = "openai/text-embedding-3-small"
_WORDS = ("plan", "read", "naïve", "line", "test", "日本", "once", "𝑥²", "more", "held", "file", "\\n", '"', "café")
_TOOL = {
    "name": "shell",
    "description": "Runs a command.",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One call.

    Attributes:
        path: The path below the API base.
        body: The request.
        leaves: When its client hangs up: `waiting`, `head`, `middle`; empty for a client that stays.
    """

    path: str
    body: dict[str, Any]
    leaves: str = ""


@dataclass(frozen=True, slots=True)
class Death:
    """One kill of the proxy.

    Attributes:
        at_call: The number of the call by which it is due.
        step: One of `STEPS`, where the proxy ends itself; empty for a kill from outside.
        when: `before` or `after` the step.
    """

    at_call: int
    step: str = ""
    when: str = ""


def deaths(calls: int, kills: int, random: Random) -> list[Death]:
    """Return kills spread over the calls: most right before or after each step in turn, some at any moment."""
    hooks = [(step, when) for step in STEPS for when in ("before", "after")]
    random.shuffle(hooks)
    gap = calls / (kills + 1)
    due: list[Death] = []
    for number in range(kills):
        at_call = round((number + random.uniform(0.7, 1.3)) * gap)
        if number % TIMED_SHARE == TIMED_SHARE - 1:
            due.append(Death(at_call))
        else:
            step, when = hooks[(number - number // TIMED_SHARE) % len(hooks)]
            due.append(Death(at_call, step, when))
    return due


def limits(random: Random) -> Iterator[Decimal]:
    """Yield limits of accounts. Every other one is so small that it is spent soon."""
    while True:
        yield Decimal(random.choice(("0.2", "1")))
        yield Decimal(random.choice(("0.003", "0.01", "0.03")))


def asks(random: Random) -> Iterator[Ask]:
    """Yield calls without end: all APIs, with and without streams, bounds and tools, short and long."""
    while True:
        path = random.choices(list(_MAKERS), weights=(50, 15, 20, 7, 8))[0]
        body = _MAKERS[path](random)
        if path != "/embeddings" and random.random() < 0.5:
            body["stream"] = True
        leaves = random.choice(("waiting", "head", "middle")) if random.random() < HANG_UP_SHARE else ""
        yield Ask(path, body, leaves)


def _model(random: Random) -> str:
    return random.choice(DEAR) if random.random() < 0.15 else random.choice(CHEAP)


def _text(random: Random) -> str:
    count = random.choices((8, 60, 400, 2500), weights=(50, 35, 12, 3))[0]
    return " ".join(random.choices(_WORDS, k=count))


def _bound(random: Random) -> int | None:
    return None if random.random() < 0.2 else random.choice((16, 32, 64, 128, 300, 1000))


def _chat(random: Random) -> dict[str, Any]:
    messages = [{"role": "system", "content": _text(random)}] if random.random() < 0.5 else []
    for _ in range(random.choice((0, 0, 1, 2))):
        messages += [{"role": "user", "content": _text(random)}, {"role": "assistant", "content": "Done."}]
    messages.append({"role": "user", "content": _text(random)})
    body: dict[str, Any] = {"model": _model(random), "messages": messages}
    if (bound := _bound(random)) is not None:
        body[random.choice(("max_tokens", "max_completion_tokens"))] = bound
    if random.random() < 0.2:
        body["tools"] = [{"type": "function", "function": _TOOL}]
    return body


def _responses(random: Random) -> dict[str, Any]:
    body: dict[str, Any] = {"model": _model(random), "input": _text(random)}
    if (bound := _bound(random)) is not None:
        body["max_output_tokens"] = bound
    if random.random() < 0.2:
        body["tools"] = [{"type": "function", **_TOOL}]
    return body


def _messages(random: Random) -> dict[str, Any]:
    content: object = _text(random)
    if random.random() < 0.3:
        content = [{"type": "text", "text": content, "cache_control": {"type": "ephemeral"}}]
    model = random.choice(DEAR[:2]) if random.random() < 0.4 else _model(random)
    return {"model": model, "max_tokens": _bound(random) or 500, "messages": [{"role": "user", "content": content}]}


def _completions(random: Random) -> dict[str, Any]:
    body: dict[str, Any] = {"model": random.choice(CHEAP), "prompt": _text(random)}
    if (bound := _bound(random)) is not None:
        body["max_tokens"] = bound
    return body


def _embeddings(random: Random) -> dict[str, Any]:
    return {"model": EMBEDDING, "input": [_text(random)[:4000] for _ in range(random.choice((1, 3)))]}


_MAKERS = {
    "/chat/completions": _chat,
    "/responses": _responses,
    "/messages": _messages,
    "/completions": _completions,
    "/embeddings": _embeddings,
}
