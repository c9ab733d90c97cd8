"""Hard dollar budgets for LLM agents: run many agents, each in its own container, and none can spend more than its budget.

The names below are imported when they are first used, so `import agent_preflight` is fast and loads no HTTP library.

`agent_preflight.preflight` is a function, and a module has the same name. The attribute is always the function;
`importlib.import_module("agent_preflight.preflight")` gives the module.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_preflight.artifacts import latest_run, render_prompt, summarize_run
    from agent_preflight.budget import BudgetTracker
    from agent_preflight.caching import (
        ANTHROPIC_MIN_CACHE_TOKENS,
        CacheMetrics,
        PromptBuilder,
        detect_provider,
        format_cache_report,
        min_cache_tokens,
        stable_system_prompt,
    )
    from agent_preflight.docker import build_image, image_exists, remove_container
    from agent_preflight.eject import (
        BudgetExceededEject,
        BudgetFractionEject,
        CompositeEject,
        EjectPolicy,
        IdleTimeoutEject,
        ProgressEject,
        StallEject,
        default_eject_policies,
    )
    from agent_preflight.events import EventLogger
    from agent_preflight.health import InfraCheck, docker_health, env_vars, git_version, http_health
    from agent_preflight.models import BudgetStatus, CacheStats, EjectDecision, InfraResult, RunResult
    from agent_preflight.preflight import PreflightError, preflight
    from agent_preflight.provision import (
        delete_key,
        get_account_balance,
        get_available_models,
        get_available_models_or_empty,
        get_usage,
        provision_key,
        provision_key_full,
    )
    from agent_preflight.runner import arun_multi, run_container, run_multi, run_single
    from agent_preflight.status import print_status_table, status_main, summarise_model

__version__ = "0.1.0"

_HOMES = {
    "artifacts": ("latest_run", "render_prompt", "summarize_run"),
    "budget": ("BudgetTracker",),
    "caching": (
        "ANTHROPIC_MIN_CACHE_TOKENS",
        "CacheMetrics",
        "PromptBuilder",
        "detect_provider",
        "format_cache_report",
        "min_cache_tokens",
        "stable_system_prompt",
    ),
    "docker": ("build_image", "image_exists", "remove_container"),
    "eject": (
        "BudgetExceededEject",
        "BudgetFractionEject",
        "CompositeEject",
        "EjectPolicy",
        "IdleTimeoutEject",
        "ProgressEject",
        "StallEject",
        "default_eject_policies",
    ),
    "events": ("EventLogger",),
    "health": ("InfraCheck", "docker_health", "env_vars", "git_version", "http_health"),
    "models": ("BudgetStatus", "CacheStats", "EjectDecision", "InfraResult", "RunResult"),
    "preflight": ("PreflightError", "preflight"),
    "provision": (
        "delete_key",
        "get_account_balance",
        "get_available_models",
        "get_available_models_or_empty",
        "get_usage",
        "provision_key",
        "provision_key_full",
    ),
    "runner": ("arun_multi", "run_container", "run_multi", "run_single"),
    "status": ("print_status_table", "status_main", "summarise_model"),
}
"""The module that each public name comes from."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

_NEVER_KEPT = frozenset({"get_account_balance", "get_available_models", "get_usage", "provision_key"})
"""Names that scripts replace by assigning to the package: an attribute of that name is always a replacement."""

__all__ = [
    "ANTHROPIC_MIN_CACHE_TOKENS",
    "BudgetExceededEject",
    "BudgetFractionEject",
    "BudgetStatus",
    "BudgetTracker",
    "CacheMetrics",
    "CacheStats",
    "CompositeEject",
    "EjectDecision",
    "EjectPolicy",
    "EventLogger",
    "IdleTimeoutEject",
    "InfraCheck",
    "InfraResult",
    "PreflightError",
    "ProgressEject",
    "PromptBuilder",
    "RunResult",
    "StallEject",
    "arun_multi",
    "build_image",
    "default_eject_policies",
    "delete_key",
    "detect_provider",
    "docker_health",
    "env_vars",
    "format_cache_report",
    "get_account_balance",
    "get_available_models",
    "get_available_models_or_empty",
    "get_usage",
    "git_version",
    "http_health",
    "image_exists",
    "latest_run",
    "min_cache_tokens",
    "preflight",
    "print_status_table",
    "provision_key",
    "provision_key_full",
    "remove_container",
    "render_prompt",
    "run_container",
    "run_multi",
    "run_single",
    "stable_system_prompt",
    "status_main",
    "summarise_model",
    "summarize_run",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    if name not in _NEVER_KEPT:
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package: it refuses the import system's habit of setting each submodule as an attribute, for one name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "preflight" and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
