"""What a preflight.toml may say, and what a person is told where it says something else."""

from decimal import Decimal

import pytest

from agent_preflight.options.config_errors import known_keys
from agent_preflight.options.naming import NamedModel
from agent_preflight.options.run_file import parse_config, parse_pyproject, tables
from agent_preflight.options.settings import read_option
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each


def said(text: str) -> str:
    """Return what a person is told of a file that is wrong."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return str(caught.value)


def test_an_empty_file_decides_nothing() -> None:
    assert parse_config("") == {}


def test_amounts_are_exact_whether_in_quotes_or_not() -> None:
    for text in ("0.1", '"0.1"', '"$0.1"', "1e-1"):
        assert read_option("budget_usd", parse_config(f"budget = {text}")["budget_usd"]) == Decimal("0.1")


def test_models_and_mounts_have_two_spellings() -> None:
    config = parse_config(
        'models = ["a/b=x", { id = "c/d", budget = 1 }]\nmounts = ["/h:/c", { source = "s", target = "/t" }]'
    )
    assert config["models"] == ["a/b=x", NamedModel("c/d", budget_usd=Decimal(1))]
    assert config["mounts"] == ["/h:/c", ("s", "/t", "rw")]


@each(
    "text, near",
    [
        ("imge = 'x'", "do you mean 'image'?"),
        ("budget_usd = 1", "do you mean 'budget'?"),
        ("container_args = []", "do you mean 'arguments'?"),
        ("timeout = 1", "do you mean 'timeout_s'?"),
        ("max_worker = 1", "do you mean 'max_workers'?"),
        ("models = [{ id = 'x', budgt = 1 }]", "models[0]: unknown key 'budgt': do you mean 'budget'?"),
        ("[preflight]\ncheck = []", "preflight: unknown key 'check': do you mean 'checks'?"),
        (
            "[[policies]]\npolicy = 'stall'\ntreshold = 3",
            "policies[0]: unknown key 'treshold': do you mean 'threshold'?",
        ),
        (
            "[[preflight.infra]]\ncheck = 'http_health'\nurll = 'x'",
            "preflight.infra[0]: unknown key 'urll': do you mean 'url'?",
        ),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest_known_one(text: str, near: str) -> None:
    assert near in said(text)


def test_a_key_like_none_that_is_known_is_told_which_there_are() -> None:
    assert "known are models, budget, image" in said("zzzzzz = 1")


@each("key", ["admin_key", "or_key", "OPENROUTER_API_KEY"])
def test_keys_to_money_are_refused_in_words(key: str) -> None:
    assert "OR_ADMIN_KEY" in said(f"{key} = 'sk-or-secret'")
    assert "sk-or-secret" not in said(f"{key} = 'sk-or-secret'")


@each(
    "text, where",
    [
        ("budget = true", "budget is dollars above 0 and at most 1000000, such as 0.25, not 'True'"),
        ("models = 'a/b'", "models: must be a list, not a text in quotes"),
        ("models = [3]", "models[0]: must be a text in quotes or a table, not a whole number"),
        ("max_workers = 2.5", "max_workers: must be a whole number, not a fraction"),
        ("parallel = 1", "parallel: must be true or false"),
        ("timeout_s = 0", "timeout_s is a number of seconds above 0, not"),
        ("models = ['a/b', { id = 'x', budget = '' }]", "models[1].budget is dollars"),
        ("[env]\nA = 1", "env[...]: must be a text in quotes"),
        ("sandbox = 'dokcer'", "sandbox: invalid enum value 'dokcer'; known are docker, process"),
        ("[[policies]]\npolicy = 'stal'", "known are budget_exceeded, budget_fraction, idle_timeout, progress, stall"),
        ("[[policies]]\nthreshold = 3", "policies[0]: the key 'policy' is missing"),
        ("[[preflight.infra]]\ncheck = 'http_health'", "preflight.infra[0]: the key 'url' is missing"),
        ("prompt = 'x'\nprompt_file = 'y'", "contradict"),
        ("models = = 3", "line 1"),
    ],
)
def test_a_wrong_value_says_where(text: str, where: str) -> None:
    assert where in said(text)
    assert said(text).startswith("preflight.toml: ")


def test_a_pyproject_may_hold_the_same_keys() -> None:
    assert parse_pyproject("[tool.agent-preflight]\nimage = 'x'") == {"image_name": "x"}
    assert parse_pyproject("[tool.other]\nimage = 'x'") is None
    assert parse_pyproject("tool = 3") is None
    with pytest.raises(ConfigError, match=r"\[tool.agent-preflight\]: unknown key 'imag': do you mean 'image'"):
        parse_pyproject("[tool.agent-preflight]\nimag = 'x'")


def test_every_place_of_tables_knows_its_keys() -> None:
    assert {place: known_keys(kinds[0])[0] for place, kinds in tables().items()} == {
        "": "models",
        "models[]": "id",
        "mounts[]": "source",
        "policies[]": "policy",
        "preflight": "checks",
        "preflight.infra[]": "check",
    }
