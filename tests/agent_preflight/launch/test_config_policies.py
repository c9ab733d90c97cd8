"""Policies and infra checks that a file names are the built-in ones."""

from pathlib import Path

import pytest

from agent_preflight.eject import BudgetFractionEject, CompositeEject, IdleTimeoutEject, ProgressEject, StallEject
from agent_preflight.launch.config_policies import infra_check, policy_factory, progress_function
from agent_preflight.options.config_file import parse_config
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each

FIVE = """
[[policies]]
policy = "budget_exceeded"
[[policies]]
policy = "idle_timeout"
timeout_s = 7
[[policies]]
policy = "budget_fraction"
check_after_pct = 0.5
[[policies]]
policy = "progress"
window_usd = 0.05
[[policies]]
policy = "stall"
threshold = 3
"""


def test_each_trial_gets_policies_of_its_own_with_the_files_parameters() -> None:
    make = policy_factory(parse_config(FIVE)["eject_policy"])
    first, second = make(), make()
    assert isinstance(first, CompositeEject)
    assert isinstance(second, CompositeEject)
    _, idle, fraction, progress, stall = first.policies
    assert isinstance(idle, IdleTimeoutEject)
    assert isinstance(fraction, BudgetFractionEject)
    assert isinstance(progress, ProgressEject)
    assert isinstance(stall, StallEject)
    assert (idle.timeout_s, fraction.check_after_pct, progress.window_usd, stall.threshold) == (7, 0.5, 0.05, 3)
    assert second.policies[1] is not idle


def test_progress_counts_tool_calls_or_asks_a_function_of_the_users() -> None:
    assert progress_function("tool_calls")({"tool_calls": 3}) == 3
    assert progress_function("builtins:len")({"a": 1}) == 1


@each("name", ["steps", "no_such_module_here:f", "builtins:no_such", "string:digits"])
def test_a_progress_function_that_is_none_is_refused_before_anything_starts(name: str) -> None:
    with pytest.raises(ConfigError, match="progress"):
        progress_function(name)


def test_infra_checks_have_their_names(tmp_path: Path) -> None:
    text = f"""
    [[preflight.infra]]
    check = "http_health"
    url = "http://127.0.0.1:1/health"
    [[preflight.infra]]
    check = "env_vars"
    names = ["NO_SUCH_VARIABLE_HERE"]
    [[preflight.infra]]
    check = "docker_health"
    container = "db"
    [[preflight.infra]]
    check = "git_version"
    path = "{tmp_path}"
    """
    checks = parse_config(text)["preflight_kwargs"]
    assert checks is not None
    made = [infra_check(infra) for infra in checks.infra or ()]
    assert [check.name for check in made] == ["127.0.0.1:1", "Env vars", "Docker db", f"Git {tmp_path.name}"]
    assert not made[1].check().ok
