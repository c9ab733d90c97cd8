"""The public names: all there, imported late, and the one name that is both function and module."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import agent_preflight
from tests.support.cases import each

NAMES = """
    preflight PreflightError InfraCheck InfraResult http_health env_vars docker_health git_version provision_key
    provision_key_full delete_key get_usage get_account_balance get_available_models get_available_models_or_empty
    BudgetTracker BudgetStatus PromptBuilder CacheMetrics CacheStats ANTHROPIC_MIN_CACHE_TOKENS min_cache_tokens
    detect_provider format_cache_report stable_system_prompt EjectPolicy EjectDecision BudgetExceededEject
    IdleTimeoutEject BudgetFractionEject CompositeEject default_eject_policies run_container run_multi run_single
    build_image image_exists remove_container EventLogger RunResult status_main print_status_table summarise_model
    latest_run render_prompt summarize_run
"""


def isolated(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_there_are_forty_six_old_names() -> None:
    assert len(NAMES.split()) == 46
    assert set(NAMES.split()) <= set(agent_preflight.__all__)
    assert len(set(agent_preflight.__all__)) == len(agent_preflight.__all__)


@each("name", agent_preflight.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(agent_preflight, name) is not None
    assert name in dir(agent_preflight)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = agent_preflight.no_such_name


@pytest.mark.wire
def test_importing_the_package_loads_no_heavy_library() -> None:
    code = """
import sys, agent_preflight
print([m for m in ("aiohttp", "httpx", "rich", "typer", "structlog", "msgspec", "asyncio") if m in sys.modules])"""
    assert isolated(code) == "[]"


@pytest.mark.wire
def test_the_plain_data_load_no_heavy_library() -> None:
    code = """
import sys
from agent_preflight import BudgetStatus, BudgetTracker, EventLogger, PromptBuilder, RunResult, default_eject_policies
from agent_preflight import status_main, summarize_run
print([m for m in ("aiohttp", "httpx", "rich", "typer") if m in sys.modules])"""
    assert isolated(code) == "[]"


FIRST_IMPORTS = [
    "import agent_preflight.preflight",
    "import importlib; importlib.import_module('agent_preflight.preflight')",
    "from agent_preflight import preflight",
    "from agent_preflight.preflight import preflight",
    "import agent_preflight; agent_preflight.preflight; import agent_preflight.preflight",
    "from agent_preflight import PreflightError",
]


@pytest.mark.wire
def test_preflight_is_the_function_whatever_is_imported_first() -> None:
    """Each way in a package imported anew, all in one interpreter."""
    code = f"""
import importlib, sys, types
for first in {FIRST_IMPORTS!r}:
    for name in [name for name in sys.modules if name.startswith("agent_preflight")]:
        del sys.modules[name]
    exec(first, {{}})
    package, module = sys.modules["agent_preflight"], importlib.import_module("agent_preflight.preflight")
    assert isinstance(module, types.ModuleType), first
    assert package.preflight is module.preflight, first
    assert package.preflight is module.preflight, first
    assert sys.modules["agent_preflight.preflight"] is module, first
print("good")"""
    assert isolated(code) == "good"


def test_a_script_may_put_its_own_preflight_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_preflight, "preflight", len)
    assert getattr(agent_preflight, "preflight") is len  # noqa: B009 - typed as what it replaces


def test_the_other_modules_are_attributes_as_usual() -> None:
    importlib.import_module("agent_preflight.budget")
    assert isinstance(vars(agent_preflight)["budget"], ModuleType)


@each("name", ["get_usage", "provision_key", "get_available_models", "get_account_balance"])
def test_the_four_patch_points_are_never_kept(name: str) -> None:
    assert getattr(agent_preflight, name) is getattr(importlib.import_module("agent_preflight.provision"), name)
    assert name not in vars(agent_preflight)


@each(
    "module, names",
    [
        ("provision", "OR_BASE provision_key provision_key_full delete_key get_usage get_account_balance"),
        ("budget", "BudgetTracker BudgetStatus"),
        ("caching", "ANTHROPIC_MIN_CACHE_TOKENS OPENAI_MIN_CACHE_TOKENS GOOGLE_MIN_CACHE_TOKENS PromptBuilder"),
        ("cache_report", "RUNS_DIR generate_cache_report latest_run main"),
        ("docker", "build_image image_exists remove_container run_container"),
        ("eject", "EjectPolicy EjectDecision default_eject_policies"),
        ("events", "EventLogger"),
        ("health", "InfraCheck InfraResult http_health env_vars docker_health git_version"),
        ("models", "RunResult BudgetStatus CacheStats EjectDecision InfraResult"),
        ("preflight", "preflight PreflightError"),
        ("runner", "run_multi run_single RUNS_DIR"),
        ("status", "RUNS_DIR container_running main status_main print_status_table summarise_model latest_run"),
        ("utils", "render_prompt summarize_run"),
    ],
)
def test_names_are_found_in_the_modules_where_scripts_look(module: str, names: str) -> None:
    found = importlib.import_module(f"agent_preflight.{module}")
    assert [name for name in names.split() if not hasattr(found, name)] == []


def test_the_version_is_told() -> None:
    assert agent_preflight.__version__.count(".") == 2
