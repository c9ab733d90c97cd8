"""One call to OpenRouter's API: its address, its time limit, and how much of an answer is read.

Keys are sent in the Authorization header only. No error raised here quotes a header or an answer's body.
"""

import functools
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import httpx

from agent_preflight.base import config
from agent_preflight.openrouter.patch_points import default_base_url
from preflight_proxy.core.environment_proxy import HttpProxy, http_proxy
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

ANSWER_BYTES_MAX = 64 * 2**20
"""The list of all models is about 1 MB; an answer beyond this is no answer."""

GET_ATTEMPTS = 3
"""A read is repeated when the network or the server failed: nothing changes by it."""

GET_PAUSE_S = 0.25
"""The pause before a repeated read."""

NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL, ValueError, ConfigError)
"""What `call` raises: no answer came, or none could be asked for."""

Key = str | Secret


class Public(Enum):
    """The place of a key where a list is read that OpenRouter shows to everybody."""

    KEY = "none"


NO_KEY = Public.KEY


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read whole. ``body`` is the JSON value, None where it was no JSON."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def data(self) -> Any:  # noqa: ANN401 - any JSON value
        """The member ``data`` of the body, None where there is none."""
        return self.body.get("data") if isinstance(self.body, Mapping) else None


def resolve_base_url(base_url: str | None) -> str:
    """Return the API's base: the argument, else OPENROUTER_BASE_URL, else ``provision.OR_BASE`` as it is now."""
    return (base_url or config.base_url() or default_base_url()).rstrip("/")


def check_way(base_url: str | None) -> None:
    """Refuse an address that is none, and an environment whose HTTP proxy for OpenRouter cannot be used.

    Raises:
        ConfigError: its text says which variable, and what to set.
    """
    url = resolve_base_url(base_url)
    try:
        _http_proxy(url)
    except ValueError as exc:
        usual = "usually it is unset, or https://openrouter.ai/api/v1"
        raise ConfigError(f"OPENROUTER_BASE_URL is no address: {url[:80]!r}; {usual}. Nothing was spent.") from exc


def call(
    method: str,
    path: str,
    key: Key | Public,
    *,
    timeout_s: float,
    base_url: str | None = None,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    exact: bool = True,
) -> Answer:
    """Send one request once and return the answer, whatever its status; its fractions as Decimal, if ``exact``.

    With `NO_KEY` it carries no Authorization: lists of models and prices are public.

    Raises:
        ValueError: the key holds characters that no header may carry; the text does not show it.
        ConfigError: the environment names an HTTP proxy that cannot be used.
        httpx.HTTPError: no answer came, it broke off, or it was larger than `ANSWER_BYTES_MAX`.
    """
    authorization = {} if key is NO_KEY else {"Authorization": f"Bearer {_header_text(key)}"}
    sent = {**(headers or {}), **authorization}
    url = resolve_base_url(base_url) + path
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
    """Send one request by the HTTP proxy that the environment names for it; yields the response, its body unread.

    No netrc file is read, so no key but the one in ``headers`` leaves.

    Raises:
        ConfigError: the environment names an HTTP proxy that cannot be used.
        httpx.HTTPError: no answer came.
    """
    found = _http_proxy(url)
    login = found.authorization if found is not None else None
    sent = {"Proxy-Authorization": login.reveal()} if login is not None else None
    proxy = httpx.Proxy(found.url, headers=sent) if found is not None else None
    with httpx.stream(
        method,
        url,
        headers=headers,
        json=json_body,
        timeout=timeout_s,
        verify=_trust(),
        proxy=proxy,
        trust_env=False,
    ) as response:
        yield response


def _http_proxy(url: str) -> HttpProxy | None:
    return http_proxy(url, config.child_environment())


def get(
    path: str, key: Key | Public, *, timeout_s: float, base_url: str | None = None, exact: bool = True
) -> Answer | None:
    """Read something; None if no answer below 500 came in `GET_ATTEMPTS` attempts. Never raises."""
    for attempt in range(GET_ATTEMPTS):
        if attempt:
            time.sleep(GET_PAUSE_S)
        try:
            answer = call("GET", path, key, timeout_s=timeout_s, base_url=base_url, exact=exact)
        except (httpx.HTTPError, httpx.InvalidURL):
            continue
        except Exception:  # a key that is none, certificates that are no file: asking again changes nothing
            return None
        if answer.status < 500:
            return answer
    return None


def amount(value: object) -> Decimal | None:
    """Return a JSON number as exact dollars; None for what is no number or no sum of money."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    exact = Decimal(value)
    return exact if exact.is_finite() and abs(exact) <= 10**9 else None


def _header_text(key: Key) -> str:
    """The HTTP library would quote a key that it cannot send; blanks around one come from files and variables."""
    text = (key.reveal() if isinstance(key, Secret) else key).strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("the key holds characters that no key has")
    return text


@functools.cache
def _trust() -> ssl.SSLContext:
    """Reading the certificates takes some 20 ms: once a process, not once a call."""
    return httpx.create_ssl_context()


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
