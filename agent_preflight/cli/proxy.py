"""`agent-preflight proxy`: serves the proxy by hand; `proxy status` and `proxy account` show and change its accounts."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from msgspec.structs import asdict

from agent_preflight.base.config import base_url
from agent_preflight.base.console import say
from agent_preflight.base.usd import dollars
from agent_preflight.cli.shared import emit_json, read_amounts, read_flag
from agent_preflight.options import kinds
from preflight_proxy.core.errors import ConfigError

if TYPE_CHECKING:
    from agent_preflight.sidecar.control_client import ControlClient
    from preflight_proxy.base.config import StandaloneConfig
    from preflight_proxy.base.control_messages import Balance

UPSTREAM = "https://openrouter.ai/api/v1"
STDIN = 0

app = typer.Typer(name="proxy", rich_markup_mode=None)
account_app = typer.Typer(
    name="account",
    help="Add, change and remove accounts of a proxy while it runs.\n\n"
    "They are kept in its data folder and opened again at its next start.\n\n"
    "Example: agent-preflight proxy account add alice=5 --data ./proxy-data",
    rich_markup_mode=None,
    no_args_is_help=True,
)


def _data_folder(ctx: typer.Context, data: Path | None) -> Path:
    """Return the data folder of a command below `proxy`: its own `--data`, else that before it.

    Raises:
        BadParameter: Neither is there, or it is not a path.
    """
    folder = data if data is not None else ctx.obj
    if not isinstance(folder, Path):
        raise typer.BadParameter("name the proxy's data folder: --data DIR", ctx=ctx)
    read_flag(kinds.FOLDER, folder, "--data")
    return folder


Data = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="The proxy's data folder, as at its start.",
        show_default=False,
        default_factory=lambda: None,  # makes the option optional; the callback has the default
        callback=_data_folder,
    ),
]
Amounts = Annotated[list[str], typer.Argument(metavar="NAME=USD...", help="An account and dollars.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="An account.")]


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
    durability: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="What a cost survives: process, a kill of the proxy; power, a loss of power too, but calls are slower.",
        ),
    ] = "process",
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
        if any((unix, upstream, budget, account, byok, ready_file, durability != "process")):
            raise typer.BadParameter(f"before `{ctx.invoked_subcommand}` only --data has a meaning")
        return
    folder = _data_folder(ctx, data)
    upstream = upstream or base_url() or UPSTREAM
    limits_usd = _limits(folder, budget, account or [])
    _check_addresses(upstream, listen)
    from preflight_proxy.base.config import Durability, StandaloneConfig, environment_key

    chosen = read_flag(kinds.choice(Durability), durability, "--durability")
    environment_key()  # the proxy reads it

    _become_proxy(
        StandaloneConfig(
            data=str(folder),
            upstream=upstream,
            listen=listen,
            unix=unix,
            limits_usd=limits_usd,
            byok=byok,
            durability=chosen,
            ready_file=None if ready_file is None else str(ready_file),
        )
    )


def _become_proxy(settings: StandaloneConfig) -> NoReturn:
    """Replace this process by the proxy. That one loads neither the command line nor what draws on a terminal.

    It has the same process id, environment (with the key) and output; its standard input has the settings.
    """
    with tempfile.TemporaryFile() as document:  # a pipe may be too small for all accounts
        document.write(json.dumps(asdict(settings)).encode())
        document.seek(0)
        os.dup2(document.fileno(), STDIN)
        os.set_inheritable(STDIN, True)
        os.execv(sys.executable, [sys.executable, "-m", "preflight_proxy", "standalone"])  # noqa: S606 - no shell


def _limits(folder: Path, budget: str | None, accounts: list[str]) -> dict[str, str]:
    """Return the limits that `--budget` and `--account` set, in dollars by account."""
    from preflight_proxy.ledger.reader import has_accounts

    if budget is not None and accounts:
        raise typer.BadParameter("give either --budget or --account, not both: each account has its own limit")
    amounts = amounts_of(accounts if budget is None else [f"default={budget}"])
    if not amounts and not has_accounts(folder):
        raise typer.BadParameter(
            f"there is no account in {folder} yet: give --budget 1.00, or --account NAME=USD, which may be repeated"
        )
    return {name: dollars(limit_pusd).removeprefix("$") for name, limit_pusd in amounts.items()}


def _check_addresses(upstream: str, listen: str) -> None:
    """Check the two addresses here, because a wrong option has an exit code of its own."""
    from preflight_proxy.base.config import check_upstream, host_port

    try:
        check_upstream(upstream)
        host_port(listen)
    except ConfigError as exc:
        raise typer.BadParameter(str(exc)) from exc
    read_flag(kinds.URL, upstream, "--upstream")
    read_flag(kinds.LISTEN, listen, "--listen")


@app.command("status")
def status(data: Data, as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show a proxy and its accounts, also while it does not run.

    Example: agent-preflight proxy status --data ./proxy-data
    """
    from agent_preflight.operate.proxy_status import proxy_status, show_status

    state = proxy_status(data)
    emit_json(state.document()) if as_json else show_status(state)


