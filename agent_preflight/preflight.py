"""Checks before anything is spent: the account, models, keys, caching, images, services.

All checks that make no key run, whatever fails. The checks that make a test key run last, and only if nothing has failed.
The package's attribute `agent_preflight.preflight` is the function; `importlib.import_module("agent_preflight.preflight")`
gives this module.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from agent_preflight.base.console import say
from agent_preflight.base.usd import Dollars, float_usd
from agent_preflight.checks.custom import CustomCheck
from agent_preflight.checks.inputs import Inputs, Params, unique
from agent_preflight.checks.report import CheckLine
from agent_preflight.checks.suite import BUILT_IN, PreflightError, check_all, run_checks
from agent_preflight.health import InfraCheck
from agent_preflight.runner.api import run_container

__all__ = ["BUILT_IN", "InfraCheck", "PreflightError", "preflight", "run_checks"]


def preflight(
    admin_key: str,
    or_key: str,
    models: Sequence[str],
    budget_per_model: Dollars,
    checks: Sequence[str] | None = None,
    docker_image: str | None = None,
    custom_checks: Sequence[CustomCheck] | None = None,
    required_params: Params | None = None,
    common_required_params: str | Sequence[str] | None = None,
    site_name: str = "agent-preflight",
    raise_on_failure: bool = True,
    infra: Sequence[InfraCheck] | None = None,
    *,
    base_url: str | None = None,
    budgets: Mapping[str, float] | None = None,
    budget_sum: Decimal | None = None,
    expect_tokens: int | None = None,
    byok: bool = False,
    log_fn: Callable[[str], object] = say,
    found: Sequence[CheckLine] = (),
) -> list[str]:
    """Run the checks, print the report, and return the failures.

    The list is empty if all checks passed. Of the checks that run by default, only `key_smoke`, `cache_smoke` and, for
    models whose tokenizer is unknown, `token_smoke` spend money: each makes one to three calls with a test key that has a small
    limit, and deletes the key. If a deletion cannot be confirmed, the
    report warns and names the key.

    Source of the requests: openrouter.ai/docs/api-reference, read 2026-10.

    Args:
        admin_key: A management key, which makes the test keys and reads the balance.
        or_key: An inference key.
        models: Model ids. Repetitions count once.
        budget_per_model: Dollars, such as `0.25` or `"$2"`.
        checks: Names of the checks to run, of `BUILT_IN`; `[]` runs none of them. None runs `balance`, `math`, `models`,
            `estimate`, `api_key`, `key_smoke`, `cache_smoke`, `token_smoke`, and `tool_support` and `docker_image` if there is
            something to check. An unknown name is a warning.
        docker_image: An image that must be on this machine.
        custom_checks: Functions that return `(name, ok, detail)`, with `ok` as in `InfraResult`. One with a positional parameter
            gets a dict of the inputs, the balance and the models. An exception is a failure.
        required_params: Request parameters that a model must support, by model id.
        common_required_params: Request parameters that each of `models` must support.
        site_name: The name in the labels of test keys and in the headers of test calls.
        raise_on_failure: False returns the failures instead of raising.
        infra: Checks of services and the like, see `agent_preflight.health`.
        base_url: OpenRouter's API base; `OPENROUTER_BASE_URL`, else OpenRouter, if None.
        budgets: Dollars by model id, for models whose budget is not `budget_per_model`.
        budget_sum: Dollars of all agents together; the sum over the models if None.
        expect_tokens: Tokens of an agent's first prompt. A budget that does not pay for one such call is a failure. None assumes
            20,000, and then it is a warning.
        byok: True if calls may run on provider keys that your OpenRouter account holds.
        log_fn: Takes each line of the report instead of `print`.
        found: The first lines of the report; their failures count.

    Returns:
        The failures in the order of the report, without repetitions.

    Raises:
        PreflightError: A check failed and `raise_on_failure` is set.
        ConfigError: The budget is no amount, the base URL is no address, or the environment names an HTTP proxy that cannot
            be used. No check ran.
    """
    inputs = Inputs(
        admin_key,
        or_key,
        unique(models),
        float_usd(budget_per_model, "budget_per_model"),
        checks,
        docker_image,
        custom_checks,
        required_params,
        common_required_params,
        site_name,
        infra,
        base_url=base_url,
        budgets=budgets,
        budget_sum=budget_sum,
        expect_tokens=expect_tokens,
        byok=byok,
        log_fn=log_fn,
        run_trial=run_container,
    )
    return check_all(inputs, found=found, raise_on_failure=raise_on_failure)
