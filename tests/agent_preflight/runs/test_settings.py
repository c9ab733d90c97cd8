"""The options of a run are declared once: Python's keywords, the file and the command line agree with that."""

import inspect
import re
from typing import Any

import pytest

from agent_preflight.runner.api import run_container, run_multi
from agent_preflight.runs.settings import RunSettings, SettingError, defaults, keys, options, read_option, read_settings
from preflight_proxy.core.secret import Secret
from preflight_proxy.errors import ConfigError
from tests.cases import each

ONLY_IN_A_FILE = {"pass_env"}
"""Options that scripts have no keyword for: they hand on what they read themselves."""
OF_RUN_CONTAINER = {"model_id", "alias", "run_dir"}
"""What `run_container` has instead of a list of models and a folder of runs."""
NEEDED = {"models", "budget_usd"}
"""Keywords without a default."""


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def test_run_multi_has_a_keyword_for_each_option_and_no_other() -> None:
    assert parameters(run_multi).keys() == options().keys() - ONLY_IN_A_FILE


@each("name", sorted(options().keys() - ONLY_IN_A_FILE - NEEDED))
def test_a_keywords_default_is_the_declared_one(name: str) -> None:
    default, declared = parameters(run_multi)[name].default, defaults()[name]
    assert default == declared or (default is None and declared == ()) or str(default) == declared


def test_run_container_has_the_same_keywords_and_defaults() -> None:
    of_one, of_many = parameters(run_container), parameters(run_multi)
    assert of_one.keys() - OF_RUN_CONTAINER <= of_many.keys()
    for name in of_one.keys() - OF_RUN_CONTAINER - {"run_id", "image_name"}:
        assert of_one[name].default == of_many[name].default, name


def test_the_docstring_describes_each_keyword_once() -> None:
    described = re.findall(r"^ {8}(\w+): ", inspect.getdoc(run_multi) or "", re.MULTILINE)
    described = described or re.findall(r"^ {4}(\w+): ", inspect.getdoc(run_multi) or "", re.MULTILINE)
    assert sorted(
        set(described) - {"ConfigError", "ValueError", "PreflightError", "OperatingError", "KeyboardInterrupt"}
    ) == (sorted(parameters(run_multi)))


def test_each_option_has_its_own_key_and_its_own_flags() -> None:
    flags = [flag for option in options().values() for text in option.flags for flag in text.split("/")]
    assert len(flags) == len(set(flags))
    assert len(keys()) == len(set(keys().values()))


def test_each_default_is_a_value_of_its_option() -> None:
    for name, default in defaults().items():
        if default not in (None, ()):
            assert read_option(name, default) == default, name


def test_what_is_not_given_is_the_default() -> None:
    assert read_settings({}) == read_settings(dict.fromkeys(options())) == RunSettings()


def test_a_wrong_value_says_which_option_and_what_it_must_be() -> None:
    with pytest.raises(SettingError, match=r"^max_workers is a whole number above 0, not '0'\.$"):
        read_settings({"max_workers": 0})
    with pytest.raises(ConfigError, match=r"^--gate is 'auto', 'shared' or 'portable', not 'vm'"):
        read_option("gate", "vm", "--gate")


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="imag_name"):
        read_settings({"imag_name": "x"})


def test_neither_keys_nor_prompts_nor_variables_are_shown() -> None:
    given = {
        "admin_key": "sk-hidden-1",
        "or_key": Secret("sk-hidden-2"),
        "initial_prompt": "hidden",
        "env": {"A": "hidden"},
    }
    assert "hidden" not in repr(read_settings(given))
    with pytest.raises(SettingError) as caught:
        read_option("env", {"A": "hidden\n"})
    assert "hidden" not in str(caught.value)
