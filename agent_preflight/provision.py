"""Keys, credits and models by OpenRouter's management API.

Source: openrouter.ai/docs/api-reference, read 2026-10. A script may replace `get_usage`, `provision_key`,
`get_available_models` and `get_account_balance` by assigning to the package; the library then calls the replacement.
"""

from typing import Any

from agent_preflight.openrouter import http, subkeys
from agent_preflight.openrouter.http import Key
from agent_preflight.openrouter.patch_points import OR_BASE
from agent_preflight.openrouter.subkeys import (
    KeyInfo,
    SubKey,
    create_sub_key,
    delete_sub_key,
    list_keys,
    provision_key,
    provision_key_full,
    read_sub_key_usage,
)

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

READ_TIMEOUT_S = 10.0
MODELS_TIMEOUT_S = 15.0


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
        return http.call("DELETE", path, admin_key, timeout_s=subkeys.KEY_REQUEST_S_MAX, base_url=base_url).ok
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
