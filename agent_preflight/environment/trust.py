"""How clients inside a trial come to trust the gate as `openrouter.ai`: variables that name one bundle of roots (C10). Pure."""

from __future__ import annotations

from collections.abc import Mapping

BUNDLE_NAME = "ca-bundle.pem"
CONTAINER_BUNDLE = f"/run/preflight/{BUNDLE_NAME}"
"""Where the bundle lies in a container: beside budget.txt, read-only."""
TLS_PORT = 443
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
"""What OpenSSL and Go, requests, curl, Node, pip, git, boto and Deno read."""


def trust_env(user: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that name the bundle, without those that the user sets."""
    return {name: CONTAINER_BUNDLE for name in TRUST_VARIABLES if name not in user}


def trust_warnings(user: Mapping[str, str]) -> list[str]:
    """Return what to tell a person whose own variables win, for whatever reason they are set."""
    own = [name for name in TRUST_VARIABLES if name in user]
    if not own:
        return []
    told = (
        f"{', '.join(own)} {'is' if len(own) == 1 else 'are'} yours: clients that read it may not trust https://openrouter.ai "
        f"inside the trial; add the last certificate of {CONTAINER_BUNDLE} to your roots, or have the agent use the base URL"
    )
    return [told]
