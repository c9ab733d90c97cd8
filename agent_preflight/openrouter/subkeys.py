"""Keys that a management key makes, reads and deletes.

The sub-key of a trial is made once and deleted with proof, as M11 (a call is sent once) says. If the answer to `POST /keys` is
lost, a key may exist that nobody knows. So it is looked for by its name, and deleted before another is made.

Source: openrouter.ai/docs/features/provisioning-api-keys, read 2026-10.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx

from agent_preflight.base.usd import Dollars, float_usd
from agent_preflight.openrouter import http, reachable
from agent_preflight.openrouter.http import Key
from agent_preflight.openrouter.patch_points import replacement
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.secret import Secret

KEY_REQUEST_S_MAX = 15.0

CREATE_ATTEMPTS = 3
"""How often a key is requested if the answer is lost."""

DELETE_ATTEMPTS = 3
"""A deletion may be repeated: if the key is gone already, that is a success."""

KEY_RETRY_PAUSE_S = 0.3
"""Between attempts."""

PAGES_MAX = 200
"""At 100 keys a page: more keys than any account has. It ends the reading of an API that pages for ever."""

REFUSALS = {
    401: "the admin key is not a management key of the account",
    403: "the admin key is not a management key of the account",
    429: "too many requests; start fewer trials at once",
}
"""What a status of `POST /keys` means."""


@dataclass(frozen=True, slots=True)
class SubKey:
    """A sub-key that was made for a trial.

    Attributes:
        key: The key itself.
        hash: The key's hash, by which OpenRouter's API names it.
        name: The key's name at OpenRouter.
    """

    key: Secret
    hash: str
    name: str


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """An entry of the account's list of keys.

    Attributes:
        hash: The key's hash, by which OpenRouter's API names it.
        name: The key's name; empty if it has none.
        disabled: Whether the key is disabled.
        usage_usd: Dollars that it has spent, calls on provider keys of the account included; None if not reported.
        limit_usd: Dollars that it may spend; None without a limit.
        expires_at: UTC, ISO 8601; None if it does not expire.
    """

    hash: str
    name: str
    disabled: bool
    usage_usd: Decimal | None
    limit_usd: Decimal | None
    expires_at: str | None


def provision_key(admin_key: Key, label: str, limit_usd: Dollars, *, base_url: str | None = None) -> str:
    """Make a sub-key. `provision_key_full` does the same, has the same errors, and returns the key's hash too.

    Without the hash the key cannot be deleted by `delete_key`.

    Args:
        admin_key: A management key.
        label: The new key's name at OpenRouter.
        limit_usd: Dollars that it may spend, such as `0.25` or `"$2"`.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.

    Returns:
        The key.
    """
    return provision_key_full(admin_key, label, limit_usd, base_url=base_url)[0]


def provision_key_full(
    admin_key: Key, label: str, limit_usd: Dollars, *, base_url: str | None = None
) -> tuple[str, str]:
    """Make a sub-key and return it with its hash, by which it can be deleted. One `POST /keys`, not repeated.

    Args:
        admin_key: A management key.
        label: The new key's name at OpenRouter.
        limit_usd: Dollars that it may spend, such as `0.25` or `"$2"`. OpenRouter compares this limit with settled spend, so
            calls at the same moment can pass it.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.

    Returns:
        The key and its hash. The hash is `""` if OpenRouter did not send one.

    Raises:
        ConfigError: `limit_usd` is no amount, or the environment names an HTTP proxy that cannot be used. No key was made.
        ValueError: `admin_key` holds characters that no key has, or the base URL is no address. No key was made.
        httpx.HTTPStatusError: OpenRouter answered with a status of 400 or more. No key was made.
        httpx.HTTPError: No whole answer came. A key may exist; look for `label` in the account's list of keys.
        RuntimeError: OpenRouter answered without a key. The text does not quote the answer, which may hold one.
    """
    body = {"name": label, "limit": float_usd(limit_usd, "limit_usd")}
    answer = http.call("POST", "/keys", admin_key, timeout_s=KEY_REQUEST_S_MAX, base_url=base_url, body=body)
    if answer.status >= 400:
        request = httpx.Request("POST", f"{http.resolve_base_url(base_url)}/keys")
        text, response = (
            f"OpenRouter answered {answer.status} to POST /keys",
            httpx.Response(answer.status, request=request),
        )
        raise httpx.HTTPStatusError(text, request=request, response=response)
    key, key_hash = key_in(answer.body)
    if not key:
        raise RuntimeError(f"OpenRouter answered {answer.status} to POST /keys without a key")
    return key, key_hash


def create_sub_key(
    admin_key: Key,
    name: str,
    limit_usd: Decimal,
    expires_at: str,
    base_url: str | None = None,
    *,
    attempts: int = CREATE_ATTEMPTS,
) -> SubKey:
    """Make the sub-key of a trial. Afterwards no other key has its name. A replaced `agent_preflight.provision_key` is used.

    Args:
        admin_key: A management key.
        name: The key's name at OpenRouter. It must be unique, because leftovers of a failed attempt are deleted by it.
        limit_usd: Dollars that it may spend, what calls on provider keys of the account cost included.
        expires_at: UTC with seconds, such as `2027-01-31T23:59:59Z`. A replaced function does not get it.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.
        attempts: How often it is tried while it is in doubt whether a key was made.

    Returns:
        The key with its hash and name. The hash of a key that a replaced function made is the SHA-256 of the key.

    Raises:
        UpstreamError: No key could be made. If one may exist all the same, the text has the name to look for.
    """
    if (own := replacement(provision_key)) is not None:
        admin = admin_key.reveal() if isinstance(admin_key, Secret) else admin_key
        try:
            key = own(admin, name, float(limit_usd))
        except Exception as exc:  # a script's own function may raise anything
            raise UpstreamError(f"no sub-key could be made: {exc}") from exc
        return SubKey(Secret(key), _hash(key), name)
    body = {"name": name, "limit": float(limit_usd), "include_byok_in_limit": True, "expires_at": expires_at}
    for attempt in range(attempts):
        if attempt:
            time.sleep(KEY_RETRY_PAUSE_S)
            _delete_leftovers(admin_key, name, base_url, keep=None)
        key, key_hash = _post_once(admin_key, body, base_url)
        if key:
            if attempt:
                _delete_leftovers(admin_key, name, base_url, keep=key_hash)
            return SubKey(Secret(key), key_hash, name)
    raise UpstreamError(f"no sub-key could be made (attempts: {attempts}); look for keys named {name!r}")


def delete_sub_key(admin_key: Key, key_hash: str, base_url: str | None = None) -> bool:
    """Delete a sub-key, and look whether it is gone. Up to three attempts. Never raises.

    Args:
        admin_key: A management key.
        key_hash: The key's hash.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.

    Returns:
        True only if OpenRouter confirmed that the key is gone.
    """
    for attempt in range(DELETE_ATTEMPTS):
        if attempt:
            time.sleep(KEY_RETRY_PAUSE_S)
        try:
            answer = http.call("DELETE", path_of(key_hash), admin_key, timeout_s=KEY_REQUEST_S_MAX, base_url=base_url)
        except http.NO_ANSWER:
            continue
        if answer.status in (401, 403):
            return False
        if _is_gone(admin_key, key_hash, base_url):
            return True
    return False


def set_key_limit(admin_key: Key, key_hash: str, limit_usd: Decimal, base_url: str | None = None) -> bool:
    """Change what a key may spend; True only if OpenRouter says that this is its limit now. Never raises."""
    body = {"limit": float(limit_usd)}
    try:
        answer = http.call(
            "PATCH", path_of(key_hash), admin_key, timeout_s=KEY_REQUEST_S_MAX, base_url=base_url, body=body
        )
    except http.NO_ANSWER:
        return False
    return answer.ok and isinstance(answer.data, dict) and http.amount(answer.data.get("limit")) == limit_usd


def read_sub_key_usage(admin_key: Key, key_hash: str, base_url: str | None = None) -> Decimal | None:
    """Return the dollars that a sub-key has spent; None if they cannot be read. Calls of the last seconds may be missing.

    Args:
        admin_key: A management key.
        key_hash: The key's hash.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.
    """
    answer = http.get(path_of(key_hash), admin_key, timeout_s=KEY_REQUEST_S_MAX, base_url=base_url)
    if answer is None or not answer.ok or not isinstance(answer.data, dict):
        return None
    return used_usd(answer.data)


def list_keys(admin_key: Key, base_url: str | None = None, *, name: str | None = None) -> list[KeyInfo]:
    """Return the keys of the account, disabled and expired ones too.

    Args:
        admin_key: A management key.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.
        name: Only keys of this name; None for all.

    Raises:
        UpstreamError: A page of the list could not be read. The text says why, and what to do.
    """
    keys: dict[str, KeyInfo] = {}
    for _ in range(PAGES_MAX):
        page = [info for info in _page(admin_key, len(keys), base_url) if info.hash not in keys]
        if not page:
            break
        keys |= {info.hash: info for info in page}
    return [info for info in keys.values() if name in (None, info.name)]


def path_of(key_hash: str) -> str:
    """Return the path of one key, whatever the hash contains."""
    return f"/keys/{quote(key_hash, safe='')}"


def key_in(body: object) -> tuple[str, str]:
    """Return the key and the hash in the answer to ``POST /keys``; empty texts if they are missing."""
    top: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    data = top.get("data")
    inner: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    key, key_hash = top.get("key") or inner.get("key"), inner.get("hash")
    return key if isinstance(key, str) else "", key_hash if isinstance(key_hash, str) else ""


def _post_once(admin_key: Key, body: Mapping[str, Any], base_url: str | None) -> tuple[str, str]:
    """Return the new key and its hash; an empty key if it is not known whether one was made."""
    try:
        answer = http.call("POST", "/keys", admin_key, timeout_s=KEY_REQUEST_S_MAX, base_url=base_url, body=body)
    except httpx.HTTPError:
        return "", ""
    except (httpx.InvalidURL, ValueError) as exc:
        raise UpstreamError(f"OpenRouter cannot be called: {exc}") from exc
    if 400 <= answer.status < 500:
        reason = REFUSALS.get(answer.status, "the request was refused")
        raise UpstreamError(f"OpenRouter answered {answer.status} to POST /keys: {reason}")
    key, key_hash = key_in(answer.body)
    return key, key_hash or _hash(key)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _delete_leftovers(admin_key: Key, name: str, base_url: str | None, *, keep: str | None) -> None:
    for info in list_keys(admin_key, base_url, name=name):
        if info.hash != keep and not delete_sub_key(admin_key, info.hash, base_url):
            raise UpstreamError(f"a sub-key named {name!r} may be left over and could not be deleted")


def _is_gone(admin_key: Key, key_hash: str, base_url: str | None) -> bool:
    answer = http.get(path_of(key_hash), admin_key, timeout_s=KEY_REQUEST_S_MAX, base_url=base_url)
    if answer is None or answer.status == 404:
        return answer is not None
    return answer.ok and isinstance(answer.data, dict) and answer.data.get("deleted") is True


def _page(admin_key: Key, offset: int, base_url: str | None) -> list[KeyInfo]:
    path = f"/keys?include_disabled=true&include_expired=true&offset={offset}"
    answer = http.get(path, admin_key, timeout_s=KEY_REQUEST_S_MAX, base_url=base_url)
    if answer is None or not answer.ok or not isinstance(answer.data, list):
        why = reachable.why_unread(answer, admin_key, base_url)
        raise UpstreamError(f"the list of keys could not be read: {why}")
    return [_key_info(entry) for entry in answer.data if isinstance(entry, dict) and isinstance(entry.get("hash"), str)]


def used_usd(entry: Mapping[str, Any]) -> Decimal | None:
    """Return what a key has used. The user's own provider keys are billed separately, and are added: M16 (metering)."""
    usage, byok = http.amount(entry.get("usage")), http.amount(entry.get("byok_usage", 0))
    return None if usage is None or byok is None else usage + byok


def _key_info(entry: Mapping[str, Any]) -> KeyInfo:
    name, expires_at = entry.get("name"), entry.get("expires_at")
    return KeyInfo(
        hash=entry["hash"],
        name=name if isinstance(name, str) else "",
        disabled=entry.get("disabled") is True,
        usage_usd=used_usd(entry),
        limit_usd=http.amount(entry.get("limit")),
        expires_at=expires_at if isinstance(expires_at, str) else None,
    )
