"""Checks before anything is spent: is there money, are there models, keys, caching, images, services."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from agent_preflight.base.console import say
from agent_preflight.base.usd import Dollars, float_usd
from agent_preflight.checks.custom import CustomCheck
from agent_preflight.checks.inputs import Inputs, Params, unique
from agent_preflight.checks.line import Line
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
    found: Sequence[Line] = (),
) -> list[str]:
    """Run the checks, print the report, and return what failed: an empty list if all passed.

    Args:
        admin_key: A management key. It makes the test keys and reads the balance.
        or_key: An inference key.
        models: Model ids. Repetitions count once.
        budget_per_model: Dollars, such as ``0.25`` or ``"$2"``.
        checks: Names of the checks to run, of `BUILT_IN`; ``[]`` for none of them; the usual ones if not given.
        docker_image: An image that must be on this machine.
        custom_checks: Functions that return ``(name, ok, detail)``. Each may take the facts as a dict.
        required_params: Request parameters that a model must support, by model.
        common_required_params: Request parameters that all ``models`` must support.
        site_name: Names the test keys and the calls.
        raise_on_failure: Raise if something failed.
        infra: Checks of services and the like.
        base_url: The API's base, if not the usual one.
        budgets: Dollars by model, for models whose budget is not ``budget_per_model``.
        budget_sum: Dollars of all agents together, if that is not the sum over the models.
        expect_tokens: Tokens of an agent's first prompt. With it, a budget that affords no such call fails. None assumes 20,000,
            and such a budget is a warning.
        byok: Calls may run on provider keys of your own, for a fee.
        log_fn: Takes each line of the report instead of ``print``.
        found: Lines on this machine that are known already. They stand first in the report, and their failures count.

    Raises:
        PreflightError: Something failed, and ``raise_on_failure`` is set.
        ConfigError: The budget is no amount, or the environment names an HTTP proxy that cannot be used. Nothing was checked.
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
