"""Top-level fields that decide the price, in whatever shape they come: what passes and what is refused, and why (M8).

Each shape lists the fields it knows; a field with a rule here must pass it even where its shape does not list it, so that no
spelling of a dear request slips through `unknown_fields = pass`.

Source: openrouter.ai/openapi.yaml and openrouter.ai/docs/guides/features, 2026-10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from preflight_proxy.core.shapes import body
from preflight_proxy.core.shapes.body import BadRequest, Json, Number

Rule = Callable[[Json], str | None]
"""Given the decoded value: None if it passes, else why it does not."""

_EMPTY: tuple[Json, ...] = (None, False, "", "none")

_OUTPUT_BOUNDS = frozenset(
    {"maxtokens", "maxcompletiontokens", "maxoutputtokens"}
    | {"maxnewtokens", "maxtokenstosample", "maxgenlen", "npredict", "numpredict"}
)
REASONING_BUDGETS = {"reasoning": "max_tokens", "thinking": "budget_tokens"}
"""Objects that bound reasoning, and the field of each that does."""
_REASONING_BOUNDS = frozenset({"budgettokens", "thinkingbudget", "thinkingtokens", "maxreasoningtokens"})


def spelling(name: str) -> str:
    """A field's name without case, dashes and underscores: some servers read names that loosely."""
    return name.lower().replace("_", "").replace("-", "")


def bounds_output(name: str) -> bool:
    """True for a field that some API, or some server behind one, reads as the bound on the output.

    Source: openrouter.ai/openapi.yaml, 2026-10 (the first three); the native fields of Hugging Face TGI, Anthropic's text
    completions, Llama on Bedrock, llama.cpp and Ollama, 2026-10. Which one counts where a request has two is not documented.
    """
    return spelling(name) in _OUTPUT_BOUNDS


def absent(reason: str) -> Rule:
    """A rule that lets only an empty value pass."""
    return lambda value: None if value in _EMPTY or value == [] or value == {} else reason


def _one_of(allowed: tuple[str, ...], reason: str) -> Rule:
    return lambda value: None if value is None or (isinstance(value, str) and value in allowed) else reason


def _at_most_one(reason: str) -> Rule:
    """As text, so that nobody's rounding can make two of 1.9, and no reader of JSON take 1e0 for something else."""
    return lambda value: None if value is None or (isinstance(value, Number) and value in ("0", "1")) else reason


def _text_only(value: Json) -> str | None:
    return None if value is None or value == ["text"] else "only text has a bounded price"


def _reasoning(value: Json) -> str | None:
    mode = value.get("mode") if isinstance(value, dict) else None
    return _budget(value, "reasoning") or (
        None if mode in (None, "default", "standard") else "a mode may switch to a dearer model"
    )


def _budget(value: Json, field: str) -> str | None:
    """Why an object with a bound on reasoning does not pass: that bound is lowered in one spelling only."""
    if not isinstance(value, dict):
        return None if value is None else "it must be an object"
    own, bounds = REASONING_BUDGETS[field], _OUTPUT_BOUNDS | _REASONING_BOUNDS
    if any(key != own and spelling(key) in bounds for key in value):
        return f"write its bound as {own}"
    return None


def _cache_options(value: Json) -> str | None:
    ttl = value.get("ttl") if isinstance(value, dict) and value.keys() <= {"mode", "ttl"} else value
    return None if ttl in (None, "30m") else "only its mode and a ttl of 30m have the price that the list states"


def _context_management(value: Json) -> str | None:
    edits = value.get("edits", []) if isinstance(value, dict) and value.keys() <= {"edits"} else (value or [])
    kinds = (
        [edit.get("type") if isinstance(edit, dict) else None for edit in edits] if isinstance(edits, list) else [None]
    )
    if all(isinstance(kind, str) and kind.startswith("clear_") for kind in kinds):
        return None
    return "compaction is a second call that the request does not bound"


def _plugins(value: Json) -> str | None:
    """Only plugins that are turned off pass: that is how a caller declines one that its account turns on.

    Source: openrouter.ai/docs/guides/features/plugins, 2026-10.
    """
    if isinstance(value, list) and all(_is_off(plugin) for plugin in value):
        return None
    return absent("plugins are billed beside the tokens. Leave them out, or set enabled to false")(value)