@account_app.command("add")
def add(accounts: Amounts, data: Data) -> None:
    """Open a new account, and print its token.

    An account that was removed is open again with a new token; what it spent before counts.

    Example: agent-preflight proxy account add alice=5 --data ./proxy-data
    """
    amounts = amounts_of(accounts)

    async def change(client: ControlClient, name: str) -> str:
        account = await client.add_account(name, amounts[name])
        spent = f", {dollars(account.posted_pusd)} spent before" if account.posted_pusd else ""
        return f"account   {name}  {dollars(account.limit_pusd)}{spent}  {account.api_key}"

    _change(data, amounts, change)


@account_app.command("raise")
def raise_(accounts: Amounts, data: Data) -> None:
    """Add dollars to an account's limit, for the very next call.

    Example: agent-preflight proxy account raise alice=2 --data ./proxy-data
    """
    amounts = amounts_of(accounts)
    _change(data, amounts, lambda client, name: _changed(client.top_up(name, amounts[name])))


@account_app.command("limit")
def limit(accounts: Amounts, data: Data) -> None:
    """Set an account's limit. What is spent stays spent.

    Example: agent-preflight proxy account limit alice=7 --data ./proxy-data
    """
    amounts = amounts_of(accounts)
    _change(data, amounts, lambda client, name: _changed(client.set_limit(name, amounts[name])))


@account_app.command("freeze")
def freeze(accounts: Names, data: Data) -> None:
    """Refuse an account's calls and end its streams.

    It stays so until it is unfrozen, also over a restart.

    Example: agent-preflight proxy account freeze alice --data ./proxy-data
    """
    _change(data, accounts, lambda client, name: _changed(client.freeze(name, "frozen by a person")))


@account_app.command("unfreeze")
def unfreeze(accounts: Names, data: Data) -> None:
    """Admit an account's calls again.

    Example: agent-preflight proxy account unfreeze alice --data ./proxy-data
    """
    _change(data, accounts, lambda client, name: _changed(client.unfreeze(name)))


@account_app.command("remove")
def remove(accounts: Names, data: Data) -> None:
    """Close an account for good.

    Its token is refused from now on, and no later start opens it. Its calls in flight still settle; what it spent stays in the
    ledger.

    Example: agent-preflight proxy account remove alice --data ./proxy-data
    """

    async def change(client: ControlClient, name: str) -> str:
        gone = await client.close_account(name)
        pending = f", {dollars(gone.pending_pusd)} reserved for calls that still settle" if gone.pending_pusd else ""
        return f"{name}: removed, {dollars(gone.posted_pusd)} spent{pending}"

    _change(data, accounts, change)


@account_app.command("show")
def show(account: Annotated[str, typer.Argument(metavar="NAME", help="An account.")], data: Data) -> None:
    """Print an account's token, and nothing else.

    Example: agent-preflight proxy account show alice --data ./proxy-data
    """
    from agent_preflight.operate.proxy_status import proxy_status
    from preflight_proxy.control.standalone_accounts import read_tokens

    _check_names([account])
    known = [each.id for each in proxy_status(data).accounts]
    token = read_tokens(data).get(account) if account in known else None
    if token is None:
        raise ConfigError(f"There is no account {account!r} in {data}. There is: {', '.join(known) or 'none'}.")
    say(token)


@account_app.command("list")
def list_(
    data: Data, as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each account.")] = False
) -> None:
    """List the accounts, also while no proxy runs.

    Example: agent-preflight proxy account list --data ./proxy-data
    """
    from agent_preflight.operate.proxy_status import account_document, proxy_status, show_accounts

    accounts = proxy_status(data).accounts
    if not as_json:
        show_accounts(accounts)
        return
    for account in accounts:
        emit_json(account_document(account))


app.add_typer(account_app)


def _change(
    data: Path, names: Sequence[str] | dict[str, int], change: Callable[[ControlClient, str], Awaitable[str]]
) -> None:
    """Have the running proxy change each account, and print a line about it."""
    from agent_preflight.operate.proxy_status import on_proxy

    _check_names(names)

    async def change_all(client: ControlClient) -> None:
        for name in names:
            say(await change(client, name))

    on_proxy(data, change_all)


async def _changed(answer: Awaitable[Balance]) -> str:
    from agent_preflight.operate.proxy_status import state_of

    balance = await answer
    amounts = (balance.limit_pusd, balance.posted_pusd, balance.available_pusd)
    limit, spent, left = map(dollars, amounts)
    return f"{balance.id}: limit {limit}, {spent} spent, {left} available, {state_of(balance)}"


def amounts_of(texts: list[str]) -> dict[str, int]:
    """Return accounts and amounts above $0, in pico-USD, of options or arguments such as `alice=5` and `alice=$0.50`.

    Raises:
        BadParameter: One is not of this form, or an account is named twice.
    """
    amounts = read_amounts(texts, "NAME=USD, such as alice=5")
    for name in (names := [name for name, _ in amounts]):
        if names.count(name) > 1:
            raise typer.BadParameter(f"{name!r} is named twice")
    _check_names(names)
    return dict(amounts)


def _check_names(names: Iterable[str]) -> None:
    from preflight_proxy.core.ledger.account_name import NAME_RULE, is_account_name

    for name in names:
        if not is_account_name(name):
            raise typer.BadParameter(f"{name!r} cannot be an account's name: {NAME_RULE}")
