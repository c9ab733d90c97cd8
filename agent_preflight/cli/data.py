"""`metrics`: the figures of runs for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.base.console import say
from agent_preflight.cli.shared import complain
from preflight_proxy.core.errors import ConfigError


def metrics(
    data: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a run, of a stand-alone proxy, or of runs.")
    ],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where it listens; port 0 takes a free one.")
    ] = "127.0.0.1:9188",
) -> None:
    """Serve a ledger's figures to Prometheus.

    Spend, reservations, limits, calls, refusals, tokens and times, by account and model. Reads the ledger at each scrape.

    Example: agent-preflight metrics runs --listen 127.0.0.1:9188
    """
    from preflight_proxy.base.config import host_port
    from preflight_proxy.core.environment_proxy import is_loopback

    try:
        from agent_preflight.operate.metrics import serve_metrics
    except ModuleNotFoundError as exc:
        raise ConfigError("`metrics` needs another package: pip install prometheus-client") from exc
    try:
        host, port = host_port(listen)
    except ConfigError as exc:
        raise typer.BadParameter(f"--listen: {exc}") from exc
    if not is_loopback(host):
        complain(f"Warning: whoever reaches {listen} can read the names of accounts and models, and what they cost.")
    serve_metrics(data, host, port, say)
