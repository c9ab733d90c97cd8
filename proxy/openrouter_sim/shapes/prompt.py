"""The prompt as the model reads it: text, tokens and cache marks."""

from __future__ import annotations

from openrouter_sim.base import tokens
from openrouter_sim.base.errors import bad_request
from openrouter_sim.base.jsonio import JsonObject, dumps
from openrouter_sim.calls.call import SimRequest
from openrouter_sim.calls.prompt_cache import Segment
from openrouter_sim.calls.scenario import Scenario

_TEXT_TYPES = {"text", "input_text", "output_text"}
_IMAGE_TYPES = {"image", "image_url", "input_image"}


class SimPrompt:
    """Collects the segments of one request, counted for a model of one family."""

    def __init__(self, scenario: Scenario, family: str = "") -> None:
        self.segments: list[Segment] = []
        self._scenario = scenario
        self._family = family

    def add(self, text: str, *, extra: int = 0, mark: str | None = None) -> None:
        """Add a text, and the `extra` tokens that its template adds."""
        count = tokens.count(text, self._scenario.tokenizer, self._family)
        self.segments.append(Segment(text, count + extra, mark))

    def add_message(self, role: str, content: object) -> str:
        """Add a message of text or parts; return its text."""
        if content is None:
            content = ""
        if isinstance(content, str):
            self.add(f"{role}\n{content}", extra=tokens.MESSAGE_TOKENS)
            return content
        if not isinstance(content, list):
            raise bad_request("content: expected a string or a list of parts")
        self.add(role, extra=tokens.MESSAGE_TOKENS)
        return "\n".join(filter(None, (self._add_part(part) for part in content)))

    def add_tools(self, tools: object) -> None:
        """Add tool definitions, as the template re-serialises them."""
        if not tools:
            return
        if not isinstance(tools, list):
            raise bad_request("tools: expected a list")
        self.add("", extra=tokens.TOOL_PROMPT_TOKENS.get(self._family, tokens.OTHER_TOOL_PROMPT_TOKENS))
        for tool in tools:
            if not isinstance(tool, dict):
                raise bad_request("tools: expected objects")
            self.add(self.to_text(tool), extra=tokens.TOOL_TOKENS, mark=mark_of(tool))

    def add_object(self, value: object) -> None:
        """Add a value that the model reads as JSON, if there is one."""
        if value:
            self.add(self.to_text(value), extra=tokens.MESSAGE_TOKENS)

    def mark_last(self, mark: str | None) -> None:
        """Set a breakpoint at the end of the prompt (`cache_control` of the whole request)."""
        if mark is not None and self.segments:
            last = self.segments[-1]
            self.segments[-1] = Segment(last.text, last.tokens, mark)

    def to_text(self, value: object) -> str:
        """Return a value as the JSON text that a template writes."""
        return dumps(value, indent=4 if self._scenario.tools_indent else None)

    def _add_part(self, part: object) -> str:
        if isinstance(part, str):
            self.add(part)
            return part
        if not isinstance(part, dict):
            raise bad_request("content: expected parts that are objects")
        mark, kind = mark_of(part), part.get("type")
        if kind in _TEXT_TYPES and isinstance(part.get("text"), str):
            self.add(part["text"], mark=mark)
            return str(part["text"])
        if kind in _IMAGE_TYPES:
            self.segments.append(Segment(dumps(part), tokens.IMAGE_TOKENS, mark))
            return ""
        self.add(dumps({name: value for name, value in part.items() if name != "cache_control"}), mark=mark)
        return _inner_text(part)


def request_of(
    body: JsonObject, prompt: SimPrompt, last: tuple[str, str], scenario: Scenario, *bounds: str
) -> SimRequest:
    """Return the request of a body whose prompt is read, with its last text and role, and the names of its output bounds.

    Raises:
        ApiError: 400 for a bound that is not a positive integer.
    """
    prompt.mark_last(mark_of(body))
    return SimRequest(body, body.get("stream") is True, bound_of(body, scenario, *bounds), prompt.segments, *last)


def mark_of(part: JsonObject) -> str | None:
    """Return the lifetime of the cache breakpoint that a block sets: `5m`, `1h`, or None."""
    control = part.get("cache_control")
    if not isinstance(control, dict):
        return None
    return "1h" if control.get("ttl") == "1h" else "5m"


def bound_of(body: JsonObject, scenario: Scenario, *names: str) -> int | None:
    """Return the output bound that applies (see `Scenario.bound_choice`); None for none.

    Raises:
        ApiError: 400 for a bound that is not a positive integer.
    """
    read = names if scenario.bound_choice == "smallest" else [name for name in body if name in _BOUNDS]
    bounds = [positive(body, name) for name in read]
    stated = [bound for bound in bounds if bound is not None]
    match scenario.bound_choice:
        case "first":
            return bounds[0] if bounds else None
        case "last":
            return bounds[-1] if bounds else None
        case "largest":
            return None if None in bounds or not bounds else max([*stated, *_budgets(body)])
    return min(stated, default=None)


_BOUNDS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "maxOutputTokens"})
_BUDGETS = {"reasoning": "max_tokens", "thinking": "budget_tokens"}


def positive(body: JsonObject, name: str) -> int | None:
    """Return a field as a positive integer; None if it is absent or null.

    Raises:
        ApiError: 400 for anything else.
    """
    value: object = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise bad_request(f"{name}: expected a positive integer")
    return value


def _budgets(body: JsonObject) -> list[int]:
    budgets = (body[name].get(key) for name, key in _BUDGETS.items() if isinstance(body.get(name), dict))
    return [budget for budget in budgets if type(budget) is int]


def _inner_text(part: JsonObject) -> str:
    content = part.get("content", part.get("output"))
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(item["text"]) for item in content if isinstance(item, dict) and "text" in item)
    return ""
