"""`agent-preflight proxy`: serves the proxy by hand; `proxy status` and `proxy account` show and change its accounts."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_preflight.base.console import say
from agent_preflight.base.usd import dollars
from agent_preflight.cli.shared import emit_json, usage_errors
from agent_preflight.launch.proxy_command import OPTIONS, amounts_of, check_names, data_folder, flag, proxy_settings
from preflight_proxy.__main__ import serve_standalone
from preflight_proxy.core.errors import ConfigError

if TYPE_CHECKING:
    from agent_preflight.sidecar.control_client import ControlClient
    from preflight_proxy.base.control_messages import Balance

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
    """Return the data folder of a command below `proxy`: its own `--data`, else that before it."""
    with usage_errors():
        return data_folder(ctx.obj if data is None else data)


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
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object for each account.")]


@app.callback(invoke_without_command=True)
def proxy(ctx: typer.Context, **values: Any) -> None:  # noqa: ANN401 - what Typer makes of each option
    """Serve the budget proxy by hand.

    Any client that is pointed at it stays within its budget.

    The real key comes from OPENROUTER_API_KEY. Prints the base URL, and each token when it is made. SIGTERM ends it in order.
    Accounts are kept in DIR and opened again at the next start.

    Example: agent-preflight proxy --budget 1.00 --data ./proxy-data
    """
    ctx.obj = values["data"]
    if ctx.invoked_subcommand is not None:
        if any(values[n] and values[n] != o.default for n, o in OPTIONS.items() if n not in ("data", "listen")):
            raise typer.BadParameter(f"before `{ctx.invoked_subcommand}` only --data has a meaning")
        return
    with usage_errors():
        settings = proxy_settings(values)
    raise typer.Exit(serve_standalone(settings))


def _signature() -> inspect.Signature:
    """Return what Typer reads: an option for each of `OPTIONS`."""
    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    for name, option in OPTIONS.items():
        plain: Any = bool if option.metavar is None else Path if option.metavar in ("DIR", "FILE") else str
        of_typer: Any = list[str] | None if option.repeats else plain | None if option.default is None else plain
        info = typer.Option(flag(name), metavar=option.metavar, help=option.help)
        annotation = Annotated[of_typer, info]
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, kind, default=option.default, annotation=annotation))
    return inspect.Signature(parameters)


proxy.__signature__ = _signature()  # type: ignore[attr-defined]  # what `inspect.signature` reads


@app.command("status")
def status(data: Data, as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show a proxy and its accounts, also while it does not run.

    Example: agent-preflight proxy status --data ./proxy-data
    """
    from agent_preflight.operate.proxy_status import proxy_status, show_status

    state = proxy_status(data)
    emit_json(state.document()) if as_json else show_status(state)


@account_app.command("add")
def add(accounts: Amounts, data: Data, as_json: AsJson = False) -> None:
    """Open a new account, and print its token.

    An account that was removed is open again with a new token; what it spent before counts.

    Example: agent-preflight proxy account add alice=5 --data ./proxy-data
    """
    from preflight_proxy.base.control_messages import OpenedAccount

    amounts = _amounts_of(accounts)

    def text(account: Balance) -> str:
        assert isinstance(account, OpenedAccount)
        spent = f", {dollars(account.posted_pusd)} spent before" if account.posted_pusd else ""
        return f"account   {account.id}  {dollars(account.limit_pusd)}{spent}  {account.api_key}"

    _change(data, amounts, lambda client, name: client.add_account(name, amounts[name]), as_json, text)


@account_app.command("raise")
def raise_(accounts: Amounts, data: Data, as_json: AsJson = False) -> None:
    """Add dollars to an account's limit, for the very next call.

    Example: agent-preflight proxy account raise alice=2 --data ./proxy-data
    """
    amounts = _amounts_of(accounts)
    _change(data, amounts, lambda client, name: client.top_up(name, amounts[name]), as_json)


@account_app.command("limit")
def limit(accounts: Amounts, data: Data, as_json: AsJson = False) -> None:
    """Set an account's limit. What is spent stays spent.

    Example: agent-preflight proxy account limit alice=7 --data ./proxy-data
    """
    amounts = _amounts_of(accounts)
    _change(data, amounts, lambda client, name: client.set_limit(name, amounts[name]), as_json)


@account_app.command("freeze")
def freeze(accounts: Names, data: Data, as_json: AsJson = False) -> None:
    """Refuse an account's calls and end its streams.

    It stays so until it is unfrozen, also over a restart.

    Example: agent-preflight proxy account freeze alice --data ./proxy-data
    """
    _change(data, accounts, lambda client, name: client.freeze(name, "frozen by a person"), as_json)


@account_app.command("unfreeze")
def unfreeze(accounts: Names, data: Data, as_json: AsJson = False) -> None:
    """Admit an account's calls again.

    Example: agent-preflight proxy account unfreeze alice --data ./proxy-data
    """
    _change(data, accounts, lambda client, name: client.unfreeze(name), as_json)


@account_app.command("remove")
def remove(accounts: Names, data: Data, as_json: AsJson = False) -> None:
    """Close an account for good.

    Its token is refused from now on, and no later start opens it. Its calls in flight still settle; what it spent stays in the
    ledger.

    Example: agent-preflight proxy account remove alice --data ./proxy-data
    """

    def text(gone: Balance) -> str:
        pending = f", {dollars(gone.pending_pusd)} reserved for calls that still settle" if gone.pending_pusd else ""
        return f"{gone.id}: removed, {dollars(gone.posted_pusd)} spent{pending}"

    _change(data, accounts, lambda client, name: client.close_account(name), as_json, text)


@account_app.command("show")
def show(
    account: Annotated[str, typer.Argument(metavar="NAME", help="An account.")], data: Data, as_json: AsJson = False
) -> None:
    """Print an account's token, and nothing else.

    Example: agent-preflight proxy account show alice --data ./proxy-data
    """
    from agent_preflight.operate.proxy_status import proxy_status
    from preflight_proxy.control.standalone_accounts import read_tokens

    with usage_errors():
        check_names([account])
    known = [each.id for each in proxy_status(data).accounts]
    token = read_tokens(data).get(account) if account in known else None
    if token is None:
        raise ConfigError(f"There is no account {account!r} in {data}. There is: {', '.join(known) or 'none'}.")
    emit_json({"account": account, "api_key": token}) if as_json else say(token)


@account_app.command("list")
def list_(data: Data, as_json: AsJson = False) -> None:
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


def _changed_text(account: Balance) -> str:
    from agent_preflight.operate.proxy_status import state_of

    amounts = (account.limit_pusd, account.posted_pusd, account.available_pusd)
    limit, spent, left = map(dollars, amounts)
    return f"{account.id}: limit {limit}, {spent} spent, {left} available, {state_of(account)}"


def _change(
    data: Path,
    names: Sequence[str] | dict[str, int],
    change: Callable[[ControlClient, str], Awaitable[Balance]],
    as_json: bool,
    text: Callable[[Balance], str] = _changed_text,
) -> None:
    """Have the running proxy change each account, and print it as it is then."""
    from agent_preflight.operate.proxy_status import account_document, on_proxy

    with usage_errors():
        check_names(names)

    async def change_all(client: ControlClient) -> None:
        for name in names:
            account = await change(client, name)
            emit_json(account_document(account)) if as_json else say(text(account))

    on_proxy(data, change_all)


def _amounts_of(accounts: list[str]) -> dict[str, int]:
    with usage_errors():
        return amounts_of(accounts)
