"""Whether the account has money, and enough for this run."""

from agent_preflight import provision
from agent_preflight.base.usd import dollars, pusd
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine, counted, failed, passed, warned
from agent_preflight.openrouter import reachable
from agent_preflight.openrouter.patch_points import is_replaced
from agent_preflight.openrouter.reachable import UNREACHABLE

BALANCE_USD_MIN = 0.10
"""Below this no run is worth starting."""


def check_balance(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that the account has more than `BALANCE_USD_MIN`."""
    name, balance = "Account balance", facts.balance()
    if balance.available is None:
        return [failed(name, *_why_not(inputs, facts))]
    detail = f"${balance.available:.2f} available (${balance.purchased:.2f} purchased, ${balance.used:.2f} used)"
    if balance.available > BALANCE_USD_MIN:
        return [passed(name, detail)]
    return [failed(name, detail, f"Account balance too low (${balance.available:.2f})")]


def _why_not(inputs: Inputs, facts: Facts) -> tuple[str, str]:
    """Why the balance is not known: for its line, and for the list of failures."""
    if is_replaced(provision.get_account_balance):
        return "could not fetch", "Could not fetch account balance"
    if trouble := facts.trouble():
        return UNREACHABLE, trouble
    refused = reachable.refusal("/credits", inputs.admin_key, inputs.base_url)
    if refused.startswith(("401", "403")):
        return "the management key is refused", (
            f"OpenRouter refuses the management key ({refused}). Set OR_ADMIN_KEY to a management key: "
            "https://openrouter.ai/settings/management-keys. Nothing was spent."
        )
    return "could not fetch", f"Could not fetch account balance: {refused}. Try again. Nothing was spent."


def check_math(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that the balance covers the budget of every model."""
    name, balance = "Provisioning budget", facts.balance().available
    needed_pusd, sum_text = _needed(inputs)
    needed = dollars(needed_pusd)
    if balance is None:
        return [warned(name, f"{sum_text} (balance unknown)")]
    if pusd(balance) >= needed_pusd:
        return [passed(name, f"{sum_text} (OK: balance ${balance:.2f})")]
    failure = f"Insufficient balance: need {needed}, have ${balance:.2f}"
    return [failed(name, f"{sum_text} (INSUFFICIENT: balance ${balance:.2f})", failure)]


def _needed(inputs: Inputs) -> tuple[int, str]:
    """Return what all budgets come to, in pico-USD, and how a person reckons it."""
    each_pusd = [pusd(inputs.budget_of(model)) for model in inputs.models]
    count = counted(len(each_pusd), "model")
    if inputs.budget_sum is None and len(set(each_pusd)) == 1:
        return sum(each_pusd), f"{count} x {dollars(each_pusd[0])} = {dollars(sum(each_pusd))}"
    needed_pusd = sum(each_pusd) if inputs.budget_sum is None else pusd(inputs.budget_sum)
    return needed_pusd, f"{count}, {dollars(needed_pusd)} together"
