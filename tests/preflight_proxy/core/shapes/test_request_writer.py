"""Lowering the output bound lowers what may be thought inside it, and turns thinking off where nothing useful is left."""

import json
from decimal import Decimal

from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.request_writer import LAYOUTS_MAX, write_request
from tests.support.cases import each
from tests.support.quote_cases import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, read

CLAUDE_CODE = {
    "model": "anthropic/claude-sonnet-4.5",
    "max_tokens": 32_000,
    "thinking": {"type": "enabled", "budget_tokens": 31_999},
    "context_management": {
        "edits": [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919"}]
    },
    "messages": [{"role": "user", "content": "hi"}],
}


def sent(shape: Shape, body: dict[str, object], bound: int | None) -> dict[str, object]:
    written = json.loads(write_request(read(shape, body), bound=bound, only=("t",), max_price={}))
    assert isinstance(written, dict)
    return written


def test_an_unclamped_call_keeps_its_thinking_as_it_came() -> None:
    written = sent(MESSAGES, CLAUDE_CODE, 32_000)
    assert written["thinking"] == CLAUDE_CODE["thinking"]
    assert written["context_management"] == CLAUDE_CODE["context_management"]


@each("bound, budget", [(31_000, 29_976), (2048, 1024)])
def test_a_clamp_leaves_1024_tokens_for_the_answer(bound: int, budget: int) -> None:
    written = sent(MESSAGES, CLAUDE_CODE, bound)
    assert written["max_tokens"] == bound
    assert written["thinking"] == {"type": "enabled", "budget_tokens": budget}


def test_below_1024_thinking_is_off_and_so_are_the_edits_that_need_it() -> None:
    written = sent(MESSAGES, CLAUDE_CODE, 2047)
    assert written["thinking"] == {"type": "disabled"}
    assert written["context_management"] == {"edits": [{"type": "clear_tool_uses_20250919"}]}


@each("thinking", [{"type": "adaptive"}, {"type": "disabled"}, {"type": "enabled", "budget_tokens": 1024}])
def test_thinking_within_the_lower_bound_stays(thinking: dict[str, object]) -> None:
    assert sent(MESSAGES, {**CLAUDE_CODE, "thinking": thinking}, 5000)["thinking"] == thinking


def test_thinking_that_is_null_stays_null() -> None:
    assert sent(MESSAGES, {**CLAUDE_CODE, "thinking": None}, 1024)["thinking"] is None


@each(
    "reasoning, bound, lowered",
    [
        ({"max_tokens": 8000, "exclude": True}, 4000, {"max_tokens": 2976, "exclude": True}),
        ({"max_tokens": 8000, "exclude": True}, 2047, {"exclude": True, "enabled": False}),
        ({"max_tokens": 2000}, 3024, {"max_tokens": 2000}),
        ({"effort": "high"}, 1024, {"effort": "high"}),
        ({"max_tokens": 8000}, 10_000, {"max_tokens": 8000}),
        ({"max_tokens": 8000}, None, {"max_tokens": 8000}),
    ],
)
def test_a_reasoning_budget_is_lowered_with_the_bound(
    reasoning: dict[str, object], bound: int | None, lowered: dict[str, object]
) -> None:
    for shape, prompt in ((CHAT, {"messages": []}), (RESPONSES, {"input": "x"}), (COMPLETIONS, {"prompt": "x"})):
        body = {"model": "a/b", **prompt, shape.bound_fields[-1]: 10_000, "reasoning": reasoning}
        assert sent(shape, body, bound)["reasoning"] == lowered, shape.name


def test_reasoning_that_is_null_stays_as_it_came() -> None:
    assert sent(CHAT, {"model": "a/b", "messages": [], "reasoning": None}, 2000)["reasoning"] is None


def test_the_bound_on_reasoning_is_read() -> None:
    asked: dict[str, object] = {"model": "a/b", "messages": [], "reasoning": {"max_tokens": 77}}
    assert read(CHAT, asked).reasoning_bound == 77
    assert read(CHAT, {**asked, "reasoning": {"effort": "low"}}).reasoning_bound is None
    assert read(MESSAGES, CLAUDE_CODE).reasoning_bound == 31_999
    assert read(MESSAGES, {"model": "a/b", "messages": []}).reasoning_bound is None
    assert read(MESSAGES, {**CLAUDE_CODE, "reasoning": {"max_tokens": 77}}, "pass").reasoning_bound == 31_999


def test_a_call_without_a_bound_has_its_thinking_lowered_by_a_clamp() -> None:
    unbounded: dict[str, object] = {"model": "a/b", "messages": [], "reasoning": {"max_tokens": 8000}}
    assert sent(CHAT, unbounded, 4000)["reasoning"] == {"max_tokens": 2976}
    assert sent(CHAT, unbounded, None)["reasoning"] == {"max_tokens": 8000}


def test_a_thinking_budget_as_large_as_the_bound_is_lowered_without_a_clamp() -> None:
    asked: dict[str, object] = {
        **CLAUDE_CODE,
        "max_tokens": 4000,
        "thinking": {"type": "enabled", "budget_tokens": 4000},
    }
    assert sent(MESSAGES, asked, 4000)["thinking"] == {"type": "enabled", "budget_tokens": 2976}
    within = {**asked, "thinking": {"type": "enabled", "budget_tokens": 3999}}
    assert sent(MESSAGES, within, 4000)["thinking"] == within["thinking"]


@each("odd", [None, [], {}])
def test_context_management_without_edits_stays(odd: object) -> None:
    assert sent(MESSAGES, {**CLAUDE_CODE, "context_management": odd}, 2047)["context_management"] == odd


def test_a_request_is_written_for_each_bound_each_choice_of_endpoints_and_each_cap_of_its_own() -> None:
    """Layouts are kept, also for later requests with the same fields: none may be used for another decision (M7, M9)."""
    all_caps: list[dict[str, Decimal]] = [
        {},
        {"prompt": Decimal(1)},
        {"prompt": Decimal(2)},
        {"completion": Decimal(1)},
    ]
    all_tags: list[tuple[str, ...]] = [(), ("t",), ("u",), ("t", "u")]
    cases = [(bound, only, caps) for bound in (None, 16, 17) for only in all_tags for caps in all_caps]
    for content in ("x", "y"):
        request = read(CHAT, {"model": "a/b", "messages": [{"role": "user", "content": content}]})
        for bound, only, caps in cases * 2:
            written = json.loads(write_request(request, bound=bound, only=only, max_price=caps))
            provider = written.get("provider", {})
            assert written.get("max_tokens") == bound
            assert tuple(provider.get("only", ())) == only
            assert provider.get("max_price", {}) == {name: int(cap) for name, cap in caps.items()}
            assert written["messages"][0]["content"] == content
        assert len(request.layouts) <= LAYOUTS_MAX


def test_a_model_leaves_without_the_prefix_that_only_clients_use() -> None:
    for _ in range(2):
        request = read(CHAT, {"model": "openrouter/a/b", "messages": []})
        assert json.loads(write_request(request, bound=None, only=(), max_price={}))["model"] == request.model == "a/b"


@each(
    "shape, field, prompts",
    [
        (CHAT, "messages", [[{"role": "user", "content": text}] for text in ("a", "b", "c" * 300, "d")]),
        (MESSAGES, "messages", [[{"role": "user", "content": text}] for text in ("a", "b", "c" * 300, "d")]),
        (RESPONSES, "input", ["a", "b", "c" * 300, [{"role": "user", "content": "d"}]]),
        (COMPLETIONS, "prompt", ["a", ["b"], "c" * 300, "d"]),
        (EMBEDDINGS, "input", ["a", ["b"], "c" * 300, "d"]),
    ],
)
def test_requests_with_the_same_fields_leave_each_with_its_own_prompt(
    shape: Shape, field: str, prompts: list[object]
) -> None:
    """They share what is remembered of their fields, short prompts too."""
    for prompt in prompts:
        assert sent(shape, {"model": "a/b", "user": "one", field: prompt}, None)[field] == prompt
