"""Whether the given inference key is one, whether sub-keys can be made, and whether a new one works."""

from decimal import Decimal

from agent_preflight.checks import smoke
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine, failed, passed, warned
from agent_preflight.openrouter import http
from agent_preflight.openrouter.reachable import UNREACHABLE, refusal_of

MODEL = "openai/gpt-4.1-nano"
"""About the cheapest model there is: the call costs less than a thousandth of a cent."""

LIMIT_USD = Decimal("0.01")

NAME = "Key provisioning (1¢ smoke)"
OWN = "Inference key"
TIMEOUT_S = 10.0
_WHERE = "Set OPENROUTER_API_KEY to an inference key: https://openrouter.ai/settings/keys. Nothing was spent."


def check_api_key(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that OpenRouter takes the inference key, by what it says of it; spends nothing.

    Source: openrouter.ai/docs/api-reference/limits, `GET /key`, read 2026-11.
    """
    if not inputs.or_key.strip():
        return [failed(OWN, "none is given", f"No inference key is given. {_WHERE}")]
    answer = http.get("/key", inputs.or_key, timeout_s=TIMEOUT_S, base_url=inputs.base_url)
    if answer is not None and answer.status in (401, 403):
        said = refusal_of(answer)
        return [failed(OWN, f"refused ({said})", f"OpenRouter refuses the inference key ({said}). {_WHERE}")]
    if answer is None or not isinstance(answer.data, dict):
        trouble = facts.trouble()
        return [failed(OWN, UNREACHABLE, trouble)] if trouble else [warned(OWN, "OpenRouter told nothing of it")]
    if answer.data.get("is_management_key") or answer.data.get("is_provisioning_key"):
        return [
            failed(
                OWN, "is a management key", f"OPENROUTER_API_KEY is a management key, which cannot make calls. {_WHERE}"
            )
        ]
    left = http.amount(answer.data.get("limit_remaining"))
    if left is not None and left <= 0:
        return [warned(OWN, "works, but its own limit is used up")]
    return [passed(OWN, "works")]


def check_key_smoke(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Make a key with a limit of one cent, make one call with it, delete it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say OK"}], "max_tokens": 16}
    try:
        with smoke.temporary_key(inputs, "preflight-smoke", LIMIT_USD) as temporary:
            smoke.chat(inputs, temporary.key, body)
    except Exception as exc:  # whatever goes wrong here is the finding
        return [failed(NAME, str(exc), f"Key provisioning failed: {exc}")]
    if temporary.leftover:
        return [warned(NAME, temporary.leftover)]
    return [passed(NAME, "a test key was made, used for one call, and deleted")]
