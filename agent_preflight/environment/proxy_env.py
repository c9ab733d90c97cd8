"""Which HTTP proxies an agent's variables name, so that none cuts it off from its own gate. Pure.

The variables come from the user's `env`, from the image's `ENV`, and from us where there is an egress list. The configuration of
Docker's client adds none: only its command line reads it, and containers are made by the engine's API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

PROXY_VARIABLES = tuple(
    spelled for name in ("HTTP", "HTTPS", "ALL", "FTP") for spelled in (f"{name}_PROXY", f"{name.lower()}_proxy")
)
NO_PROXY_VARIABLES = ("NO_PROXY", "no_proxy")
"""Both spellings: curl takes `http_proxy` in lower case alone, others look at capitals first."""
_WEB = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
_EVERYWHERE = "*"


def proxy_env(
    user: Mapping[str, str], image: Mapping[str, str], *, past: Sequence[str], egress: str | None, sealed: bool
) -> dict[str, str]:
    """Return the proxy variables that an agent is given beside the user's own, which win.

    In a sealed trial a proxy that an image names leads nowhere, so those variables are empty, or name the egress list's proxy.
    Where an agent may have any proxy, what is reached without one is added to what user and image except.

    Args:
        user: The user's own variables.
        image: The image's.
        past: Hosts that are reached without a proxy.
        egress: URL of the proxy that serves the egress list, or None.
        sealed: The agent has no network but its gate.
    """
    env = dict.fromkeys(PROXY_VARIABLES, "") if sealed else {}
    if egress is not None and not own_proxy(user):
        env |= dict.fromkeys(_WEB, egress)
        env["NODE_USE_ENV_PROXY"] = (
            "1"  # Node looks at these variables only if told so (nodejs.org/api/cli.html, 2026-11)
        )
    if sealed and egress is None and not any(user.get(name) for name in PROXY_VARIABLES):
        env |= dict.fromkeys(NO_PROXY_VARIABLES, "")
        return _beside(user, env)
    return _beside(user, env) | dict.fromkeys(NO_PROXY_VARIABLES, _exceptions(past, user, image))


def _beside(user: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in user}


def _exceptions(past: Sequence[str], *said: Mapping[str, str]) -> str:
    """Return the value of NO_PROXY; everywhere stays everywhere, which most clients understand only where it stands alone."""
    texts = [variables[name] for variables in said for name in NO_PROXY_VARIABLES if name in variables]
    hosts = dict.fromkeys([*past, *(host for text in texts for host in re.split(r"[,\s]+", text) if host)])
    return _EVERYWHERE if _EVERYWHERE in hosts else ",".join(hosts)


def own_proxy(user: Mapping[str, str]) -> list[str]:
    """Return the variables with which the user names a proxy, or that there is none."""
    return [name for name in PROXY_VARIABLES if name in user]
