"""The command `proxy`: declares its options once, and makes the settings of a stand-alone proxy from them.

No library of command lines is loaded here: Typer alone would take a third of the time until a proxy serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent_preflight.base.config import base_url
from agent_preflight.base.usd import dollars, read_amounts
from agent_preflight.options import kinds
from agent_preflight.options.kinds import SettingError, read_value
from preflight_proxy.base.config import (
    Bound,
    CacheBound,
    Durability,
    StandaloneConfig,
    check_upstream,
    environment_key,
    host_port,
)
from preflight_proxy.core.errors import ConfigError, OperatingError
from preflight_proxy.core.ledger.account_name import NAME_RULE, is_account_name

UPSTREAM = "https://openrouter.ai/api/v1"


class ProxyOption(msgspec.Struct, frozen=True):
    """An option of the command.

    Attributes:
        help: What it is, for `--help`.
        metavar: What stands for its value there; a switch has none.
        default: Its value if it is not given.
        repeats: It may be given more than once, and has a list of values.
    """

    help: str
    metavar: str | None = None
    default: str | bool | None = None
    repeats: bool = False


OPTIONS = {
    "data": ProxyOption("Folder of the ledger; the same again goes on where it stood.", "DIR"),
    "listen": ProxyOption("Port 0 is any free one.", "HOST:PORT", "127.0.0.1:8788"),
    "unix": ProxyOption("A unix socket besides.", "PATH"),
    "upstream": ProxyOption(f"API base; OPENROUTER_BASE_URL, else {UPSTREAM}.", "URL"),
    "budget": ProxyOption("For the one account `default`.", "USD"),
    "account": ProxyOption(
        "A new account, or a new limit of one that is there; may be repeated.", "NAME=USD", repeats=True
    ),
    "byok": ProxyOption("Let calls run on provider keys that your OpenRouter account holds.", default=False),
    "durability": ProxyOption(
        "What a cost survives: process, a kill of the proxy; power, a loss of power too, but calls are slower.",
        *("WHAT", "process"),
    ),
    "bound": ProxyOption(
        "New text is reserved: measured, by token counts; proven, by its bytes, which no text passes.",
        *("WHAT", "measured"),
    ),
    "cache_bound": ProxyOption(
        "A prompt that was billed before is reserved: write, as a cache write; billed, as a cache read.",
        *("WHAT", "write"),
    ),
    "no_weigh": ProxyOption("Do not weigh a call that does not fit by a small call of its text.", default=False),
    "share_preambles": ProxyOption(
        "Tools and system messages that one account was billed for are known for the others.", default=False
    ),
    "ready_file": ProxyOption("Written as JSON once everything is served.", "FILE"),
}


def flag(name: str) -> str:
    """Return how an option is written on the command line."""
    return "--" + name.replace("_", "-")


def read_plain(words: Sequence[str]) -> dict[str, Any] | None:
    """Return the options, by name, of a command line that has nothing but options and their values; else None."""
    names = {flag(name): name for name in OPTIONS}
    values: dict[str, Any] = {name: option.default for name, option in OPTIONS.items()}
    rest = iter(words)
    for word in rest:
        text, equals, value = word.partition("=")
        if text not in names:
            return None
        option = OPTIONS[name := names[text]]
        given = value if equals else option.metavar is None or next(rest, None)
        if given is None or (equals and option.metavar is None):
            return None
        values[name] = [*(values[name] or ()), given] if option.repeats else given
    return values


def plain_settings(words: Sequence[str]) -> StandaloneConfig | None:
    """Return the settings of a plain command line; None where something is wrong, which the command line's parser then says."""
    try:
        return None if (values := read_plain(words)) is None else proxy_settings(values)
    except (ValueError, OperatingError, OSError):
        return None


def proxy_settings(values: Mapping[str, Any]) -> StandaloneConfig:
    """Return the settings that options make.

    Raises:
        ValueError: An option is wrong. The text says which.
        ConfigError: There is no key.
    """
    folder = data_folder(values["data"])
    upstream, listen = values["upstream"] or base_url() or UPSTREAM, values["listen"]
    limits_usd = _limits(folder, values["budget"], values["account"] or [])
    try:
        check_upstream(upstream)
        host_port(listen)
    except ConfigError as exc:
        raise SettingError(str(exc)) from exc
    read_value(kinds.URL, upstream, "--upstream")
    read_value(kinds.LISTEN, listen, "--listen")
    chosen = {
        name: read_value(kinds.choice(names), values[name], flag(name))
        for name, names in (("durability", Durability), ("bound", Bound), ("cache_bound", CacheBound))
    }
    environment_key()  # the proxy reads it
    return StandaloneConfig(
        data=str(folder),
        upstream=upstream,
        listen=listen,
        unix=values["unix"],
        limits_usd=limits_usd,
        byok=values["byok"],
        weigh=not values["no_weigh"],
        share_preambles=values["share_preambles"],
        **chosen,
        ready_file=None if values["ready_file"] is None else str(Path(values["ready_file"])),
    )


def data_folder(data: str | Path | None) -> Path:
    """Return the data folder that `--data` names.

    Raises:
        ValueError: There is none, or it is not a path.
    """
    if data is None:
        raise ValueError("name the proxy's data folder: --data DIR")
    return Path(read_value(kinds.FOLDER, Path(data), "--data"))


def _limits(folder: Path, budget: str | None, accounts: Sequence[str]) -> dict[str, str]:
    """Return the limits that `--budget` and `--account` set, in dollars by account."""
    from preflight_proxy.ledger.reader import has_accounts

    if budget is not None and accounts:
        raise ValueError("give either --budget or --account, not both: each account has its own limit")
    amounts = amounts_of(accounts if budget is None else [f"default={budget}"])
    if not amounts and not has_accounts(folder):
        raise ValueError(
            f"there is no account in {folder} yet: give --budget 1.00, or --account NAME=USD, which may be repeated"
        )
    return {name: dollars(limit_pusd).removeprefix("$") for name, limit_pusd in amounts.items()}


def amounts_of(texts: Iterable[str]) -> dict[str, int]:
    """Return accounts and amounts above $0, in pico-USD, of options or arguments such as `alice=5` and `alice=$0.50`.

    Raises:
        ValueError: One is not of this form, or an account is named twice.
    """
    amounts = read_amounts(texts, "NAME=USD, such as alice=5")
    for name in (names := [name for name, _ in amounts]):
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is named twice")
    check_names(names)
    return dict(amounts)


def check_names(names: Iterable[str]) -> None:
    """Check the names of accounts.

    Raises:
        ValueError: One cannot be a name.
    """
    for name in names:
        if not is_account_name(name):
            raise ValueError(f"{name!r} cannot be an account's name: {NAME_RULE}")
