"""The proxy by hand: no runner, no containers; a base URL, a token for each account, and a budget that holds.

The same data directory again: limits become the new figures, what is posted stays, tokens stay.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from preflight_proxy.accounts import CLOSED, AccountSpec
from preflight_proxy.app import Running
from preflight_proxy.config import Config, check_upstream, upstream_proxy, user_quarantine_file
from preflight_proxy.core.money import limit_pusd, usd_text
from preflight_proxy.core.secret import Secret
from preflight_proxy.errors import ConfigError
from preflight_proxy.private_file import write_private, write_ready_file
from preflight_proxy.serve import serve_until_stopped

SOCKET_PATH_BYTES_MAX = 100
"""The system's limit for a unix socket's path is 107 bytes."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def serve(
    *,
    listen: str,
    unix: str | None,
    upstream: str,
    budget_usd: str | None,
    accounts: Mapping[str, str],
    data: Path,
    byok: bool = False,
    ready_file: Path | None,
    upstream_key: Secret,
) -> int:
    """Serve until SIGTERM or SIGINT; prints the base URL and the tokens.

    Args:
        listen: `HOST:PORT`.
        unix: Path of a unix-socket listener, or None.
        upstream: OpenRouter's API base.
        budget_usd: Limit of the one account `default`, in dollars as text; None with `accounts`.
        accounts: Account name to dollars, as text.
        data: Directory of the ledger, the cost log, the budget files and the tokens.
        byok: Calls may run on provider keys of the user's own (M16).
        ready_file: Where to write that everything is served, or None.
        upstream_key: The real key; every account's calls leave with it.

    Returns:
        The exit code.

    Raises:
        ConfigError: The upstream, its HTTP proxy, a name or an amount is not what it must be.
        OperatingError: It cannot start.
    """
    check_upstream(upstream)
    upstream_proxy(upstream)
    limits_usd = _limits(budget_usd, accounts)
    data = data.absolute()
    _make_directories(data)
    tokens = _tokens(data / "tokens.json", limits_usd)
    with _control_path(data) as control:
        config = Config(
            data=str(data),
            upstream=upstream,
            listen=listen,
            unix=unix,
            control=str(control),
            durability="power",
            byok=byok,
            quarantine_file=str(user_quarantine_file()),
        )

        async def on_ready(proxy: Running) -> None:
            await _open(proxy, data, limits_usd, tokens, upstream_key)
            opened = {name: {"api_key": tokens[name], "limit_usd": limit} for name, limit in limits_usd.items()}
            if ready_file is not None:
                first = tokens[next(iter(limits_usd))]
                ready = {"base_url": proxy.base_url, "api_key": first, "control": str(control), "accounts": opened}
                write_ready_file(ready_file, ready)
            _say(proxy.base_url, opened)
            proxy.foreign_keys.on_limit = _say_limit
            await _compare_with_key(proxy, list(limits_usd), upstream_key)

        return serve_until_stopped(config, on_ready)


def _limits(budget_usd: str | None, accounts: Mapping[str, str]) -> dict[str, str]:
    """Each account's limit, checked."""
    if (budget_usd is None) == (not accounts):
        raise ConfigError("Give either one budget or named accounts, not both: each account has its own limit.")
    limits_usd = dict(accounts) or {"default": str(budget_usd)}
    for name, limit in limits_usd.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"The account name {name!r} is not made of letters, digits, dots, dashes and underscores."
            )
        try:
            if not limit_pusd(limit):
                raise ValueError("with $0 every call would be refused; give more")
        except ValueError as exc:
            raise ConfigError(f"The budget of {name!r}: {exc}. Nothing is served.") from exc
    return limits_usd


async def _open(
    proxy: Running, data: Path, limits_usd: Mapping[str, str], tokens: Mapping[str, str], key: Secret
) -> None:
    """Open the accounts that are named; close those of an earlier time that are not."""
    for name, limit in limits_usd.items():
        budget_file = str(data / "budget" / f"{name}.txt")
        spec = AccountSpec(limit_usd=limit, token=tokens[name], key=key.reveal(), budget_file=budget_file)
        await proxy.accounts.open(name, spec)
        if proxy.books.account(name).frozen == CLOSED:
            proxy.accounts.unfreeze(name)  # it was left out last time, and is named again
    for name in [known for known in proxy.books.accounts() if known not in limits_usd]:
        await proxy.accounts.close(name)  # its token is refused at once; what it spent stays in the books


def _say(base_url: str | None, opened: Mapping[str, Mapping[str, str]]) -> None:
    lines = [f"base URL  {base_url}"]
    lines += [f"account   {name}  ${account['limit_usd']}  {account['api_key']}" for name, account in opened.items()]
    print("\n".join(lines), flush=True)  # noqa: T201 - what the person copies


def _say_limit(resets_at: str | None) -> None:
    when = f" It begins anew at {resets_at}." if resets_at is not None else ""
    print(f"The key's limit at OpenRouter is reached; calls that fit below it are still sent.{when}", flush=True)  # noqa: T201


async def _compare_with_key(proxy: Running, names: Sequence[str], key: Secret) -> None:
    """Read the key once, before its first call, and say if its limit leaves less than the accounts may still spend."""
    accounts = [proxy.books.account(name) for name in names]
    told = await proxy.foreign_keys.look(key, accounts[0].key_hash)
    open_pusd = sum(max(0, account.limit_pusd - account.posted_pusd) for account in accounts)
    if told is None or told.left_pusd is None or told.left_pusd >= open_pusd:
        return
    left, budget = usd_text(told.left_pusd), usd_text(open_pusd)
    again = f" It begins anew {told.limit_reset}." if told.limit_reset is not None else ""
    print(f"The key's limit at OpenRouter leaves ${left}, less than the budget of ${budget}.{again}", flush=True)  # noqa: T201


def _tokens(path: Path, limits_usd: Mapping[str, str]) -> dict[str, str]:
    """The accounts' tokens: those of the last time, and new ones for new accounts; kept in a file of mode 0600."""
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
        tokens = {str(name): str(token) for name, token in known.items()}
    except (OSError, ValueError, AttributeError) as exc:
        raise ConfigError(
            f"The tokens in {path} cannot be read: {exc}. Remove the file to have new ones made."
        ) from exc
    missing = [name for name in limits_usd if name not in tokens]
    tokens |= {name: new_token() for name in missing}
    if missing:
        write_private(path, json.dumps(tokens, indent=2))
    return tokens


def new_token() -> str:
    """A trial token: 256 random bits under our own prefix, so that logs can redact it and nobody takes it for a key."""
    return "pf-" + secrets.token_urlsafe(32)


def _make_directories(data: Path) -> None:
    """The data directory, for its owner alone if it is new, and in it the one of budget files, readable beside it (C17)."""
    budget = data / "budget"
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        budget.mkdir(exist_ok=True)
        budget.chmod(0o755)
    except OSError as exc:
        why = "a file has that name" if data.is_file() else exc.strerror
        raise ConfigError(f"The data directory {data} cannot be made: {why}.") from exc


@contextmanager
def _control_path(data: Path) -> Iterator[Path]:
    """Where the control socket is made: with the data, or in a directory of its own where that path is too long (C3)."""
    path = data / "control.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ap-") as directory:
        yield Path(directory) / "control.sock"
