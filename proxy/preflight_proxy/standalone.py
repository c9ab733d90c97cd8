"""The proxy by hand: no runner, no containers; a base URL, a token for each account, and a budget that holds.

The same data directory again: limits become the new figures, what is posted stays, tokens stay.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from preflight_proxy.accounts import AccountSpec
from preflight_proxy.app import Running, serve_until_stopped, write_ready_file
from preflight_proxy.config import Config, user_quarantine_file
from preflight_proxy.core.money import limit_pusd
from preflight_proxy.core.secret import Secret
from preflight_proxy.errors import ConfigError

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
        ready_file: Where to write that everything is served, or None.
        upstream_key: The real key; every account's calls leave with it.

    Returns:
        The exit code.

    Raises:
        ConfigError: A name or an amount is not what it must be.
        OperatingError: It cannot start.
    """
    limits_usd = _limits(budget_usd, accounts)
    data = data.absolute()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data / "budget").mkdir(exist_ok=True)
    tokens = _tokens(data / "tokens.json", limits_usd)
    control = _control_path(data)
    config = Config(
        data=str(data),
        upstream=upstream,
        listen=listen,
        unix=unix,
        control=str(control),
        durability="power",
        quarantine_file=str(user_quarantine_file()),
    )

    async def on_ready(proxy: Running) -> None:
        for name, limit in limits_usd.items():
            spec = AccountSpec(
                limit_usd=limit,
                token=tokens[name],
                key=upstream_key.reveal(),
                budget_file=str(data / "budget" / f"{name}.txt"),
            )
            await proxy.accounts.open(name, spec)
        opened = {name: {"api_key": tokens[name], "limit_usd": limit} for name, limit in limits_usd.items()}
        if ready_file is not None:
            ready: dict[str, object] = {
                "base_url": proxy.base_url,
                "api_key": tokens[next(iter(limits_usd))],
                "control": str(control),
                "accounts": opened,
            }
            write_ready_file(ready_file, ready)
        _say(proxy.base_url, opened)

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
            limit_pusd(limit)
        except ValueError as exc:
            raise ConfigError(f"The budget of {name!r}: {exc}") from exc
    return limits_usd


def _say(base_url: str | None, opened: Mapping[str, Mapping[str, str]]) -> None:
    lines = [f"base URL  {base_url}"]
    lines += [f"account   {name}  ${account['limit_usd']}  {account['api_key']}" for name, account in opened.items()]
    print("\n".join(lines), flush=True)  # noqa: T201 - what the person copies


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
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(tokens, file, indent=2)
        draft.replace(path)
    return tokens


def new_token() -> str:
    """A trial token: 256 random bits under our own prefix, so that logs can redact it and nobody takes it for a key."""
    return "pf-" + secrets.token_urlsafe(32)


def _control_path(data: Path) -> Path:
    path = data / "control.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    return Path(tempfile.mkdtemp(prefix="ap-")) / "control.sock"