def _is_off(plugin: Json) -> bool:
    return isinstance(plugin, dict) and isinstance(plugin.get("id"), str) and plugin.get("enabled") is False


def _asked_for(value: Json) -> str | None:
    """Beside the search that is off by `false` or null, an empty object asks for one with the usual settings."""
    return _SEARCH if value == {} else absent(_SEARCH)(value)


_SEARCH = "it is billed per search, beside the tokens"
_MANY = "each answer is billed, and the output bound holds for one"
_HIDDEN = "it may set models, tools and plugins that the request does not show"

RULES: Mapping[str, Rule] = {
    "plugins": _plugins,
    "preset": absent(_HIDDEN),
    "n": _at_most_one(_MANY),
    "best_of": _at_most_one(_MANY),
    "modalities": _text_only,
    "audio": absent("audio output has a price of its own"),
    "image_config": absent("images have a price of their own"),
    "web_search_options": _asked_for,
    "web_search": _asked_for,
    "prediction": absent("rejected predictions are billed as output, and no bound on them is known"),
    "service_tier": _one_of(
        ("auto", "default", "flex", "standard", "standard_only"), "dearer tiers are not in the price list"
    ),
    "speed": _one_of(("standard", "default"), "fast mode costs a multiple of the listed price"),
    "inference_geo": _one_of(("global",), "a fixed region costs more than the listed price"),
    "reasoning": _reasoning,
    "thinking": lambda value: _budget(value, "thinking"),
    "context_management": _context_management,
    "prompt_cache_options": _cache_options,
    "background": absent("it is billed after the call has ended"),
    "previous_response_id": absent("it adds a prompt that the request does not show"),
    "conversation": absent("it adds a prompt that the request does not show"),
    "container": absent("sandboxes are billed by time"),
    "mcp_servers": absent("servers are called in a loop that re-sends the prompt"),
    "callback_url": absent("it is billed after the call has ended"),
}
"""The shapes add rules of their own for fields that mean something else elsewhere (`store`, `prompt`)."""
_BY_SPELLING = {spelling(name): rule for name, rule in RULES.items()}


def same_model(model: str) -> Rule:
    """A rule for lists of models: it lets those pass that name no other than `model`."""
    allowed: tuple[Json, ...] = (model.lower(), {"model": model.lower()})

    def rule(value: Json) -> str | None:
        if isinstance(value, list) and all(_lower(item) in allowed for item in value):
            return None
        return absent("the call is billed at whichever model answers; name one model, in the field 'model'")(value)

    return rule


def _lower(item: Json) -> Json:
    match item:
        case str():
            return item.lower()
        case {"model": str() as name, **rest} if not rest:
            return {"model": name.lower()}
    return item


def check(fields: Mapping[str, bytes], more: Mapping[str, Rule]) -> dict[str, Json]:
    """Apply the rules to a request's fields, however they are spelled; return the decoded values of those that have one.

    Raises:
        BadRequest: A field does not pass; the text says what it would do to the price.
    """
    decoded: dict[str, Json] = {}
    rules = {**_BY_SPELLING, **{spelling(name): rule for name, rule in more.items()}}
    for name, raw in fields.items():
        rule = rules.get(spelling(name))
        if rule is None:
            continue
        decoded[name] = body.value(raw)
        if (reason := rule(decoded[name])) is not None:
            raise BadRequest(f"The field {name!r} is refused here: {reason}.")
    return decoded


def whole(fields: Mapping[str, bytes], name: str) -> int | None:
    """A field that holds a number of tokens; None if it is absent or null.

    Raises:
        BadRequest: It is no whole number from 0 on.
    """
    decoded = body.value(fields[name]) if name in fields else None
    return whole_value(decoded, name)


def whole_value(decoded: Json, name: str) -> int | None:
    """As `whole`, for a value that is decoded already."""
    if decoded is None:
        return None
    worth = decoded.decimal() if isinstance(decoded, Number) else None
    if worth is None or worth != worth.to_integral_value() or not 0 <= worth <= 10**9:
        raise BadRequest(f"The field {name!r} must be a whole number of tokens.")
    return int(worth)
