"""The text that the model answers: by a directive, by a rule, or filler."""

from __future__ import annotations

import re
from itertools import cycle, islice
from random import Random

import msgspec

from openrouter_sim.base import tokens
from openrouter_sim.calls.scenario import Rule, Scenario, ToolCall

DEFAULT_TOKENS = (40, 60)
_WORDS = ["plan", "was", "read", "each", "line", "that", "held", "true", "then", "test", "once", "more"]
_DIRECTIVE = re.compile(r"\[\[sim\s+([^\]]*(?:\](?!\])[^\]]*)*)\]\]")
_SETTING = re.compile(r"""(\w+)=('[^']*'|"[^"]*"|\S+)""")


class SimReply(msgspec.Struct, frozen=True):
    """A planned completion: `tokens` includes `reasoning`; `pieces` join to the text."""

    tokens: int
    reasoning: int
    pieces: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...]
    finish: str

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    @property
    def parts(self) -> list[ToolCall | str]:
        """The output in order: `reasoning`, `text`, tool calls. A reply without any tool call has a text, if only an empty one."""
        text = ["text"] if self.pieces or not self.tool_calls else []
        return [*(["reasoning"] if self.reasoning else []), *text, *self.tool_calls]


def directive(text: str) -> tuple[Rule, str | None] | None:
    """Return the rule and the fault's name that `[[sim name=value …]]` in a message asks for; None without one.

    Names: `tokens` (N or N-M), `reasoning`, `tool`, `args` (JSON, in single quotes), `text` (in quotes), `finish`,
    `fault` (by name, with its default parameters).

    Raises:
        ValueError: a number is invalid.
    """
    match = None if "[[sim" not in text else _DIRECTIVE.search(text)
    if match is None:
        return None
    settings = {name: value.strip("'\"") if value[0] in "'\"" else value for name, value in _SETTING.findall(match[1])}
    low, _, high = settings.get("tokens", "").partition("-")
    tool = settings.get("tool")
    rule = Rule(
        tokens=None if not low else (int(low), int(high or low)),
        reasoning=int(settings.get("reasoning", 0)),
        text=settings.get("text"),
        tool_calls=(ToolCall(tool, settings.get("args", "{}")),) if tool else (),
        finish=settings.get("finish"),
    )
    return rule, settings.get("fault")


def compose(rule: Rule | None, scenario: Scenario, random: Random) -> SimReply:
    """Return the reply of a rule, or filler, before any bound cuts it."""
    rule = rule or Rule(tokens=DEFAULT_TOKENS)
    call_tokens = sum(tokens.count(call.name + call.arguments) for call in rule.tool_calls)
    total = _total_tokens(rule, call_tokens, random)
    visible = max(0, total - rule.reasoning - call_tokens)
    text = filler(visible) if rule.text is None else rule.text
    if rule.text is None and rule.tool_calls:
        text = ""
    finish = rule.finish or ("tool_calls" if rule.tool_calls else "stop")
    return SimReply(
        total, min(rule.reasoning, total), _pieces(text, scenario.tokens_per_chunk), rule.tool_calls, finish
    )


def cut(reply: SimReply, bound: int, scenario: Scenario) -> SimReply:
    """Return the reply as a provider ends it at `bound` tokens: shorter, without unfinished calls, finish `length`."""
    if reply.tokens <= bound:
        return reply
    reasoning = min(reply.reasoning, bound)
    share = (bound - reasoning) / max(1, reply.tokens - reply.reasoning)
    text = reply.text[: int(len(reply.text) * share)]
    return SimReply(bound, reasoning, _pieces(text, scenario.tokens_per_chunk), (), "length")


def filler(count: int) -> str:
    """Return readable text of about `count` tokens, always the same."""
    return " ".join(islice(cycle(_WORDS), count))


def _total_tokens(rule: Rule, call_tokens: int, random: Random) -> int:
    match rule.tokens:
        case None if rule.text is not None or rule.tool_calls:
            return max(1, rule.reasoning + call_tokens + tokens.count(rule.text or ""))
        case None:
            return max(rule.reasoning + 1, random.randint(*DEFAULT_TOKENS))
        case (low, high):
            return random.randint(low, high)
        case exact:
            return exact


def _pieces(text: str, tokens_per_chunk: int) -> tuple[str, ...]:
    size = max(1, tokens_per_chunk * 4)
    return tuple(text[i : i + size] for i in range(0, len(text), size))
