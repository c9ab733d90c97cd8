"""Why OpenRouter cannot be reached, or refuses: sentences that name the cause and say what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from agent_preflight.openrouter import http
from agent_preflight.openrouter.http import Answer, Key
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.terminal import plain

REACHABLE_S_MAX = 10.0
ANSWER_CHARS_SHOWN = 200
UNSPENT = " Nothing was spent."
"""The end of messages before a run."""
KEYS_PAGE = "https://openrouter.ai/settings/management-keys"


def trouble(key: Key | None, base_url: str | None = None) -> str:
    """Call OpenRouter once, without cost, and return what is wrong; "" if it answers as its API does."""
    url = http.resolve_base_url(base_url)
    try:
        answer = http.call("GET", "/key", key, timeout_s=REACHABLE_S_MAX, base_url=base_url)
    except http.NO_ANSWER as exc:
        return cannot_reach(url, exc)
    if answer.status >= 500:
        return _sentence(url, f"it answers with {refusal_of(answer)}")
    if not isinstance(answer.body, dict) or (answer.status == 404 and "data" not in answer.body):
        return (
            f"What answers at {_shown(url)} is not OpenRouter's API (HTTP {answer.status}). "
            f"Check OPENROUTER_BASE_URL: usually it is unset, or https://openrouter.ai/api/v1.{UNSPENT}"
        )
    return ""


def refusal_of(answer: Answer) -> str:
    """Return the status of an answer, and its error message."""
    match answer.body:
        case {"error": {"message": str(text)}}:
            return f"{answer.status}: {plain(text[:ANSWER_CHARS_SHOWN])}"
    return str(answer.status)


def why_unread(answer: Answer | None, key: Key, base_url: str | None = None) -> str:
    """Return why a read failed, without a full stop. It does not say whether money was spent, so it can be used after a run.

    Args:
        answer: The answer; None if none came. Then OpenRouter is called once more for the cause.
        key: The key of the read.
        base_url: The API's base, if not the usual one.
    """
    if answer is None:
        sentences = trouble(key, base_url) or "OpenRouter gave no answer. Try again."
        return sentences.removesuffix(UNSPENT).removesuffix(".")
    if answer.status in (401, 403):
        return f"OpenRouter refuses the management key ({refusal_of(answer)}). Set OR_ADMIN_KEY to a management key: {KEYS_PAGE}"
    return f"OpenRouter answers with {refusal_of(answer)}"


def cannot_reach(url: str, exc: BaseException) -> str:
    """Return the message for a call without an answer."""
    if isinstance(exc, ConfigError):
        return f"{exc}{UNSPENT}"
    if isinstance(exc, ValueError):  # a key that no header may carry
        return f"OpenRouter was not called: {exc}. Check the keys in the environment.{UNSPENT}"
    return _sentence(url, cause_of(exc, url))


def cause_of(exc: BaseException, url: str = "") -> str:
    """Return in words why no answer came: the innermost cause that is known here."""
    host = urlsplit(url).hostname or "the host"
    for cause in _causes(exc):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"its TLS certificate is not trusted ({cause.verify_message})"
            case ssl.SSLError():
                return (
                    f"TLS failed ({(cause.reason or 'unknown').replace('_', ' ').lower()}); is it an http:// address?"
                )
            case socket.gaierror():
                return f"the name {host} cannot be found (DNS)"
            case ConnectionRefusedError():
                return "connection refused"
            case ConnectionResetError() | httpx.RemoteProtocolError():
                return "it closed the connection, or does not speak HTTP"
            case httpx.InvalidURL() | httpx.UnsupportedProtocol():
                return "this is no http:// or https:// address"
            case httpx.TimeoutException() | TimeoutError():
                return f"no answer within {REACHABLE_S_MAX:.0f} s"
            case httpx.ProxyError():
                return f"the HTTP proxy refuses: {plain(str(cause))[:ANSWER_CHARS_SHOWN]}"
            case OSError() if cause.strerror:
                return cause.strerror.lower()
    return plain(str(exc))[:ANSWER_CHARS_SHOWN] or type(exc).__name__


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield the causes of an exception, the innermost first: it is the operating system's."""
    chain: list[BaseException] = []
    cause: BaseException | None = exc
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return reversed(chain)


def _sentence(url: str, cause: str) -> str:
    return f"Cannot reach OpenRouter at {_shown(url)}: {cause}. Check OPENROUTER_BASE_URL and your network.{UNSPENT}"


def _shown(url: str) -> str:
    """Return a URL without user name and password."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return plain(parts._replace(netloc=host).geturl())[:ANSWER_CHARS_SHOWN]
    except ValueError:
        return plain(url)[:ANSWER_CHARS_SHOWN]
