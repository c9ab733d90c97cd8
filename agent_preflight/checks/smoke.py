"""Real calls with test keys that are deleted afterwards, whatever happened."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from agent_preflight import provision
from agent_preflight.checks.inputs import Inputs
from agent_preflight.openrouter import http
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.secret import Secret

CALL_TIMEOUT_S = 30.0
KEY_LIFETIME = timedelta(hours=1)
"""A test key whose deletion was prevented ends by itself."""


@dataclass(slots=True)
class TemporaryKey:
    """A test key; ``leftover`` says what is still there once its block has ended, "" if it was seen to be gone."""

    key: Secret
    leftover: str = ""


@contextmanager
def temporary_key(inputs: Inputs, purpose: str, limit_usd: Decimal) -> Iterator[TemporaryKey]:
    """Make a sub-key for a few calls and delete it at the end, whatever happened meanwhile.

    Raises:
        UpstreamError: no key could be made.
    """
    expires_at = (datetime.now(UTC) + KEY_LIFETIME).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = f"{inputs.site_name}:{purpose}"
    made = provision.create_sub_key(inputs.admin_key, name, limit_usd, expires_at, inputs.base_url, attempts=1)
    temporary = TemporaryKey(made.key)
    try:
        yield temporary
    finally:
        if not provision.delete_sub_key(inputs.admin_key, made.hash, inputs.base_url):
            temporary.leftover = f"the test key {name!r} could not be deleted; it expires at {expires_at}"


def chat(inputs: Inputs, key: Secret, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make one chat call and return the answer.

    Raises:
        httpx.HTTPError: no answer came.
        UpstreamError: it was refused, or is no completion.
    """
    headers = {"HTTP-Referer": f"https://{inputs.site_name}", "X-Title": inputs.site_name}
    answer = http.call(
        "POST",
        "/chat/completions",
        key,
        timeout_s=CALL_TIMEOUT_S,
        base_url=inputs.base_url,
        body=body,
        headers=headers,
    )
    if answer.status != 200:
        raise UpstreamError(f"the call was answered with HTTP {answer.status}{_message(answer.body)}")
    if not isinstance(answer.body, Mapping) or not isinstance(answer.body.get("choices"), list):
        raise UpstreamError(f"the answer is no completion{_message(answer.body)}")
    return answer.body


def _message(body: object) -> str:
    match body:
        case {"error": {"message": str(text)}}:
            return f": {text[:200]}"
        case _:
            return ""
