"""The environment, read once and checked."""

import os
from decimal import Decimal

import pytest

from agent_preflight.base import config
from agent_preflight.base.config import ConfigError, Environment
from preflight_proxy.core.secret import Secret
from tests.support.cases import each

COMPLETE = {"OR_ADMIN_KEY": "sk-admin", "OPENROUTER_API_KEY": "sk-key", "PREFLIGHT_MODELS": "a/b, c/d ,,"}


def test_the_inputs_of_preflight_are_complete() -> None:
    inputs = Environment.read(COMPLETE).preflight_inputs()
    assert inputs == (Secret("sk-admin"), Secret("sk-key"), ("a/b", "c/d"), Decimal("0.25"))


def test_the_short_name_of_the_admin_key_comes_first() -> None:
    both = Environment.read({"OR_ADMIN_KEY": "one", "OPENROUTER_ADMIN_KEY": "two"})
    assert both.admin_key == Secret("one")


def test_an_empty_variable_counts_as_unset() -> None:
    found = Environment.read({"OR_ADMIN_KEY": "", "OPENROUTER_ADMIN_KEY": "two", "OPENROUTER_BASE_URL": ""})
    assert found.admin_key == Secret("two")
    assert found.base_url is None


@each(
    "missing, named",
    [
        ({"OR_ADMIN_KEY", "OPENROUTER_API_KEY", "PREFLIGHT_MODELS"}, "OR_ADMIN_KEY or OPENROUTER_ADMIN_KEY"),
        ({"OPENROUTER_API_KEY", "PREFLIGHT_MODELS"}, "OPENROUTER_API_KEY"),
        ({"PREFLIGHT_MODELS"}, "PREFLIGHT_MODELS"),
    ],
)
def test_what_is_missing_is_named_in_order(missing: set[str], named: str) -> None:
    found = Environment.read({name: value for name, value in COMPLETE.items() if name not in missing})
    with pytest.raises(ConfigError, match=named):
        found.preflight_inputs()


@each("text", ["five", "0", "-1", "nan", "inf", "1e9", "1;2"])
def test_a_budget_that_is_no_amount_is_an_error_that_names_its_variable(text: str) -> None:
    with pytest.raises(ConfigError, match="PREFLIGHT_BUDGET"):
        Environment.read({"PREFLIGHT_BUDGET": text}).budget_usd()


def test_a_budget_is_read_exactly() -> None:
    assert Environment.read({"PREFLIGHT_BUDGET": "0.10"}).budget_usd() == Decimal("0.10")


def test_keys_never_show_in_the_object() -> None:
    assert "sk-" not in repr(Environment.read(COMPLETE))


def test_the_process_s_own_variables_are_read_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENROUTER_BASE_URL", raising=False)
    assert config.base_url() is None
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:1/api/v1")
    assert config.base_url() == "http://127.0.0.1:1/api/v1"
    assert Environment.read().base_url == "http://127.0.0.1:1/api/v1"


def test_an_empty_variable_is_not_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFLIGHT_TEST_EMPTY", "")
    assert (config.variable("PREFLIGHT_TEST_EMPTY"), config.variable("PREFLIGHT_TEST_ABSENT")) == ("", None)


def test_a_child_process_gets_a_copy() -> None:
    copied = config.child_environment()
    copied["PREFLIGHT_TEST_COPY"] = "x"
    assert "PREFLIGHT_TEST_COPY" not in os.environ
