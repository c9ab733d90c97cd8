"""Whether sub-keys can be made, and whether a new one works."""

from decimal import Decimal

from agent_preflight.checks import smoke
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import Line, failed, passed, warned

MODEL = "openai/gpt-4.1-nano"
"""About the cheapest model there is: the call costs less than a thousandth of a cent."""

LIMIT_USD = Decimal("0.01")

NAME = "Key provisioning (1¢ smoke)"


def check_key_smoke(inputs: Inputs, facts: Facts) -> list[Line]:
    """Make a key with a limit of one cent, make one call with it, delete it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say OK"}], "max_tokens": 16}
    try:
        with smoke.temporary_key(inputs, "preflight-smoke", LIMIT_USD) as temporary:
            reply = smoke.reply_text(smoke.chat(inputs, temporary.key, body))
    except Exception as exc:  # whatever goes wrong here is the finding
        return [failed(NAME, str(exc), f"Key provisioning failed: {exc}")]
    if temporary.leftover:
        return [warned(NAME, temporary.leftover)]
    return [passed(NAME, f"made, used (it said {reply!r}) and deleted")]
