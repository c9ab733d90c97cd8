"""The examination and its report. Nothing is changed, except that the gate's image is built if it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent_preflight.base.config import Environment, child_environment
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.machine import check_clock, check_disk
from agent_preflight.checks.report import CheckLine, failed, line_text, passed, warned
from agent_preflight.doctor.containers import (
    EngineFacts,
    Handshake,
    client_lines,
    engine_lines,
    look_for_engine,
    network_lines,
    try_handshake,
    untried_lines,
)
from agent_preflight.doctor.machine import installation, system_lines
from agent_preflight.openrouter.http import resolve_base_url
from preflight_proxy.base.gate_handshake import netns_cookie
from preflight_proxy.core.environment_proxy import PROXY_VARIABLES, http_proxy
from preflight_proxy.core.errors import ConfigError

WORDS = {True: "ok", None: "note", False: "problem"}


@dataclass(frozen=True, slots=True)
class Section:
    """Findings on one subject: each passes, fails, or is something to know."""

    title: str
    lines: tuple[CheckLine, ...]


def sections_text(sections: Sequence[Section], *, colour: bool = False) -> Iterator[str]:
    """Yield the report's lines."""
    for section in sections:
        yield ""
        yield section.title
        for line in section.lines:
            yield line_text(line, colour=colour)


def document(sections: Sequence[Section]) -> dict[str, Any]:
    """Return the report for machines; `ok` is False if anything is a problem."""
    return {
        "ok": healthy(sections),
        "sections": {section.title: [_row(line) for line in section.lines] for section in sections},
    }


def healthy(sections: Sequence[Section]) -> bool:
    """Tell whether nothing is a problem."""
    return all(line.ok is not False for section in sections for line in section.lines)


def _row(line: CheckLine) -> dict[str, str]:
    return {"name": line.name, "finding": WORDS[line.ok], "detail": line.detail, "hint": line.hint}


NOT_TRIED = Handshake(None, "not tried")


def examine(
    *, containers: bool = True, clock: bool = True, tell: Callable[[str], object] = lambda text: None
) -> list[Section]:
    """Return what was found.

    Args:
        containers: Try a gate's hand-over, where an engine answers.
        clock: Ask OpenRouter for the time; sends no key.
        tell: Takes a line before what takes long.
    """
    environment = Environment.read()
    engine = look_for_engine()
    handshake = portable = NOT_TRIED
    if containers and isinstance(engine, EngineFacts):
        tell("trying both kinds of gate ...")
        handshake = try_handshake(environment.gate_base)
        portable = try_handshake(environment.gate_base, portable=True)
    return [
        Section("Installation", installation()),
        Section("Environment", variable_lines(environment)),
        Section("System", (*system_lines(), *_machine(environment, clock=clock))),
        Section("Containers", engine_lines(engine)),
        Section("Networks", network_lines(engine, handshake, portable, netns_cookie() is not None)),
        Section("Clients at https://openrouter.ai in a container", client_lines()),
        Section("Not tried by anyone, so not promised", untried_lines()),
    ]


def _machine(environment: Environment, *, clock: bool) -> list[CheckLine]:
    inputs = Inputs(admin_key="", or_key="", models=(), budget_per_model=0.0, base_url=environment.base_url)
    facts = Facts(inputs)
    return [*check_disk(inputs, facts), *(check_clock(inputs, facts) if clock else [])]


def variable_lines(environment: Environment) -> tuple[CheckLine, ...]:
    """Return which keys are set, never what they are."""
    keys = {
        "OR_ADMIN_KEY": (environment.admin_key, "makes and deletes a sub-key for each trial: needed for a run"),
        "OPENROUTER_API_KEY": (environment.api_key, "used by checks before a run, and by `agent-preflight proxy`"),
    }
    found = [
        passed(name, "set") if key is not None else warned(name, f"not set; {purpose}")
        for name, (key, purpose) in keys.items()
    ]
    return (*found, passed("OPENROUTER_BASE_URL", environment.base_url or "not set: OpenRouter itself"), *way_lines())


def way_lines() -> tuple[CheckLine, ...]:
    """Return by which HTTP proxy OpenRouter is reached, and which variables say so; never a name or a password."""
    url, variables = resolve_base_url(None), child_environment()
    named = [name for name in variables if name.lower() in PROXY_VARIABLES and variables[name]]
    if not named:
        return (
            passed("HTTP proxy", "none of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY is set: OpenRouter is reached directly"),
        )
    try:
        found = http_proxy(url, variables)
    except ConfigError as exc:
        return (failed("HTTP proxy", str(exc), f"HTTP proxy: {exc}"),)
    set_ = ", ".join(sorted(named))
    if found is None:
        return (passed("HTTP proxy", f"not used for {url} (set: {set_})"),)
    return (passed("HTTP proxy", f"{found.url} for {url}, by {found.variable} (set: {set_})"),)
