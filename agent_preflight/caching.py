"""Prompt caching from an agent's side: requests whose beginning stays the same, and figures that show whether it helped.

Source of the minimum sizes: openrouter.ai/docs/features/prompt-caching and the page of Anthropic that it names, read 2026-10.
"""

import copy
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_preflight.models import CacheStats
from agent_preflight.usage import TokenUsage, add_usage, read_usage

__all__ = [
    "ANTHROPIC_MIN_CACHE_TOKENS",
    "GOOGLE_MIN_CACHE_TOKENS",
    "OPENAI_MIN_CACHE_TOKENS",
    "CacheMetrics",
    "PromptBuilder",
    "detect_provider",
    "format_cache_report",
    "min_cache_tokens",
    "stable_system_prompt",
]

logger = logging.getLogger(__name__)

OPENAI_MIN_CACHE_TOKENS = 1024
"""The shortest beginning of a prompt that OpenAI's models cache, in tokens."""
GOOGLE_MIN_CACHE_TOKENS = 4096
"""The shortest beginning of a prompt that Google's models cache, in tokens."""
DEFAULT_MIN_CACHE_TOKENS = 1024

_VERSIONED = {
    "opus-4.6": 4096,
    "opus-4.5": 4096,
    "haiku-4.5": 4096,
    "sonnet-4.6": 2048,
    "haiku-3.5": 2048,
    "sonnet-4.5": 1024,
    "opus-4.1": 1024,
    "sonnet-3.7": 1024,
}

ANTHROPIC_MIN_CACHE_TOKENS: dict[str, int] = {
    **{f"anthropic/claude-{name}": size for name, size in _VERSIONED.items()},
    **{f"anthropic/claude-{name.replace('.', '-')}": size for name, size in _VERSIONED.items()},
    "anthropic/claude-opus-4": 1024,
    "anthropic/claude-sonnet-4": 1024,
}
"""The shortest beginning of a prompt that each of Anthropic's models caches, in tokens, by model id. Versions are there in both
spellings, such as `4.5` and `4-5`.
"""

WARNED_REQUESTS = 3
"""How many requests a missing cache figure is warned about; later warnings would say nothing new."""

_DATED = re.compile(r"-(?:20\d{6}|20\d\d-\d\d-\d\d|latest)$")


def detect_provider(model_id: str) -> str:
    """Return whose caching rules a model follows: `anthropic`, `openai`, `google` or `other`.

    Args:
        model_id: The model's id, in capitals or small letters, with or without its provider.

    Examples:
        >>> detect_provider("anthropic/claude-sonnet-4.5"), detect_provider("deepseek/deepseek-chat")
        ('anthropic', 'other')
    """
    name = model_id.lower()
    for provider, mark in (("anthropic", "claude"), ("openai", "gpt-"), ("google", "gemini")):
        if name.startswith(f"{provider}/") or mark in name:
            return provider
    return "other"


def min_cache_tokens(model_id: str) -> int:
    """Return the shortest beginning of a prompt that a model caches, in tokens. Unknown models get 1024.

    Args:
        model_id: The model's id. A variant such as `:beta`, a date at the end and a missing `anthropic/` change nothing.

    Examples:
        >>> min_cache_tokens("anthropic/claude-haiku-4.5:beta")
        4096
    """
    provider = detect_provider(model_id)
    if provider == "anthropic":
        name = _DATED.sub("", model_id.lower().removeprefix("~").partition(":")[0])
        full = name if name.startswith("anthropic/") else f"anthropic/{name}"
        return ANTHROPIC_MIN_CACHE_TOKENS.get(full, DEFAULT_MIN_CACHE_TOKENS)
    return {"openai": OPENAI_MIN_CACHE_TOKENS, "google": GOOGLE_MIN_CACHE_TOKENS}.get(
        provider, DEFAULT_MIN_CACHE_TOKENS
    )


def stable_system_prompt(*sections: str | None) -> str:
    r"""Return the sections joined by one blank line each, without the space around them.

    Args:
        *sections: Texts. None and blank ones are left out.

    Examples:
        >>> stable_system_prompt("You are a clerk. ", None, "Answer briefly.")
        'You are a clerk.\n\nAnswer briefly.'
    """
    return "\n\n".join(stripped for section in sections if section and (stripped := section.strip()))


