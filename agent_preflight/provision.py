"""Keys, credits and models by OpenRouter's management API.

The functions that scripts call keep their old shapes: the readers never raise and answer None instead. Those below
them serve a run: a sub-key for each trial, made once and deleted for certain.

Source: openrouter.ai/docs/api-reference, read 2026-10.
"""

import hashlib
from decimal import Decimal
from typing import Any

import httpx

from agent_preflight.base.usd import Dollars, float_usd
from agent_preflight.openrouter import http, subkeys
from agent_preflight.openrouter.http import Key
from agent_preflight.openrouter.patch_points import in_force, is_replaced
from agent_preflight.openrouter.subkeys import KeyInfo, SubKey, delete_sub_key, list_keys, read_sub_key_usage
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.secret import Secret

__all__ = [
    "OR_BASE",
    "KeyInfo",
    "SubKey",
    "create_sub_key",
    "delete_key",
    "delete_sub_key",
    "get_account_balance",
    "get_available_models",
    "get_available_models_or_empty",
    "get_usage",
    "list_keys",
    "provision_key",
    "provision_key_full",
    "read_sub_key_usage",
]

OR_BASE = "https://openrouter.ai/api/v1"
"""Where OpenRouter is, unless an argument or OPENROUTER_BASE_URL says otherwise."""

WRITE_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 10.0
MODELS_TIMEOUT_S = 15.0


def provision_key(admin_key: Key, label: str, limit_usd: Dollars, *, base_url: str | None = None) -> str:
    """Make a sub-key and return it; see `provision_key_full`."""
    return provision_key_full(admin_key, label, limit_usd, base_url=base_url)[0]


def provision_key_full(
    admin_key: Key, label: str, limit_usd: Dollars, *, base_url: str | None = None
) -> tuple[str, str]:
    """Make a sub-key and return it with its hash, by which it can be deleted.

    Args:
        admin_key: a management key.
        label: the new key's name.
        limit_usd: what it may spend, ``0.25`` or ``"$2"``; OpenRouter holds it against settled spend, so it is a soft limit.
        base_url: the API's base, where not the usual one.

    Returns:
        The key, and its hash: as told, else ``""``.

    Raises:
        ConfigError: ``limit_usd`` is no amount.
        httpx.HTTPStatusError: the API answered 4xx or 5xx.
        RuntimeError: it answered well, but without a key. The text never quotes the answer, which may hold one.
    """
    body = {"name": label, "limit": float_usd(limit_usd, "limit_usd")}
    answer = http.call("POST", "/keys", admin_key, timeout_s=WRITE_TIMEOUT_S, base_url=base_url, body=body)
    if answer.status >= 400:
        raise _status_error(answer.status, http.resolve_base_url(base_url))
    key, key_hash = subkeys.key_in(answer.body)
    if not key:
        raise RuntimeError(f"OpenRouter answered {answer.status} to POST /keys without a key")
    return key, key_hash


def delete_key(admin_key: Key, key_hash: str, *, base_url: str | None = None) -> bool:
    """Delete a key by its hash; True if the API said 2xx. Never raises."""
    if not key_hash:
        return False
    try:
        path = subkeys.path_of(key_hash)
        return http.call("DELETE", path, admin_key, timeout_s=WRITE_TIMEOUT_S, base_url=base_url).ok
    except Exception:  # whatever the HTTP library raises, the key was not seen to be deleted
        return False


def get_usage(api_key: Key, *, base_url: str | None = None) -> float | None:
    """Return the dollars that a key has spent, as OpenRouter has settled them so far; None if it cannot be read."""
    answer = http.get("/auth/key", api_key, timeout_s=READ_TIMEOUT_S, base_url=base_url)
    if answer is None or answer.status != 200 or not isinstance(answer.data, dict):
        return None
    usage = http.amount(answer.data.get("usage", 0))
    return None if usage is None else float(usage)


def get_account_balance(
    api_key: Key, *, base_url: str | None = None
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return (balance, credits bought, credits used) of the account in dollars, three None if they cannot be read.

    OpenRouter gives these to management keys only.
    """
    answer = http.get("/credits", api_key, timeout_s=READ_TIMEOUT_S, base_url=base_url)
    if answer is None or answer.status != 200 or not isinstance(answer.data, dict):
        return None, None, None
    total, used = (http.amount(answer.data.get(name, 0)) for name in ("total_credits", "total_usage"))
    if total is None or used is None:
        return None, None, None
    return float(total - used), float(total), float(used)


def get_available_models(api_key: Key, *, base_url: str | None = None) -> dict[str, dict[str, Any]] | None:
    """Return every model by its id, as OpenRouter describes it; None if the list cannot be read whole. Never raises."""
    answer = http.get("/models", api_key, timeout_s=MODELS_TIMEOUT_S, base_url=base_url, exact=False)
    if answer is None or answer.status != 200 or not isinstance(answer.data, list):
        return None
    models = [model for model in answer.data if isinstance(model, dict) and isinstance(model.get("id"), str)]
    return {model["id"]: model for model in models} if len(models) == len(answer.data) else None


def get_available_models_or_empty(api_key: Key, *, base_url: str | None = None) -> dict[str, dict[str, Any]]:
    """Return what `get_available_models` returns, an empty mapping if the list cannot be read."""
    return get_available_models(api_key, base_url=base_url) or {}


def create_sub_key(
    admin_key: Key,
    name: str,
    limit_usd: Decimal,
    expires_at: str,
    base_url: str | None = None,
    *,
    attempts: int = subkeys.CREATE_ATTEMPTS,
) -> SubKey:
    """Make a trial's sub-key; see `subkeys.create`. A script's own ``provision_key`` is used where there is one.

    A replaced ``provision_key`` tells no hash: it is the SHA-256 of the key, as OpenRouter defines it.

    Raises:
        UpstreamError: no key could be made; the text names what to look for if one may exist all the same.
    """
    if not is_replaced(provision_key):
        return subkeys.create(admin_key, name, limit_usd, expires_at, base_url, attempts=attempts)
    admin = admin_key.reveal() if isinstance(admin_key, Secret) else admin_key
    try:
        key = in_force(provision_key)(admin, name, float(limit_usd))
    except Exception as exc:  # a script's own function may raise anything
        raise UpstreamError(f"no sub-key could be made: {exc}") from exc
    return SubKey(Secret(key), hashlib.sha256(key.encode()).hexdigest(), name)


def _status_error(status: int, base_url: str) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", f"{base_url}/keys")
    return httpx.HTTPStatusError(
        f"OpenRouter answered {status} to POST /keys", request=request, response=httpx.Response(status, request=request)
    )
