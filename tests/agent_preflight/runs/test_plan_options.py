"""The options that a plan.json holds."""

from typing import Any

import pytest

from agent_preflight.runs.plan_options import plan_options
from preflight_proxy.core.errors import ConfigError


@pytest.mark.parametrize("plan", [{}, {"origin": 3, "may_change": [], "trials": 5, "env_names": None}])
def test_a_plan_of_another_shape_has_no_options(plan: dict[str, Any]) -> None:
    assert plan_options(plan) == {}


@pytest.mark.parametrize("plan", [{"memory": "much"}, {"trials": [{"alias": "a"}]}, {"may_change": {"gate": "x"}}])
def test_a_plan_with_wrong_values_is_an_error_that_names_it(plan: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"plan\.json"):
        plan_options(plan)
