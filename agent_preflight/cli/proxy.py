"""`agent-preflight proxy`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.cli import proxy_account
from agent_preflight.cli.group import emit_json
from agent_preflight.cli.proxy_account import Data, amounts_of, check, folder_of
from agent_preflight.options import kinds

UPSTREAM = "https://openrouter.ai/api/v1"

app = typer.Typer(name="proxy", context_settings={"help_option_names": ["-h", "--help"]}, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def proxy(
    ctx: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the ledger; the same again goes on where it stood.", show_default=False
        ),
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0 is any free one.")] = "127.0.0.1:8788",
    unix: Annotated[str | None, typer.Option(metavar="PATH", help="A unix socket besides.", show_default=False)] = None,
    upstream: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"API base; OPENROUTER_BASE_URL, else {UPSTREAM}.", show_default=False),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="USD", help="For the one account `default`.", show_default=False)
    ] = None,
    account: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=USD",
            help="A new account, or a new limit of one that is there; may be repeated.",
            show_default=False,
        ),
    ] = None,
    byok: Annotated[
        bool, typer.Option("--byok", help="Let calls run on provider keys that your OpenRouter account holds.")
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Written as JSON once everything is served.", show_default=False),
    ] = None,
) -> None:
    """Serve the budget proxy by hand.

    Any client that is pointed at it stays within its budget.

    The real key comes from OPENROUTER_API_KEY. Prints the base URL, and each token when it is made. SIGTERM ends it in order.
    Accounts are kept in DIR and opened again at the next start.

    Example: agent-preflight proxy --budget 1.00 --data ./proxy-data
    """
    ctx.obj = data
    if ctx.invoked_subcommand is not None:
        if any((unix, upstream, budget, account, byok, ready_file)):
            raise typer.BadParameter(f"before `{ctx.invoked_subcommand}` only --data has a meaning")
        return
    from agent_preflight.base.config import Environment
    from preflight_proxy.base import log
    from preflight_proxy.core.errors import ConfigError
    from preflight_proxy.standalone import serve

    environment, folder = Environment.read(), folder_of(ctx, data)
    upstream = upstream or environment.base_url or UPSTREAM
    limits_usd = _checked(folder, listen, upstream, budget, account or [])
    if environment.api_key is None:
        raise ConfigError("Set OPENROUTER_API_KEY to the key that calls are to leave with. Nothing was started.")
    log.configure()
    code = serve(
        listen=listen,
        unix=unix,
        upstream=upstream,
        limits_usd=limits_usd,
        data=folder,
        byok=byok,
        ready_file=ready_file,
        upstream_key=environment.api_key,
    )
    raise typer.Exit(code)


@app.command("status")
def status(
    ctx: typer.Context,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show a proxy and its accounts, also while it does not run.

    Example: agent-preflight proxy status --data ./proxy-data
    """
    from agent_preflight.operate.proxy_status import proxy_status, show_status

    found = proxy_status(folder_of(ctx, data))
    emit_json(json.dumps(found.document())) if as_json else show_status(found)


app.add_typer(proxy_account.app)


def _checked(folder: Path, listen: str, upstream: str, budget: str | None, accounts: list[str]) -> dict[str, str]:
    """Return the limits that options give, in dollars; what is wrong with an option is said of that option."""
    from agent_preflight.base.usd import dollars
    from preflight_proxy.base.config import check_upstream, host_port
    from preflight_proxy.core.errors import ConfigError
    from preflight_proxy.standalone import has_accounts

    if budget is not None and accounts:
        raise typer.BadParameter("give either --budget or --account, not both: each account has its own limit")
    texts = accounts if budget is None else [f"default={budget}"]
    limits_usd = {name: dollars(limit_pusd).removeprefix("$") for name, limit_pusd in amounts_of(texts).items()}
    if not limits_usd and not has_accounts(folder):
        raise typer.BadParameter(
            f"there is no account in {folder} yet: give --budget 1.00, or --account NAME=USD, which may be repeated"
        )
    try:
        check_upstream(upstream)
        check(kinds.URL, upstream, "--upstream")
        host_port(listen)
        check(kinds.LISTEN, listen, "--listen")
    except ConfigError as exc:
        raise typer.BadParameter(str(exc)) from exc
    return limits_usd
