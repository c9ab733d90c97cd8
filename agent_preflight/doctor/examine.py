"""The examination and its report. Nothing is changed, except that the gate's image is built if it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from agent_preflight.base.config import Environment, child_environment
from agent_preflight.checks.machine import clock_line, disk_lines
from agent_preflight.checks.report import CheckLine, failed, line_text, passed, warned
from agent_preflight.doctor.containers import CLIENTS, UNTRIED, engine_lines, network_lines, try_handshake
from agent_preflight.doctor.machine import installation, system_lines
from agent_preflight.openrouter.http import resolve_base_url
from preflight_proxy.base.gate_handshake import netns_cookie
from preflight_proxy.core.environment_proxy import PROXY_VARIABLES, http_proxy
from preflight_proxy.core.errors import ConfigError


class Section(msgspec.Struct, frozen=True):
    """Findings on one subject. A warning is something to know."""

    title: str
    lines: Sequence[CheckLine]


def sections_text(sections: Sequence[Section], *, colour: bool = False) -> Iterator[str]:
    """Yield the report's lines."""
    for section in sections:
        yield ""
        yield section.title
        for line in section.lines:
            yield line_text(line, colour=colour)


def document(sections: Sequence[Section]) -> dict[str, Any]:
    """Return the report for machines; `ok` is False if anything is a problem."""
    rows = {section.title: [line.to_json() for line in section.lines] for section in sections}
    return {"ok": all(line.ok is not False for section in sections for line in section.lines), "sections": rows}


def examine(
    *, containers: bool = True, clock: bool = True, tell: Callable[[str], object] = lambda text: None
) -> list[Section]:
    """Examine this machine and return the findings.

    Args:
        containers: Try both kinds of gate, if an engine answers.
        clock: Read the time from OpenRouter, without a key.
        tell: Gets a line before what takes long.
    """
    environment = Environment.read()
    engine = engine_lines()
    shared: float | str = "not tried"
    portable: float | str = "not tried"
    if not engine[0].ok:
        shared = portable = engine[0].detail
    elif containers:
        tell("trying both kinds of gate ...")
        shared = try_handshake(environment.gate_base)
        portable = try_handshake(environment.gate_base, portable=True)
    machine = [*system_lines(), *disk_lines(), *([clock_line(environment.base_url)] if clock else [])]
    return [
        Section("Installation", installation()),
        Section("Environment", variable_lines(environment)),
        Section("System", machine),
        Section("Containers", engine),
        Section("Networks", network_lines(shared, portable, cookies=netns_cookie() is not None)),
        Section("Clients at https://openrouter.ai in a container", CLIENTS),
        Section("Not tried by anyone, so not promised", UNTRIED),
    ]


def variable_lines(environment: Environment) -> list[CheckLine]:
    """Return which keys are set, without their values."""
    keys = {
        "OR_ADMIN_KEY": (environment.admin_key, "makes and deletes a sub-key for each trial: needed for a run"),
        "OPENROUTER_API_KEY": (environment.api_key, "used by checks before a run, and by `agent-preflight proxy`"),
    }
    lines = [
        passed(name, "set") if key is not None else warned(name, f"not set; {purpose}")
        for name, (key, purpose) in keys.items()
    ]
    base_url = passed("OPENROUTER_BASE_URL", environment.base_url or "not set: OpenRouter itself")
    return [*lines, base_url, http_proxy_line()]


def http_proxy_line() -> CheckLine:
    """Return the HTTP proxy by which OpenRouter is reached, and the variables that name one; no user name and no password."""
    name, url, variables = "HTTP proxy", resolve_base_url(None), child_environment()
    used = ", ".join(sorted(each for each in variables if each.lower() in PROXY_VARIABLES and variables[each]))
    if not used:
        return passed(name, "none of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY is set: OpenRouter is reached directly")
    try:
        proxy = http_proxy(url, variables)
    except ConfigError as exc:
        return failed(name, str(exc))
    if proxy is None:
        return passed(name, f"not used for {url} (set: {used})")
    return passed(name, f"{proxy.url} for {url}, by {proxy.variable} (set: {used})")
