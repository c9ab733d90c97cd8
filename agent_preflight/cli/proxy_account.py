"""`agent-preflight proxy account`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_preflight.cli.group import emit_json
from agent_preflight.cli.options import read_flag
from agent_preflight.options import kinds

if TYPE_CHECKING:
    from agent_preflight.sidecar.control_client import ControlClient
    from preflight_proxy.base.control_messages import Balance

Data = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The proxy's data folder, as at its start.", show_default=False)
]
Amounts = Annotated[list[str], typer.Argument(metavar="NAME=USD...", help="An account and dollars.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="An account.")]

app = typer.Typer(
    name="account",
    help="Add, change and remove accounts of a proxy while it runs.\n\n"
    "They are kept in its data folder and opened again at its next start.\n\n"
    "Example: agent-preflight proxy account add alice=5 --data ./proxy-data",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command("add")
def add(ctx: typer.Context, accounts: Amounts, data: Data = None) -> None:
    """Open a new account, and print its token.

    An account that was removed is open again with a new token; what it spent before counts.

    Example: agent-preflight proxy account add alice=5 --data ./proxy-data
    """
    from agent_preflight.base.console import say
    from agent_preflight.base.usd import dollars
    from agent_preflight.operate.proxy_status import on_proxy

    folder, wanted = folder_of(ctx, data), amounts_of(accounts)

    async def ask(client: ControlClient) -> None:
        for name, limit_pusd in wanted.items():
            account = await client.add_account(name, limit_pusd)
            spent = f", {dollars(account.posted_pusd)} spent before" if account.posted_pusd else ""
            say(f"account   {name}  {dollars(account.limit_pusd)}{spent}  {account.api_key}")

    on_proxy(folder, ask)


@app.command("raise")
def raise_(ctx: typer.Context, accounts: Amounts, data: Data = None) -> None:
    """Add dollars to an account's limit, for the very next call.

    Example: agent-preflight proxy account raise alice=2 --data ./proxy-data
    """
    folder, wanted = folder_of(ctx, data), amounts_of(accounts)
    _change(folder, wanted, lambda client, name: client.top_up(name, wanted[name]))


@app.command("limit")
def limit(ctx: typer.Context, accounts: Amounts, data: Data = None) -> None:
    """Set an account's limit. What is spent stays spent.

    Example: agent-preflight proxy account limit alice=7 --data ./proxy-data
    """
    folder, wanted = folder_of(ctx, data), amounts_of(accounts)
    _change(folder, wanted, lambda client, name: client.set_limit(name, wanted[name]))


@app.command("freeze")
def freeze(ctx: typer.Context, accounts: Names, data: Data = None) -> None:
    """Refuse an account's calls and end its streams.

    It stays so until it is unfrozen, also over a restart.

    Example: agent-preflight proxy account freeze alice --data ./proxy-data
    """
    folder, names = folder_of(ctx, data), names_of(accounts)
    _change(folder, names, lambda client, name: client.freeze(name, "frozen by a person"))


@app.command("unfreeze")
def unfreeze(ctx: typer.Context, accounts: Names, data: Data = None) -> None:
    """Admit an account's calls again.

    Example: agent-preflight proxy account unfreeze alice --data ./proxy-data
    """
    folder, names = folder_of(ctx, data), names_of(accounts)
    _change(folder, names, lambda client, name: client.unfreeze(name))


@app.command("remove")
def remove(ctx: typer.Context, accounts: Names, data: Data = None) -> None:
    """Close an account for good.

    Its token is refused from now on, and no later start opens it. Its calls in flight still settle; what it spent stays in the
    ledger.

    Example: agent-preflight proxy account remove alice --data ./proxy-data
    """
    from agent_preflight.base.console import say
    from agent_preflight.base.usd import dollars
    from agent_preflight.operate.proxy_status import on_proxy

    folder, names = folder_of(ctx, data), names_of(accounts)

    async def ask(client: ControlClient) -> None:
        for name in names:
            gone = await client.close_account(name)
            pending = (
                f", {dollars(gone.pending_pusd)} reserved for calls that still settle" if gone.pending_pusd else ""
            )
            say(f"{name}: removed, {dollars(gone.posted_pusd)} spent{pending}")

    on_proxy(folder, ask)


@app.command("show")
def show(
    ctx: typer.Context, account: Annotated[str, typer.Argument(metavar="NAME", help="An account.")], data: Data = None
) -> None:
    """Print an account's token, and nothing else.

    Example: agent-preflight proxy account show alice --data ./proxy-data
    """
    from agent_preflight.operate.proxy_status import proxy_status
    from preflight_proxy.control.standalone_accounts import read_tokens
    from preflight_proxy.core.errors import ConfigError

    folder, (name,) = folder_of(ctx, data), names_of([account])
    known = [each.id for each in proxy_status(folder).accounts]
    token = read_tokens(folder).get(name) if name in known else None
    if token is None:
        raise ConfigError(f"There is no account {name!r} in {folder}. There is: {', '.join(known) or 'none'}.")
    emit_json(token)


@app.command("list")
def list_(
    ctx: typer.Context,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each account.")] = False,
) -> None:
    """List the accounts, also while no proxy runs.

    Example: agent-preflight proxy account list --data ./proxy-data
    """
    from agent_preflight.operate.proxy_status import account_document, proxy_status, show_accounts

    found = proxy_status(folder_of(ctx, data)).accounts
    if not as_json:
        show_accounts(found)
        return
    for each in found:
        emit_json(json.dumps(account_document(each)))


def _change(folder: Path, names: Iterable[str], change: Callable[[ControlClient, str], Awaitable[Balance]]) -> None:
    """Have the running proxy change each account, and print how it stands then."""
    from agent_preflight.operate.proxy_status import on_proxy

    async def ask(client: ControlClient) -> None:
        for name in names:
            _tell(await change(client, name))

    on_proxy(folder, ask)


def folder_of(ctx: typer.Context, data: Path | None) -> Path:
    """Return the data folder of a command below `proxy`: its own `--data`, or that before it."""
    folder = data if data is not None else ctx.obj
    if not isinstance(folder, Path):
        raise typer.BadParameter("name the proxy's data folder: --data DIR", ctx=ctx)
    read_flag(kinds.FOLDER, folder, "--data")
    return folder


def amounts_of(texts: list[str]) -> dict[str, int]:
    """Return accounts and amounts above $0, in pico-USD, of options or arguments such as `alice=5` and `alice=$0.50`."""
    from agent_preflight.base.usd import pusd, read_usd

    found: dict[str, int] = {}
    for text in texts:
        name, equals, amount = text.rpartition("=")
        if not equals:
            raise typer.BadParameter(f"give NAME=USD, such as alice=5, not {text!r}")
        names_of([name])
        if name in found:
            raise typer.BadParameter(f"{name!r} is named twice")
        try:
            found[name] = pusd(read_usd(amount))
        except ValueError as exc:
            raise typer.BadParameter(f"the amount of {name!r} is {exc}, not {amount[:80]!r}") from exc
    return found


def names_of(names: list[str]) -> list[str]:
    """Return accounts' names that can be."""
    from preflight_proxy.core.ledger.account_name import NAME_RULE, is_account_name

    for name in names:
        if not is_account_name(name):
            raise typer.BadParameter(f"{name!r} cannot be an account's name: {NAME_RULE}")
    return names


def _tell(balance: Balance) -> None:
    from agent_preflight.base.console import say
    from agent_preflight.base.usd import dollars
    from agent_preflight.operate.proxy_status import state_of

    state, left = state_of(balance), dollars(balance.available_pusd)
    say(
        f"{balance.id}: limit {dollars(balance.limit_pusd)}, {dollars(balance.posted_pusd)} spent, {left} available, {state}"
    )
