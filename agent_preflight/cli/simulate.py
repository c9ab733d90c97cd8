"""`agent-preflight simulate`."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import typer


def simulate(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where it listens; port 0 takes a free one.")
    ] = "127.0.0.1:8799",
    scenario: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A TOML file: what models answer, and what goes wrong.", show_default=False),
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Written as JSON once connections are accepted.", show_default=False),
    ] = None,
) -> None:
    """Serve an offline OpenRouter.

    Keys, models, prices, completions; its own exact bill is at /sim/bill.

    Prints the variables that lead a shell to it: OPENROUTER_BASE_URL, OR_ADMIN_KEY, OPENROUTER_API_KEY.

    Example: agent-preflight simulate > simulator.env
    """
    from openrouter_sim.serve import serve
    from preflight_proxy.base.config import host_port
    from preflight_proxy.core.errors import ConfigError

    try:
        host_port(listen if listen.rpartition(":")[0] else f"127.0.0.1:{listen.removeprefix(':')}")
    except ConfigError as exc:
        raise typer.BadParameter(f"--listen: {exc}") from exc
    try:
        serve(listen, scenario, ready_file)
    except OSError as exc:
        named = "" if exc.filename is None else f"{exc.filename}: "
        hint = " Choose another address with --listen." if exc.errno == errno.EADDRINUSE else ""
        raise ConfigError(f"The simulator did not start. {named}{exc.strerror or exc}.{hint}") from exc
    except ValueError as exc:
        raise ConfigError(f"The simulator did not start. {exc}") from exc
