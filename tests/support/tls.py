"""A certificate for `openrouter.ai` and a client's trust in it, as a run makes them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

from agent_preflight.environment.authority import Authority, make_authority
from preflight_proxy.base.control_messages import TlsSpec


def new_authority() -> Authority:
    """The authority of a run that begins now."""
    return make_authority("test-run", datetime.now(UTC))


def tls_spec(authority: Authority, port: int) -> TlsSpec:
    """What a runner tells the proxy of it."""
    return TlsSpec(port, authority.certificate, authority.key)


def trusting(*roots: str) -> ssl.SSLContext:
    """A client that trusts these roots alone, and is as strict as Python can be."""
    context = ssl.create_default_context(cadata="\n".join(roots))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context
