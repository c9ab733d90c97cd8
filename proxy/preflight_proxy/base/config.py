"""The proxy's settings: one frozen object, built at the edge from JSON or from the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from preflight_proxy.core.environment_proxy import HttpProxy, http_proxy
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.evidence.evidence import CALL_S_MAX, GENERATION_S_MAX, KEY_USAGE_LAG_S
from preflight_proxy.core.secret import Secret

VERSION = "0.1.0"
"""The version that `/health` names."""

GRACE_S = 10.0
"""A runner without a control connection for this long counts as dead."""


Durability = Literal["process", "power"]
Bound = Literal["measured", "proven"]
CacheBound = Literal["write", "billed"]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a proxy process. They hold no secret.

    Attributes:
        data: Directory of ledger.sqlite3 and costs.jsonl; made if it is not there.
        upstream: OpenRouter's API base.
        listen: `HOST:PORT` of the TCP listener where the token alone decides; None for none.
        unix: Path of a unix-socket listener of the same kind.
        portal: `HOST:PORT` where forwarders of portable gates connect; None for none. An address that only they reach.
        control: Path of the control socket; None for none.
        ready_file: Written, 0600, once everything is served.
        run: The run whose control connection is watched; None watches nothing.
        grace_s: See `GRACE_S`.
        durability: `process` survives kill -9, `power` a loss of power too (M21).
        unknown_fields: What becomes of top-level fields that no table knows (M8).
        byok: Calls may run on provider keys of the caller's own; else an endpoint that does so goes out of use (M16).
        key_usage_lag_s, generation_s_max, call_s_max: The clocks of M13.
        quarantine_file: The user's own list of quarantined endpoints, read at start and added to (M14); None for none.
        bound: How the tokens of new text are bounded: `measured` by classes of bytes, `proven` by the number of bytes (M3).
        cache_bound: The price at which a prefix that was billed before is reserved: of a cache write, or `billed`, of a read.
        weigh: A call that does not fit by its measured bound may be weighed by a small call of its own text.
        share_preambles: Tools and leading system messages that one account was billed for are known in the others.
        shared_counts_file: The user's file of counts that outlive a run; None: nothing is shared with other runs.
        tags: The run's, which each line of costs.jsonl names.
    """

    data: str
    upstream: str
    listen: str | None = None
    unix: str | None = None
    portal: str | None = None
    control: str | None = None
    ready_file: str | None = None
    run: str | None = None
    grace_s: _Seconds = GRACE_S
    durability: Durability = "process"
    unknown_fields: Literal["drop", "refuse", "pass"] = "drop"
    byok: bool = False
    key_usage_lag_s: _Seconds = KEY_USAGE_LAG_S
    generation_s_max: _Seconds = GENERATION_S_MAX
    call_s_max: _Seconds = CALL_S_MAX
    quarantine_file: str | None = None
    bound: Bound = "measured"
    cache_bound: CacheBound = "write"
    weigh: bool = True
    share_preambles: bool = False
    shared_counts_file: str | None = None
    tags: dict[str, str] = {}

    @property
    def data_dir(self) -> Path:
        """The data directory."""
        return Path(self.data)


class StandaloneConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a stand-alone proxy. They hold no secret.

    Attributes:
        data: Folder of the ledger, the cost log, the budget files and the tokens. Accounts that it has are opened too.
        upstream: OpenRouter's API base.
        listen: `HOST:PORT`.
        unix: Path of a unix-socket listener; None for none.
        limits_usd: Account name to dollars, as text: new accounts, and new limits of those in `data`.
        byok, durability, bound, cache_bound, weigh, share_preambles: See `Config`.
        ready_file: Written once everything is served; None for no such file.
    """

    data: str
    upstream: str
    listen: str
    unix: str | None = None
    limits_usd: dict[str, str] = {}
    byok: bool = False
    durability: Durability = "process"
    bound: Bound = "measured"
    cache_bound: CacheBound = "write"
    weigh: bool = True
    share_preambles: bool = False
    ready_file: str | None = None


def read_config(document: bytes) -> Config:
    """Read the settings that a runner hands over.

    Raises:
        ConfigError: They are not what they must be; says where.
    """
    try:
        config = msgspec.json.decode(document, type=Config)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise ConfigError(f"The proxy's settings cannot be read: {exc}") from exc
    check_upstream(config.upstream)
    return config


def check_upstream(upstream: str) -> None:
    """Refuse an upstream that no call could leave for.

    Raises:
        ConfigError: It is no http or https URL.
    """
    if not upstream.startswith(("http://", "https://")):
        raise ConfigError(f"The upstream must be an http or https URL, not {upstream!r}.")


def upstream_proxy(upstream: str) -> HttpProxy | None:
    """The HTTP proxy that this process's environment names for `upstream`; None for a direct way.

    Raises:
        ConfigError: It names one that cannot be used.
    """
    return http_proxy(upstream, os.environ)  # noqa: TID251 - read at the edge


def environment_key() -> Secret:
    """The key in OPENROUTER_API_KEY, with which the calls of a stand-alone proxy leave.

    Raises:
        ConfigError: There is none.
    """
    if not (key := os.environ.get("OPENROUTER_API_KEY")):  # noqa: TID251 - read at the edge
        raise ConfigError("Set OPENROUTER_API_KEY to the key that calls are to leave with. Nothing was started.")
    return Secret(key)


def origin(upstream: str) -> str:
    """Return scheme, host and port of an API base, in one spelling: `https://openrouter.ai`."""
    parts = urlsplit(upstream.strip())
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    try:
        port = parts.port
    except ValueError:  # no number: no call can leave for it either
        return upstream
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, usual) else "")


def user_quarantine_file() -> Path:
    """Where a user's list of quarantined endpoints lies."""
    return state_dir() / "quarantine.jsonl"


def user_counts_file() -> Path:
    """Where a user's counts of tokens that outlive a run lie."""
    return state_dir() / "token_counts.sqlite3"


def state_dir() -> Path:
    """The user's folder for what outlives a run, by the XDG base directory rules."""
    state = os.environ.get("XDG_STATE_HOME", "")  # noqa: TID251 - read at the edge
    return (Path(state) if state else Path.home() / ".local" / "state") / "agent-preflight"


def host_port(listen: str) -> tuple[str, int]:
    """Split `HOST:PORT`.

    Raises:
        ConfigError: It is not of that form.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ConfigError(f"{listen!r} is not HOST:PORT, such as 127.0.0.1:8788.")
    return host.strip("[]"), int(port)
