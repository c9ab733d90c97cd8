"""Makes the policies and checks of a run from the tables in which a configuration file names them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from agent_preflight import eject
from agent_preflight.eject import EjectPolicy
from agent_preflight.health import InfraCheck, docker_health, env_vars, git_version, http_health
from agent_preflight.options import config_file
from preflight_proxy.core.errors import ConfigError

Mark = Callable[[dict[str, Any]], object]


def with_objects(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a file, with objects in place of the tables that name policies and checks.

    Raises:
        ConfigError: A progress function cannot be found.
    """
    objects = dict(options)
    policies, checks = objects.pop("eject_policy", None), objects.pop("preflight_kwargs", None)
    if policies:
        objects["eject_policy"] = policy_factory(policies)
    if checks is not None:
        arguments = {name: value for name, value in msgspec.structs.asdict(checks).items() if value is not None}
        if infra := arguments.pop("infra", None):
            arguments["infra"] = [infra_check(table) for table in infra]
        objects["preflight_kwargs"] = arguments
    return objects


def policy_factory(policies: Sequence[config_file.Policy]) -> Callable[[], EjectPolicy]:
    """Return a function that makes a trial's policy. It asks the policies of the file in their order.

    Raises:
        ConfigError: A progress function cannot be found.
    """
    makers = [_maker(policy) for policy in policies]
    return lambda: eject.CompositeEject([make() for make in makers])


def _maker(policy: config_file.Policy) -> Callable[[], EjectPolicy]:
    match policy:
        case config_file.BudgetExceeded():
            return eject.BudgetExceededEject
        case config_file.BudgetFraction(check_after_pct=share, progress=progress):
            mark = progress_function(progress)
            return lambda: eject.BudgetFractionEject(share, mark)
        case config_file.IdleTimeout(timeout_s=timeout_s):
            return lambda: eject.IdleTimeoutEject(timeout_s)
        case config_file.Progress(window_usd=window_usd, progress=progress):
            mark = progress_function(progress)
            return lambda: eject.ProgressEject(window_usd, mark)
        case config_file.Stall(threshold=threshold):
            return lambda: eject.StallEject(threshold)


def progress_function(name: str) -> Mark:
    """Return the function that measures progress: `"tool_calls"` counts tool calls, `"MODULE:FUNCTION"` is the user's own.

    Raises:
        ConfigError: There is no such function.
    """
    if name == "tool_calls":
        return _tool_calls
    module, colon, function = name.partition(":")
    if not colon:
        raise ConfigError(f"progress is 'tool_calls' or 'MODULE:FUNCTION', not {name!r}.")
    try:
        mark = getattr(importlib.import_module(module), function)
    except Exception as exc:
        raise ConfigError(f"progress = {name!r} cannot be imported: {type(exc).__name__}: {exc}") from exc
    if not callable(mark):
        raise ConfigError(f"progress = {name!r} is no function.")
    return mark  # type: ignore[no-any-return]  # what it returns is anything at all


def _tool_calls(context: dict[str, Any]) -> object:
    return context.get("tool_calls", 0)


def infra_check(infra: config_file.Infra) -> InfraCheck:
    """Return the check that an entry of `preflight.infra` names."""
    arguments = msgspec.structs.asdict(infra)
    match infra:
        case config_file.HttpHealth():
            return http_health(timeout=arguments.pop("timeout_s"), **arguments)
        case config_file.EnvVars():
            return env_vars(*arguments.pop("names"), **arguments)
        case config_file.DockerHealth():
            return docker_health(**arguments)
        case config_file.GitVersion():
            return git_version(arguments.pop("path"), **arguments)
