"""`agent-preflight simulate`."""

from __future__ import annotations

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

    Prints its base URL, an admin key and an inference key.

    Example: agent-preflight simulate --listen 127.0.0.1:0 --ready-file sim.json
    """
    from openrouter_sim.serve import serve
    from preflight_proxy.errors import ConfigError

    try:
        serve(listen, scenario, ready_file)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"simulate: {exc}") from exc
