"""Keys, credits and models by OpenRouter's management API.

Source: openrouter.ai/docs/api-reference, read 2026-10. A script may replace `get_usage`, `provision_key`,
`get_available_models` and `get_account_balance` by assigning to the package; the library then calls the replacement.
"""

import hashlib
from decimal import Decimal
from typing import Any

import httpx

from agent_preflight.base.usd import Dollars, float_usd
from agent_preflight.openrouter import http, subkeys
from agent_preflight.openrouter.http import Key
from agent_preflight.openrouter.patch_points import OR_BASE, in_force, is_replaced
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

WRITE_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 10.0
MODELS_TIMEOUT_S = 15.0


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
    answer = http.call("POST", "/keys", admin_key, timeout_s=WRITE_TIMEOUT_S, base_url=base_url, body=body)
    if answer.status >= 400:
        raise _status_error(answer.status, http.resolve_base_url(base_url))
    key, key_hash = subkeys.key_in(answer.body)
    if not key:
        raise RuntimeError(f"OpenRouter answered {answer.status} to POST /keys without a key")
    return key, key_hash


def delete_key(admin_key: Key, key_hash: str, *, base_url: str | None = None) -> bool:
    """Delete a key by `DELETE /keys/{hash}`. Never raises.

    Args:
        admin_key: A management key.
        key_hash: The key's hash.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.

    Returns:
        True if OpenRouter answered with a status of 2xx. False says nothing about the key, which may exist.
    """
    if not key_hash:
        return False
    try:
        path = subkeys.path_of(key_hash)
        return http.call("DELETE", path, admin_key, timeout_s=WRITE_TIMEOUT_S, base_url=base_url).ok
    except Exception:  # whatever the HTTP library raises, the key was not seen to be deleted
        return False


def get_usage(api_key: Key, *, base_url: str | None = None) -> float | None:
    """Return the dollars that a key has spent, by `GET /auth/key`. Never raises.

    OpenRouter reports a call's cost with a delay, so calls of the last moments may be missing.

    Args:
        api_key: The key.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.

    Returns:
        Dollars; None if they cannot be read.
    """
    answer = http.get("/auth/key", api_key, timeout_s=READ_TIMEOUT_S, base_url=base_url)
    if answer is None or answer.status != 200 or not isinstance(answer.data, dict):
        return None
    usage = http.amount(answer.data.get("usage", 0))
    return None if usage is None else float(usage)


def get_account_balance(
    api_key: Key, *, base_url: str | None = None
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return the account's dollars, by `GET /credits`. Never raises.

    Args:
        api_key: A management key; OpenRouter refuses other keys.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.

    Returns:
        The balance, the credits bought, the credits used; three None if they cannot be read.
    """
    answer = http.get("/credits", api_key, timeout_s=READ_TIMEOUT_S, base_url=base_url)
    if answer is None or answer.status != 200 or not isinstance(answer.data, dict):
        return None, None, None
    total, used = (http.amount(answer.data.get(name, 0)) for name in ("total_credits", "total_usage"))
    if total is None or used is None:
        return None, None, None
    return float(total - used), float(total), float(used)


def get_available_models(api_key: Key, *, base_url: str | None = None) -> dict[str, dict[str, Any]] | None:
    """Return every model that OpenRouter lists, by `GET /models`. Never raises.

    Args:
        api_key: Any key of the account.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.

    Returns:
        OpenRouter's entry of each model by its id. An empty dict if the list is empty, None if it cannot be read whole.
    """
    answer = http.get("/models", api_key, timeout_s=MODELS_TIMEOUT_S, base_url=base_url, exact=False)
    if answer is None or answer.status != 200 or not isinstance(answer.data, list):
        return None
    models = [model for model in answer.data if isinstance(model, dict) and isinstance(model.get("id"), str)]
    return {model["id"]: model for model in models} if len(models) == len(answer.data) else None


def get_available_models_or_empty(api_key: Key, *, base_url: str | None = None) -> dict[str, dict[str, Any]]:
    """Return what `get_available_models` returns, or an empty dict if the list cannot be read. Never raises.

    Args:
        api_key: Any key of the account.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.
    """
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