@dataclass
class CacheMetrics(CacheStats):
    """Sums the cache figures of usage objects.

    Attributes:
        total_prompt_tokens: Prompt tokens, including those read from a cache.
        cached_tokens: Prompt tokens read from a cache.
        cache_creation_tokens: Prompt tokens written to a cache.
        request_count: Requests recorded.
        cache_hit_requests: Requests that read from a cache.
        total_completion_tokens: Completion tokens of all requests.

    Examples:
        >>> metrics = CacheMetrics()
        >>> metrics.record({"prompt_tokens": 2000, "prompt_tokens_details": {"cached_tokens": 1700}})
        >>> metrics.summary()
        'Cache: 85.0% hit rate | 1,700 cached / 2,000 total prompt tokens | 1/1 requests hit'
    """

    total_completion_tokens: int = 0

    def record(self, usage: Mapping[str, Any] | None) -> None:
        """Add one request. A cached token counts once, also if it is reported under two names.

        If prompt tokens come without any cache figure, a warning is logged, for the first three requests only.

        Source: openrouter.ai/docs/use-cases/usage-accounting; docs.anthropic.com/en/docs/build-with-claude/prompt-caching.

        Args:
            usage: The `usage` object of a response, of OpenAI's form or with Anthropic's cache fields. None, and one without prompt
                tokens, counts as a request of 0 tokens.
        """
        read = read_usage(usage) or TokenUsage(0, 0, 0, 0, tells_cache=False)
        add_usage(self, read)
        self.total_completion_tokens += read.completion_tokens
        if read.prompt_tokens and not read.tells_cache and self.request_count <= WARNED_REQUESTS:
            logger.warning("no cache data in the usage of request %d", self.request_count)

    @property
    def request_hit_rate(self) -> float:
        """Requests that read from a cache as a fraction of all requests; 0.0 if there are none."""
        return self.cache_hit_requests / self.request_count if self.request_count else 0.0

    def estimated_savings_usd(self, prompt_cost_per_m: float, cache_discount: float = 0.5) -> float:
        """Return the dollars that cached tokens saved.

        Args:
            prompt_cost_per_m: Dollars per million prompt tokens.
            cache_discount: The fraction of that price that a cached token *still costs*, such as 0.1 for Anthropic's models.
        """
        return self.cached_tokens * prompt_cost_per_m / 1_000_000 * (1.0 - cache_discount)

    def to_dict(self) -> dict[str, int | float]:
        """Return the six sums, and `hit_rate` and `request_hit_rate`, rounded to 4 decimals."""
        return {**super().to_dict(), "request_hit_rate": round(self.request_hit_rate, 4)}

    def summary(self) -> str:
        """Return the figures as one line for a log."""
        if not self.request_count:
            return "Cache: no requests recorded"
        tokens = f"{self.cached_tokens:,} cached / {self.total_prompt_tokens:,} total prompt tokens"
        requests = f"{self.cache_hit_requests}/{self.request_count} requests hit"
        return f"Cache: {self.hit_rate * 100:.1f}% hit rate | {tokens} | {requests}"


def format_cache_report(metrics: CacheMetrics, model_id: str = "") -> str:
    """Return the figures as a few lines for a person.

    Args:
        metrics: The figures.
        model_id: Named in the first line if given.
    """
    head = f"Prompt Cache Performance{f' ({model_id})' if model_id else ''}:"
    if not metrics.request_count:
        return f"{head}\n  (no requests recorded)"
    tokens = f"{metrics.cached_tokens:,} / {metrics.total_prompt_tokens:,} prompt tokens cached"
    lines = [
        head,
        f"  Hit rate:     {metrics.hit_rate * 100:.1f}% ({tokens})",
        f"  Requests:     {metrics.request_count} total, {metrics.cache_hit_requests} with cache hits",
    ]
    if metrics.cache_creation_tokens > 0:
        lines.append(f"  Cache writes: {metrics.cache_creation_tokens:,} tokens (creation cost)")
    return "\n".join(lines)


