"""`agent-preflight quarantine`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_preflight.cli.group import emit_json
from agent_preflight.cli.options import RunsDir

if TYPE_CHECKING:
    from preflight_proxy.core.ledger.rows import QuarantinedEndpoint


def quarantine(
    clear: Annotated[
        tuple[str, str] | None,
        typer.Option("--clear", metavar="MODEL TAG", help="Use this endpoint again.", show_default=False),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The API base that has the endpoint.  [default: OPENROUTER_BASE_URL, or OpenRouter]",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Tell the stand-alone proxy of this folder too.", show_default=False),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each endpoint.")] = False,
) -> None:
    """List endpoints that billed above their reservation.

    No proxy of yours sends calls to them. `--clear` ends that, at once also for the runs that are going on.

    Example: agent-preflight quarantine --clear openai/gpt-4.1-nano azure
    """
    import asyncio

    from agent_preflight.base.console import say
    from agent_preflight.base.terminal import plain
    from agent_preflight.openrouter.http import resolve_base_url
    from agent_preflight.operate.quarantine import clear as clear_endpoint
    from agent_preflight.operate.quarantine import quarantined
    from preflight_proxy.base import log
    from preflight_proxy.base.config import origin

    log.configure()
    if clear is None:
        rows = quarantined()
        for row in rows:
            emit_json(json.dumps(_row(row))) if as_json else say(plain(_line(row)))
        if not rows and not as_json:
            say("No endpoint is quarantined.")
        return
    upstream = resolve_base_url(upstream)
    done = asyncio.run(clear_endpoint(*clear, runs_dir, data, upstream=upstream))
    if as_json:
        emit_json(json.dumps({"cleared": done.listed, "proxies": [str(path) for path in done.proxies]}))
    else:
        told = f"; told the proxy of {', '.join(map(str, done.proxies))}" if done.proxies else ""
        listed = "cleared" if done.listed else f"was not on the list for {origin(upstream)}"
        say(plain(f"{clear[0]} at {clear[1]}: {listed}{told}"))
    raise typer.Exit(0 if done.listed or done.proxies else 1)


def _line(row: QuarantinedEndpoint) -> str:
    from preflight_proxy.core.ledger.rows import OPENROUTER

    where = "" if row.upstream == OPENROUTER else f"of {row.upstream}  "
    return f"{row.model}  {row.tag}  {where}since {_time(row.at_s)}  {row.reason}"


def _row(row: QuarantinedEndpoint) -> dict[str, str]:
    return {
        "model": row.model,
        "tag": row.tag,
        "since": _time(row.at_s),
        "reason": row.reason,
        "upstream": row.upstream,
    }


def _time(at_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
