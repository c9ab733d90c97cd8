"""From the policies and infra checks that a configuration names to the objects that a run takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent_preflight.eject import (
    BudgetExceededEject,
    BudgetFractionEject,
    CompositeEject,
    EjectPolicy,
    IdleTimeoutEject,
    ProgressEject,
    StallEject,
)
from agent_preflight.health import InfraCheck, docker_health, env_vars, git_version, http_health
from agent_preflight.options.config_file import (
    BudgetExceeded,
    BudgetFraction,
    Checks,
    DockerHealth,
    EnvVars,
    GitVersion,
    HttpHealth,
    IdleTimeout,
    Infra,
    Policy,
    Progress,
    Stall,
)
from preflight_proxy.core.errors import ConfigError

Mark = Callable[[dict[str, Any]], object]


def with_objects(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says, with objects in place of the tables that name policies and checks.

    Raises:
        ConfigError: A progress function cannot be found.
    """
    found = dict(said)
    policies, checks = found.pop("eject_policy", None), found.pop("preflight_kwargs", None)
    if policies:
        found["eject_policy"] = policy_factory(policies)
    if checks is not None:
        found["preflight_kwargs"] = _arguments(checks)
    return found


def _arguments(checks: Checks) -> dict[str, Any]:
    names = ("checks", "models", "required_params", "common_required_params", "site_name")
    found = {name: value for name in names if (value := getattr(checks, name)) is not None}
    if checks.infra:
        found["infra"] = [infra_check(infra) for infra in checks.infra]
    return found


def policy_factory(policies: Sequence[Policy]) -> Callable[[], EjectPolicy]:
    """Return what makes a trial's policy of those in the file, asked in their order.

    Raises:
        ConfigError: A progress function cannot be found.
    """
    makers = [_maker(policy) for policy in policies]
    return lambda: CompositeEject([make() for make in makers])


def _maker(policy: Policy) -> Callable[[], EjectPolicy]:
    match policy:
        case BudgetExceeded():
            return BudgetExceededEject
        case BudgetFraction(check_after_pct=share, progress=progress):
            mark = progress_function(progress)
            return lambda: BudgetFractionEject(share, mark)
        case IdleTimeout(timeout_s=timeout_s):
            return lambda: IdleTimeoutEject(timeout_s)
        case Progress(window_usd=window_usd, progress=progress):
            mark = progress_function(progress)
            return lambda: ProgressEject(window_usd, mark)
        case Stall(threshold=threshold):
            return lambda: StallEject(threshold)


def progress_function(name: str) -> Mark:
    """Return what a policy asks for progress: `"tool_calls"` counts tool calls, `"MODULE:FUNCTION"` is the user's own.

    Raises:
        ConfigError: There is no such function.
    """
    if name == "tool_calls":
        return _tool_calls
    module, colon, function = name.partition(":")
    if not colon:
        raise ConfigError(f"progress is 'tool_calls' or 'MODULE:FUNCTION', not {name!r}.")
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as exc:
        raise ConfigError(f"progress = {name!r} cannot be imported: {type(exc).__name__}: {exc}") from exc
    if not callable(found):
        raise ConfigError(f"progress = {name!r} is no function.")
    return found  # type: ignore[no-any-return]  # what it returns is anything at all


def _tool_calls(context: dict[str, Any]) -> object:
    return context.get("tool_calls", 0)


def infra_check(infra: Infra) -> InfraCheck:
    """Return the check that an entry of `preflight.infra` names."""
    match infra:
        case HttpHealth():
            return http_health(
                infra.url,
                name=infra.name,
                require=infra.require,
                min_version=infra.min_version,
                timeout=infra.timeout_s,
                hint=infra.hint,
            )
        case EnvVars():
            return env_vars(*infra.names, name=infra.name, hint=infra.hint)
        case DockerHealth():
            return docker_health(infra.container, name=infra.name, hint=infra.hint)
        case GitVersion():
            return git_version(infra.path, min_tag=infra.min_tag, name=infra.name, hint=infra.hint)
