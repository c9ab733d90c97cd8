"""A certificate for `openrouter.ai` and a client that trusts it, as a run makes them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

from agent_preflight.environment.authority import Authority, make_authority
from preflight_proxy.base.control_messages import TlsSpec


def new_authority() -> Authority:
    """Return a new certificate authority of a run."""
    return make_authority("test-run", datetime.now(UTC))


def tls_spec(authority: Authority, port: int) -> TlsSpec:
    """Return what a runner sends to the proxy about it."""
    return TlsSpec(port, authority.certificate, authority.key)


def trusting(*roots: str) -> ssl.SSLContext:
    """Return a strict client context that trusts only these roots."""
    context = ssl.create_default_context(cadata="\n".join(roots))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context