@dataclass(eq=False, repr=False)
class PromptBuilder:
    """Builds request bodies whose beginning stays the same from turn to turn, with marks for caching if the model needs them.

    Attributes:
        system: The system text, first in every request.
        tools: Tool definitions in the form of the API, the same in every request.
        environment: What follows the system text after a blank line, such as facts of this conversation.
        provider: Whose rules are followed: `auto` for those of the model, else a name that `detect_provider` returns.
        anthropic_mode: `explicit` marks the system text and the newest user message before the last message; `auto` sets one
            mark for the whole request.
        cache_ttl: How long Anthropic keeps the cache, `"5m"` or `"1h"`; its default if None.
        metrics: A `CacheMetrics` for the answers of this conversation; the caller records into it.

    Examples:
        >>> prompt = PromptBuilder("You are a clerk.")
        >>> _ = prompt.add_user("Why two sides?")
        >>> body = prompt.build("openai/gpt-4.1-nano", max_tokens=200)
        >>> [message["role"] for message in body["messages"]], body["max_tokens"]
        (['system', 'user'], 200)
    """

    system: str
    tools: list[dict[str, Any]] | None = None
    environment: str | None = None
    provider: str = "auto"
    anthropic_mode: str = "explicit"
    cache_ttl: str | None = None
    metrics: CacheMetrics = field(default_factory=CacheMetrics, init=False)
    _messages: list[dict[str, Any]] = field(default_factory=list, init=False)

    @property
    def turn_count(self) -> int:
        """How many user messages there are."""
        return sum(message.get("role") == "user" for message in self._messages)

    def add_user(self, content: str) -> list[dict[str, Any]]:
        """Append a user message.

        Args:
            content: Its text.

        Returns:
            All messages, without the system text.
        """
        return self.add_message({"role": "user", "content": content})

    def add_assistant(self, content: str) -> list[dict[str, Any]]:
        """Append a message of the assistant.

        Args:
            content: Its text.

        Returns:
            All messages, without the system text.
        """
        return self.add_message({"role": "assistant", "content": content})

    def add_tool_result(self, tool_call_id: str, content: str) -> list[dict[str, Any]]:
        """Append the result of a tool call.

        Args:
            tool_call_id: The id of the call that the assistant made.
            content: The result as text.

        Returns:
            All messages, without the system text.
        """
        return self.add_message({"role": "tool", "tool_call_id": tool_call_id, "content": content})

    def add_message(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Append a message as it is.

        Args:
            message: The message in the form of the API.

        Returns:
            All messages, without the system text.
        """
        self._messages.append(message)
        return self._messages

    def build(self, model: str, max_tokens: int | None = None, **extra: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return a request body for `POST /chat/completions`. It shares nothing with what was added, so it may be changed.

        Source of the marks: openrouter.ai/docs/features/prompt-caching, read 2026-10.

        Args:
            model: The model's id.
            max_tokens: The limit of the answer's tokens; left out of the body if None.
            **extra: Further fields. They replace fields of the same name.
        """
        marks = "none" if not self._is_anthropic(model) else self.anthropic_mode
        body: dict[str, Any] = {"model": model, "messages": self._request_messages(explicit=marks == "explicit")}
        if self.tools:
            body["tools"] = copy.deepcopy(self.tools)
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        if marks == "auto":
            body["cache_control"] = self._mark()
        return body | extra

    @staticmethod
    def openai_cache_params(retention: str = "in_memory") -> dict[str, str]:
        """Return the fields that ask OpenAI to keep a cache longer: none, unless `retention` is `"24h"`.

        Args:
            retention: `"in_memory"` or `"24h"`.
        """
        return {"prompt_cache_retention": "24h"} if retention == "24h" else {}

    def _is_anthropic(self, model: str) -> bool:
        return (detect_provider(model) if self.provider == "auto" else self.provider) == "anthropic"

    def _mark(self) -> dict[str, str]:
        return {"type": "ephemeral", **({"ttl": self.cache_ttl} if self.cache_ttl else {})}

    def _request_messages(self, *, explicit: bool) -> list[dict[str, Any]]:
        text = f"{self.system}\n\n{self.environment}" if self.environment else self.system
        messages = [{"role": "system", "content": text}, *copy.deepcopy(self._messages)]
        if explicit:
            self._mark_last_block(messages[0])
            earlier = (message for message in reversed(messages[1:-1]) if message.get("role") == "user")
            self._mark_last_block(next(earlier, {}))
        return messages

    def _mark_last_block(self, message: dict[str, Any]) -> None:
        content = message.get("content")
        if isinstance(content, str):
            message["content"] = [{"type": "text", "text": content, "cache_control": self._mark()}]
        elif isinstance(content, list) and content and isinstance(content[-1], dict):
            content[-1]["cache_control"] = self._mark()
