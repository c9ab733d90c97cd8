"""Whether the account has money, enough for this run, and an inference key that works."""

from agent_preflight import provision
from agent_preflight.base.tables import counted
from agent_preflight.base.usd import dollars, pusd
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.report import CheckLine, failed, passed, warned
from agent_preflight.openrouter import http
from agent_preflight.openrouter.patch_points import replacement
from agent_preflight.openrouter.reachable import refusal_of, why_unread

BALANCE, BUDGETS, KEY = "Account balance", "Provisioning budget", "Inference key"

BALANCE_USD_MIN = 0.10
"""A run needs more than this."""

ACCOUNT_READ_S_MAX = 10.0
_SET_KEY = "Set OPENROUTER_API_KEY to an inference key: https://openrouter.ai/settings/keys. Nothing was spent."


def check_balance(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that the account has more than `BALANCE_USD_MIN`."""
    available, purchased, used = facts.balance()
    if available is None:
        return [_unknown_balance(inputs, facts)]
    detail = f"${available:.2f} available (${purchased:.2f} purchased, ${used:.2f} used)"
    if available > BALANCE_USD_MIN:
        return [passed(BALANCE, detail)]
    return [failed(BALANCE, detail, f"Account balance too low (${available:.2f})")]


def _unknown_balance(inputs: Inputs, facts: Facts) -> CheckLine:
    detail, failure = "could not fetch", "Could not fetch account balance"
    if replacement(provision.get_account_balance):
        return failed(BALANCE, detail, failure)
    if (unreachable := facts.unreachable()) is not None:
        return unreachable
    answer = http.get("/credits", inputs.admin_key, timeout_s=ACCOUNT_READ_S_MAX, base_url=inputs.base_url)
    why = why_unread(answer, inputs.admin_key, inputs.base_url)
    return failed(BALANCE, detail, f"{failure}: {why}. Nothing was spent.")


def check_math(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that the balance covers the budget of every model."""
    balance = facts.balance()[0]
    needed_pusd, sum_text = _needed(inputs)
    if balance is None:
        return [warned(BUDGETS, f"{sum_text} (balance unknown)")]
    if pusd(balance) >= needed_pusd:
        return [passed(BUDGETS, f"{sum_text} (OK: balance ${balance:.2f})")]
    failure = f"Insufficient balance: need {dollars(needed_pusd)}, have ${balance:.2f}"
    return [failed(BUDGETS, f"{sum_text} (INSUFFICIENT: balance ${balance:.2f})", failure)]


def _needed(inputs: Inputs) -> tuple[int, str]:
    """Return the sum of all budgets in pico-USD, and the sum as text."""
    budgets_pusd = [pusd(inputs.budget_of(model)) for model in inputs.models]
    count = counted(len(budgets_pusd), "model")
    if inputs.budget_sum is None and len(set(budgets_pusd)) == 1:
        return sum(budgets_pusd), f"{count} x {dollars(budgets_pusd[0])} = {dollars(sum(budgets_pusd))}"
    needed_pusd = sum(budgets_pusd) if inputs.budget_sum is None else pusd(inputs.budget_sum)
    return needed_pusd, f"{count}, {dollars(needed_pusd)} together"


def check_api_key(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that OpenRouter accepts the inference key, by what it reports of the key. Spends nothing.

    Source: openrouter.ai/docs/api-reference/limits, `GET /key`, read 2026-11.
    """
    if not inputs.or_key.strip():
        return [failed(KEY, "is missing", f"The inference key is missing. {_SET_KEY}")]
    answer = http.get("/key", inputs.or_key, timeout_s=ACCOUNT_READ_S_MAX, base_url=inputs.base_url)
    if answer is not None and answer.status in (401, 403):
        refusal = refusal_of(answer)
        return [failed(KEY, f"refused ({refusal})", f"OpenRouter refuses the inference key ({refusal}). {_SET_KEY}")]
    if answer is None or not isinstance(answer.data, dict):
        return [facts.unreachable() or warned(KEY, "OpenRouter reports nothing about it")]
    if answer.data.get("is_management_key") or answer.data.get("is_provisioning_key"):
        failure = f"OPENROUTER_API_KEY is a management key, which cannot make calls. {_SET_KEY}"
        return [failed(KEY, "is a management key", failure)]
    left = http.amount(answer.data.get("limit_remaining"))
    if left is not None and left <= 0:
        return [warned(KEY, "works, but its own limit is used up")]
    return [passed(KEY, "works")]
