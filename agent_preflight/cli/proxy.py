"""`agent-preflight proxy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

UPSTREAM = "https://openrouter.ai/api/v1"


def proxy(
    data: Annotated[Path, typer.Option(help="Folder of the ledger; the same again goes on where it stood.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 is any free one.")] = "127.0.0.1:8788",
    unix: Annotated[str | None, typer.Option(help="A unix socket besides.", show_default=False)] = None,
    upstream: Annotated[
        str | None, typer.Option(help=f"API base; OPENROUTER_BASE_URL, else {UPSTREAM}.", show_default=False)
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Dollars for the one account `default`.", show_default=False)
    ] = None,
    account: Annotated[
        list[str] | None, typer.Option(help="NAME=USD, an account of its own; may be repeated.", show_default=False)
    ] = None,
    byok: Annotated[
        bool, typer.Option("--byok", help="Let calls run on provider keys that your OpenRouter account holds.")
    ] = False,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written as JSON once everything is served.", show_default=False)
    ] = None,
) -> None:
    """Serve the budget proxy by hand.

    Any client that is pointed at it stays within its budget.

    The real key comes from OPENROUTER_API_KEY. Prints the base URL and the token to use. SIGTERM ends it in order.

    Example: agent-preflight proxy --budget 1.00 --data ./proxy-data
    """
    from agent_preflight.config import Environment
    from preflight_proxy import log
    from preflight_proxy.errors import ConfigError
    from preflight_proxy.standalone import serve

    accounts = dict(_named(text) for text in account or ())
    if (budget is None) == (not accounts):
        raise typer.BadParameter("give either --budget or one or more --account, not both")
    environment = Environment.read()
    if environment.api_key is None:
        raise ConfigError("Set OPENROUTER_API_KEY to the key that calls are to leave with.")
    log.configure()
    code = serve(
        listen=listen,
        unix=unix,
        upstream=upstream or environment.base_url or UPSTREAM,
        budget_usd=None if budget is None else _amount("--budget", budget),
        accounts=accounts,
        data=data,
        byok=byok,
        ready_file=ready_file,
        upstream_key=environment.api_key,
    )
    raise typer.Exit(code)


def _named(text: str) -> tuple[str, str]:
    name, equals, amount = text.partition("=")
    if not (name and equals and amount):
        raise typer.BadParameter(f"--account is NAME=USD, not {text!r}")
    return name, _amount(f"--account {name}", amount)


def _amount(option: str, text: str) -> str:
    """Return dollars as a plain figure; what is none is a usage error."""
    from agent_preflight.usd import read_usd

    try:
        return format(read_usd(text), "f")
    except ValueError as exc:
        raise typer.BadParameter(f"{option} is {exc}, not {text[:80]!r}.") from exc
