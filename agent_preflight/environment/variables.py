"""The variables that an agent gets: where the proxy is, a token for it, trust, HTTP proxies, and no real key. Pure.

Variables come from the user's `env`, from the image's `ENV`, and from us. The user's own values win, except for
`OPENROUTER_API_KEY`, `PREFLIGHT_BUDGET_FILE` and NO_PROXY. The configuration of Docker's client adds none: only Docker's command
line reads it, and containers are made by the engine's API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

GATE_PORT = 8788
"""The port of the proxy inside a container."""
TLS_PORT = 443
GATE_BASE_URL = f"http://127.0.0.1:{GATE_PORT}/api/v1"
BUDGET_MOUNT = "/run/preflight"
"""The mount point of the budget directory in a container; read-only, and not below the workspace: C16 (the budget file)."""
CONTAINER_BUDGET_FILE = f"{BUDGET_MOUNT}/budget.txt"
BUNDLE_NAME = "ca-bundle.pem"
CONTAINER_BUNDLE = f"{BUDGET_MOUNT}/{BUNDLE_NAME}"
"""The bundle of root certificates in a container, beside budget.txt."""
TRUST_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
)
"""What OpenSSL and Go, requests, curl, Node, pip, git, boto and Deno read; C10 (agents with the address built in)."""
PROXY_VARIABLES = tuple(
    spelling for name in ("HTTP", "HTTPS", "ALL", "FTP") for spelling in (f"{name}_PROXY", f"{name.lower()}_proxy")
)
NO_PROXY_VARIABLES = ("NO_PROXY", "no_proxy")
"""Both spellings: curl reads `http_proxy` in lower case only, other clients read the capitals first."""
_WEB = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
_EVERYWHERE = "*"


def agent_env(
    user: Mapping[str, str],
    *,
    token: str,
    base_url: str,
    budget_file: str,
    model_id: str,
    own_authority: bool = False,
) -> dict[str, str]:
    """Return an agent's variables: the user's own, then ours.

    `OPENROUTER_API_KEY` is always the trial token. Each client family (OpenRouter's base URLs, OpenAI, Anthropic) is left
    out if the user sets any variable of it.

    Args:
        user: The user's own variables.
        token: The trial token.
        base_url: The proxy as the agent reaches it, ending in `/api/v1`.
        budget_file: Path of budget.txt as the agent sees it.
        model_id: The value of `PREFLIGHT_MODEL`, so that one image serves many models.
        own_authority: The trial's gate is `openrouter.ai`, by the run's own certificate authority.
    """
    env = {"PREFLIGHT_MODEL": model_id, **user, "PREFLIGHT_BUDGET_FILE": budget_file}
    if own_authority:
        env |= {name: CONTAINER_BUNDLE for name in TRUST_VARIABLES if name not in user}
    for family in (
        {"OPENROUTER_BASE_URL": base_url, "OPENROUTER_API_BASE": base_url},
        {"OPENAI_API_KEY": token, "CODEX_API_KEY": token, "OPENAI_BASE_URL": base_url},
        {
            "ANTHROPIC_AUTH_TOKEN": token,
            "ANTHROPIC_API_KEY": "",
            "ANTHROPIC_BASE_URL": base_url.removesuffix("/v1"),
        },
    ):
        if not family.keys() & user.keys():
            env |= family
    env["OPENROUTER_API_KEY"] = token
    return env


def trust_warnings(user: Mapping[str, str]) -> list[str]:
    """Return a warning if the user sets a variable that names root certificates."""
    own = [name for name in TRUST_VARIABLES if name in user]
    if not own:
        return []
    text = (
        f"{', '.join(own)} {'is' if len(own) == 1 else 'are'} yours: clients that read it may not trust https://openrouter.ai "
        f"inside the trial; add the last certificate of {CONTAINER_BUNDLE} to your roots, or have the agent use the base URL"
    )
    return [text]


def proxy_env(
    user: Mapping[str, str], image: Mapping[str, str], *, past: Sequence[str], egress: str | None, sealed: bool
) -> dict[str, str]:
    """Return the HTTP proxy variables that an agent gets beside the user's own, which win.

    In a sealed trial a proxy that an image names cannot be reached, so those variables are empty, or name the egress list's proxy.
    If an agent may have any proxy, the hosts in `past` are added to the user's and the image's exceptions.

    Args:
        user: The user's own variables.
        image: The image's.
        past: Hosts that are to be reached without a proxy.
        egress: URL of the proxy that serves the egress list, or None.
        sealed: The agent has no network but its gate.
    """
    env = dict.fromkeys(PROXY_VARIABLES, "") if sealed else {}
    if egress is not None and not own_proxy(user):
        # Node looks at proxy variables only if NODE_USE_ENV_PROXY is set (nodejs.org/api/cli.html, 2026-11)
        env |= {**dict.fromkeys(_WEB, egress), "NODE_USE_ENV_PROXY": "1"}
    has_proxy = not sealed or egress is not None or any(user.get(name) for name in PROXY_VARIABLES)
    if not has_proxy:
        env |= dict.fromkeys(NO_PROXY_VARIABLES, "")
    env = {name: value for name, value in env.items() if name not in user}
    return env | dict.fromkeys(NO_PROXY_VARIABLES, _exceptions(past, user, image)) if has_proxy else env


def _exceptions(past: Sequence[str], *variables: Mapping[str, str]) -> str:
    """Return the value of NO_PROXY. A `*` stays the only entry, because most clients understand it only if it is alone."""
    texts = [each[name] for each in variables for name in NO_PROXY_VARIABLES if name in each]
    hosts = dict.fromkeys([*past, *(host for text in texts for host in re.split(r"[,\s]+", text) if host)])
    return _EVERYWHERE if _EVERYWHERE in hosts else ",".join(hosts)


def own_proxy(user: Mapping[str, str]) -> list[str]:
    """Return the proxy variables that the user sets, empty ones included."""
    return [name for name in PROXY_VARIABLES if name in user]
