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
    from agent_preflight.artifacts import latest_run as latest_run
    from agent_preflight.artifacts import render_prompt as render_prompt
    from agent_preflight.artifacts import summarize_run as summarize_run
    from agent_preflight.budget import BudgetTracker as BudgetTracker
    from agent_preflight.caching import ANTHROPIC_MIN_CACHE_TOKENS as ANTHROPIC_MIN_CACHE_TOKENS
    from agent_preflight.caching import CacheMetrics as CacheMetrics
    from agent_preflight.caching import PromptBuilder as PromptBuilder
    from agent_preflight.caching import detect_provider as detect_provider
    from agent_preflight.caching import format_cache_report as format_cache_report
    from agent_preflight.caching import min_cache_tokens as min_cache_tokens
    from agent_preflight.caching import stable_system_prompt as stable_system_prompt
    from agent_preflight.docker import build_image as build_image
    from agent_preflight.docker import image_exists as image_exists
    from agent_preflight.docker import remove_container as remove_container
    from agent_preflight.eject import BudgetExceededEject as BudgetExceededEject
    from agent_preflight.eject import BudgetFractionEject as BudgetFractionEject
    from agent_preflight.eject import CompositeEject as CompositeEject
    from agent_preflight.eject import EjectPolicy as EjectPolicy
    from agent_preflight.eject import IdleTimeoutEject as IdleTimeoutEject
    from agent_preflight.eject import ProgressEject as ProgressEject
    from agent_preflight.eject import StallEject as StallEject
    from agent_preflight.eject import default_eject_policies as default_eject_policies
    from agent_preflight.events import EventLogger as EventLogger
    from agent_preflight.health import InfraCheck as InfraCheck
    from agent_preflight.health import docker_health as docker_health
    from agent_preflight.health import env_vars as env_vars
    from agent_preflight.health import git_version as git_version
    from agent_preflight.health import http_health as http_health
    from agent_preflight.models import BudgetStatus as BudgetStatus
    from agent_preflight.models import CacheStats as CacheStats
    from agent_preflight.models import EjectDecision as EjectDecision
    from agent_preflight.models import InfraResult as InfraResult
    from agent_preflight.models import RunResult as RunResult
    from agent_preflight.preflight import PreflightError as PreflightError
    from agent_preflight.preflight import preflight as preflight
    from agent_preflight.provision import delete_key as delete_key
    from agent_preflight.provision import get_account_balance as get_account_balance
    from agent_preflight.provision import get_available_models as get_available_models
    from agent_preflight.provision import get_available_models_or_empty as get_available_models_or_empty
    from agent_preflight.provision import get_usage as get_usage
    from agent_preflight.provision import provision_key as provision_key
    from agent_preflight.provision import provision_key_full as provision_key_full
    from agent_preflight.run_data import Call as Call
    from agent_preflight.run_data import Run as Run
    from agent_preflight.run_data import RunResults as RunResults
    from agent_preflight.run_data import TrialRow as TrialRow
    from agent_preflight.run_data import read_run as read_run
    from agent_preflight.runner import arun_multi as arun_multi
    from agent_preflight.runner import run_container as run_container
    from agent_preflight.runner import run_multi as run_multi
    from agent_preflight.runner import run_single as run_single
    from agent_preflight.status import print_status_table as print_status_table
    from agent_preflight.status import status_main as status_main
    from agent_preflight.status import summarise_model as summarise_model

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
    "run_data": ("Call", "Run", "RunResults", "TrialRow", "read_run"),
    "runner": ("arun_multi", "run_container", "run_multi", "run_single"),
    "status": ("print_status_table", "status_main", "summarise_model"),
}
"""The module that each public name comes from."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

_NEVER_KEPT = frozenset({"get_account_balance", "get_available_models", "get_usage", "provision_key"})
"""Scripts replace these functions by assigning to the package, so an attribute of such a name is always a replacement."""

__all__ = sorted(_HOME_OF)


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
    """This package. The import system sets each imported submodule as an attribute; for `preflight` this class ignores it."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "preflight" and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
