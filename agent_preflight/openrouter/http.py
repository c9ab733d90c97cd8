"""Calls of OpenRouter's API: the address, the time limit, and how much of an answer is read.

Keys are sent in the Authorization header only. No error raised here quotes a header or an answer's body.
"""

import functools
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx
import msgspec

from agent_preflight.base import config
from agent_preflight.openrouter.patch_points import default_base_url
from preflight_proxy.core.environment_proxy import http_proxy
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

ANSWER_BYTES_MAX = 64 * 2**20
"""The list of all models has about 1 MB. A larger answer than this is an error."""

GET_ATTEMPTS = 3
"""How often a read is tried if the network or the server fails."""

GET_PAUSE_S = 0.25
"""The pause before a repeated read."""

NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL, ValueError, ConfigError)
"""What `call` raises: no answer came, or no request could be sent."""

Key = str | Secret


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. ``body`` is the JSON value; None if the body is not JSON."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def data(self) -> Any:  # noqa: ANN401 - any JSON value
        """The member ``data`` of the body; None if there is none."""
        return self.body.get("data") if isinstance(self.body, Mapping) else None


def resolve_base_url(base_url: str | None) -> str:
    """Return the API's base: the argument, else OPENROUTER_BASE_URL, else ``provision.OR_BASE`` as it is now."""
    return (base_url or config.base_url() or default_base_url()).rstrip("/")


def check_way(base_url: str | None) -> None:
    """Check the base URL, and the HTTP proxy that the environment names for it.

    Raises:
        ConfigError: One of them cannot be used. The text names the variable, and says what to set.
    """
    url = resolve_base_url(base_url)
    try:
        http_proxy(url, config.child_environment())
    except ValueError as exc:
        usual = "usually it is unset, or https://openrouter.ai/api/v1"
        raise ConfigError(f"OPENROUTER_BASE_URL is no address: {url[:80]!r}; {usual}. Nothing was spent.") from exc


def call(
    method: str,
    path: str,
    key: Key | None,
    *,
    timeout_s: float,
    base_url: str | None = None,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    exact: bool = True,
) -> Answer:
    """Send one request once and return the answer, whatever its status; its fractions as Decimal, if ``exact``.

    Without a key, or with an empty one, it has no Authorization: lists of models and prices are public.

    Raises:
        ValueError: The key has characters that no header may have. The text does not show the key.
        ConfigError: The environment names an HTTP proxy that cannot be used.
        httpx.HTTPError: No answer came, it ended early, or it is larger than `ANSWER_BYTES_MAX`.
    """
    bearer = "" if key is None else _header_text(key)
    authorization = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    url = resolve_base_url(base_url) + path
    sent = {**(headers or {}), **authorization}
    with opened(method, url, headers=sent, json_body=body, timeout_s=timeout_s) as response:
        return Answer(response.status_code, _json(_read(response), exact=exact))


@contextmanager
def opened(
    method: str,
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    json_body: Mapping[str, Any] | None = None,
) -> Iterator[httpx.Response]:
    """Send one request, by the HTTP proxy that the environment names for it, and yield the response with its body unread.

    No netrc file is read, so no key is sent but the one in ``headers``.

    Raises:
        ConfigError: The environment names an HTTP proxy that cannot be used.
        httpx.HTTPError: No answer came.
    """
    proxy = None
    if (named := http_proxy(url, config.child_environment())) is not None:
        login = named.authorization
        proxy = httpx.Proxy(named.url, headers={"Proxy-Authorization": login.reveal()} if login is not None else None)
    with httpx.stream(
        method,
        url,
        headers=headers,
        json=json_body,
        timeout=timeout_s,
        verify=_trust(url),
        proxy=proxy,
        trust_env=False,
    ) as response:
        yield response


def get(
    path: str, key: Key | None, *, timeout_s: float, base_url: str | None = None, exact: bool = True
) -> Answer | None:
    """Read something, in up to `GET_ATTEMPTS` attempts while no answer comes or its status is 500 or more. Never raises.

    Returns:
        The last answer; None if none came.
    """
    answer = None
    for attempt in range(GET_ATTEMPTS):
        if attempt:
            time.sleep(GET_PAUSE_S)
        try:
            answer = call("GET", path, key, timeout_s=timeout_s, base_url=base_url, exact=exact)
        except (httpx.HTTPError, httpx.InvalidURL):
            continue
        except Exception:  # a wrong key or a missing file of certificates: a second attempt changes nothing
            break
        if answer.status < 500:
            break
    return answer


def amount(value: object) -> Decimal | None:
    """Return a JSON number as exact dollars; None if it is no number, not finite, or above a billion."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    exact = Decimal(value)
    return exact if exact.is_finite() and abs(exact) <= 10**9 else None


def _header_text(key: Key) -> str:
    """Return a key without the blanks that files and variables add. The HTTP library would quote a key that it cannot send."""
    text = (key.reveal() if isinstance(key, Secret) else key).strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("the key holds characters that no key has")
    return text


def _trust(url: str) -> ssl.SSLContext:
    """Return the system's root certificates, for a URL that needs them."""
    if url.startswith("http:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without any, which reads no file
    with _READING:  # the trials of a run ask all at once
        return _roots()


@functools.cache
def _roots() -> ssl.SSLContext:
    """Reading them takes about 50 ms, so they are read once a process."""
    return httpx.create_ssl_context()


_READING = threading.Lock()


def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > ANSWER_BYTES_MAX:
            raise httpx.DecodingError("the answer is too large", request=response.request)
    return bytes(content)


def _json(content: bytes, *, exact: bool) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(content, parse_float=Decimal if exact else None)
    except (ValueError, RecursionError):
        return None
