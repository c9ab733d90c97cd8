"""What the simulated models say and what goes wrong: plain data, from Python or from a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from openrouter_sim.faults import Fault, make_fault
from openrouter_sim.tokens import Tokenizer

UsageChunk = Literal["choice", "empty", "merged"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call that the model makes; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A reply, for the requests that it matches; the first matching rule of a scenario speaks.

    Attributes:
        model: The model id, without suffix; None for any.
        contains: Text that the last message not of the assistant holds; None for any.
        role: That message's role, `user` or `tool`; None for any.
        tokens: Completion tokens, reasoning included; a pair is a range, drawn by the seed; None: as the text has.
        reasoning: How many of them are reasoning.
        text: What the model says; None for filler of the right length.
        tool_calls: Functions it calls.
        finish: The finish reason, when the bound does not cut; None: `stop` or `tool_calls`.
        times: How often the rule speaks; None for ever.
    """

    model: str | None = None
    contains: str | None = None
    role: str | None = None
    tokens: int | tuple[int, int] | None = None
    reasoning: int = 0
    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish: str | None = None
    times: int | None = None


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A fault, and the requests that suffer it.

    Attributes:
        fault: What goes wrong.
        probability: Share of the matching requests, drawn by the seed.
        model: The model id; None for any. A fault that acts before the body is read cannot know it.
        api: `chat`, `responses`, `messages`, `completions` or `embeddings`; None for any of them. Faults that act before the
            body is read can also name `keys`, `credits`, `key`, `models` or `generation`, with a method (`DELETE keys`)
            or without.
        stream: Only streams, or only the others; None for both.
        contains: Text that the last message holds; None for any.
        after: How many matching requests pass unharmed first.
        times: How often it strikes; None for ever.
    """

    fault: Fault
    probability: float = 1.0
    model: str | None = None
    api: str | None = None
    stream: bool | None = None
    contains: str | None = None
    after: int = 0
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """How the simulator behaves.

    Attributes:
        replies: What is said; without a matching rule, about 50 tokens of filler.
        faults: What goes wrong; each rule is drawn on its own.
        tokens_per_s: Pace of generation; None for as fast as possible.
        first_token_s: Wait before the first token.
        tokens_per_chunk: Tokens in one stream event.
        comments: `: OPENROUTER PROCESSING` lines ahead of a stream.
        generation_delay_s: How long `/generation` answers 404.
        key_usage_lag_s: How long a settled cost stays unseen by `/key`, `/keys`, `/credits` and the limit checks.
        usage_chunk: Chat's usage event: with a choice, with none, or on the event that has the finish reason.
        crlf: Stream lines end in CRLF.
        messages_cost: `message_delta.usage` has the cost.
        messages_input_whole: `input_tokens` of `/messages` includes those read from a cache and written to one.
        responses_events: Streams of `/responses` have `event:` lines.
        tokenizer: How densely prompts become tokens.
        tools_indent: Tools are counted re-serialised with indent 4.
        caching: Prompts are cached.
        directives: `[[sim …]]` in the last message is obeyed.
        extra_fields: Answers carry fields that no document names.
    """

    replies: tuple[Rule, ...] = ()
    faults: tuple[FaultRule, ...] = ()
    tokens_per_s: float | None = None
    first_token_s: float = 0.0
    tokens_per_chunk: int = 8
    comments: int = 1
    generation_delay_s: float = 0.0
    key_usage_lag_s: float = 0.0
    usage_chunk: UsageChunk = "choice"
    crlf: bool = False
    messages_cost: bool = True
    messages_input_whole: bool = False
    responses_events: bool = True
    tokenizer: Tokenizer = Tokenizer.USUAL
    tools_indent: bool = False
    caching: bool = True
    directives: bool = True
    extra_fields: bool = True


def load_scenario(path: Path) -> Scenario:
    """Return the scenario that a TOML file holds.

    Its keys are the attributes of `Scenario`; `[[replies]]` holds those of `Rule` (with tables for `tool_calls`),
    `[[faults]]` those of `FaultRule` with `fault` as the name of one and its parameters in the table `with`.

    Raises:
        ValueError: a name is unknown, a value has the wrong form, or the file is not TOML.
        OSError: the file cannot be read.
    """
    try:
        return scenario_of(tomllib.loads(path.read_text("utf-8")))
    except TypeError as exc:
        raise ValueError(f"{path}: {exc}") from exc


def scenario_of(data: dict[str, Any]) -> Scenario:
    """Return the scenario of parsed TOML; see `load_scenario`."""
    values = _known(Scenario, data)
    values["replies"] = tuple(_rule(row) for row in data.get("replies", ()))
    values["faults"] = tuple(_fault_rule(row) for row in data.get("faults", ()))
    if "tokenizer" in data:
        values["tokenizer"] = Tokenizer(data["tokenizer"])
    return Scenario(**values)


def _rule(row: dict[str, Any]) -> Rule:
    values = _known(Rule, row)
    if isinstance(values.get("tokens"), list):
        values["tokens"] = (int(row["tokens"][0]), int(row["tokens"][1]))
    values["tool_calls"] = tuple(ToolCall(**_known(ToolCall, call)) for call in row.get("tool_calls", ()))
    return Rule(**values)


def _fault_rule(row: dict[str, Any]) -> FaultRule:
    values = dict(row)
    parameters = values.pop("with", {})
    fault = make_fault(values.pop("fault"), parameters)
    return FaultRule(fault=fault, **_known(FaultRule, values))


def _known(kind: type, row: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    if unknown := sorted(set(row) - names):
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}")
    return dict(row)
