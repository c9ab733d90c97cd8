"""The sources of options: the command line wins over variables, they win over the file, and it wins over defaults."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from agent_preflight.base.config import Environment
from agent_preflight.launch.config_policies import with_objects
from agent_preflight.options.config_file import parse_config
from agent_preflight.options.naming import NamedModel
from agent_preflight.options.settings import RunSettings
from agent_preflight.options.sources import for_command, merged, read_variables, settings_of
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

KEYS = {"OR_ADMIN_KEY": "adm", "OPENROUTER_API_KEY": "inf"}


def options(text: str = "", variables: Mapping[str, str] | None = None, **given: Any) -> dict[str, Any]:
    """Return the options of a run that a file, variables and the command line give."""
    environment = Environment.read({**KEYS, **(variables or {})})
    return for_command({"models": [], **given}, environment, with_objects(parse_config(text)))


def completed(text: str = "", files: Mapping[str, str] | None = None, **given: Any) -> RunSettings:
    """Return the settings of such a run, with the contents of the files and variables that it names."""
    read_file = (files or {}).__getitem__
    env = read_variables(given, parse_config(text), read_file).values
    return settings_of(options(text, **given), env, {"HF_TOKEN": "hf"}.get, read_file)


FILE = 'models = ["f/f"]\nbudget = 3\nnetwork = "bridge"\nmax_workers = 2\n'


def test_only_the_network_has_a_default_of_the_command_line() -> None:
    assert options(models=["a/b"]) == {
        "admin_key": Secret("adm"),
        "or_key": Secret("inf"),
        "models": (NamedModel("a/b", "b"),),
        "network": "sealed",
    }


def test_an_option_wins_over_a_variable_over_the_file() -> None:
    variables = {"PREFLIGHT_MODELS": "v/v", "PREFLIGHT_BUDGET": "2"}
    from_file, from_variables = options(FILE), options(FILE, variables)
    from_options = options(FILE, variables, models=["o/o=x"], budget_usd="1", network="sealed", max_workers=5)
    assert [each["models"] for each in (from_file, from_variables, from_options)] == [
        *((NamedModel("f/f", "f"),), (NamedModel("v/v", "v"),), (NamedModel("o/o", "x"),))
    ]
    assert [Decimal(each["budget_usd"]) for each in (from_file, from_variables, from_options)] == [3, 2, 1]
    assert (from_variables["network"], from_options["network"]) == ("bridge", "sealed")
    assert (from_variables["max_workers"], from_options["max_workers"]) == (2, 5)


def test_the_variable_wins_over_the_base_url_of_the_file() -> None:
    text = FILE + 'openrouter_base_url = "http://file/api/v1"'
    assert options(text)["openrouter_base_url"] == "http://file/api/v1"
    named = options(text, {"OPENROUTER_BASE_URL": "http://variable/api/v1"})
    assert named["openrouter_base_url"] == "http://variable/api/v1"


def test_byok_of_the_file_reaches_the_run() -> None:
    assert options(FILE + "byok = true")["byok"] is True
    assert "byok" not in options(FILE)


def test_an_option_wins_over_the_stdin_of_the_file() -> None:
    assert options(FILE + 'stdin = "open"')["stdin"] == "open"
    assert options(FILE + 'stdin = "open"', stdin="close")["stdin"] == "close"
    assert "stdin" not in options(FILE)


def test_a_model_may_have_a_budget_and_arguments_of_its_own() -> None:
    text = 'budget = 1\narguments = ["all"]\nmodels = [{ id = "a/a", budget = 0.1, arguments = ["own"] }, "b/b"]'
    found = options(text)
    assert found["budget_usd"] == {"a": Decimal("0.1"), "b": Decimal(1)}
    assert found["container_args"] == {"a": ["own"], "b": ("all",)}
    assert options(text, budget_usd="5", container_args=["x"])["container_args"] == ["x"]
    assert options(text, budget_usd="5")["budget_usd"] == "5"


def test_mappings_are_merged_and_lists_come_whole_from_the_strongest_source() -> None:
    text = FILE + 'egress = ["a:1"]\n[services]\na = "h:1"\nb = "h:2"\n[env]\nA = "file"\nB = "file"'
    found = completed(text, env={"B": "option", "HF_TOKEN": None}, services={"b": "h:3"}, egress=["c:3"])
    assert found.env == {"A": "file", "B": "option", "HF_TOKEN": "hf"}
    assert found.services == {"a": "h:1", "b": "h:3"}
    assert found.egress == ("c:3",)


def test_a_variable_that_agents_are_to_get_must_be_set() -> None:
    assert completed(FILE + 'pass_env = ["HF_TOKEN"]').env == {"HF_TOKEN": "hf"}
    with pytest.raises(ConfigError, match="OTHER"):
        completed(FILE + 'pass_env = ["OTHER"]')


def test_arguments_of_the_command_line_are_the_command_of_a_process_if_the_file_has_none() -> None:
    process = FILE + 'sandbox = "process"\n'
    assert options(process, container_args=["prog", "x"])["command"] == ["prog", "x"]
    with_command = options(process + 'command = ["prog"]\narguments = ["y"]', container_args=["x"])
    assert (with_command["command"], with_command["container_args"]) == (("prog",), ["x"])
    assert options(FILE, container_args=["x"])["container_args"] == ["x"]


def test_checks_policies_and_mounts_reach_the_run() -> None:
    text = FILE + 'mounts = [{ source = "/s", target = "/t" }]\ncpus = 1.5\n'
    text += '[preflight]\nchecks = ["math"]\n[[policies]]\npolicy = "stall"'
    found = options(text)
    assert found["mounts"] == ("/s:/t:rw",)
    assert found["cpus"] == "1.5"
    assert found["preflight_kwargs"] == {"checks": ["math"]}
    assert callable(found["eject_policy"])


def test_the_error_names_the_missing_key_or_model() -> None:
    no_keys = Environment()
    only_admin = Environment(admin_key=Secret("x"))
    with pytest.raises(ConfigError, match="OR_ADMIN_KEY"):
        for_command({"models": ["a/b"]}, no_keys, {})
    with pytest.raises(ConfigError, match="OPENROUTER_API_KEY"):
        for_command({"models": ["a/b"]}, only_admin, {})
    assert for_command({"models": ["a/b"], "skip_preflight": True}, only_admin, {})["or_key"] is None
    with pytest.raises(ConfigError, match="PREFLIGHT_MODELS"):
        options()


def test_a_wrong_budget_in_a_variable_is_an_error_unless_an_option_gives_one() -> None:
    with pytest.raises(ConfigError, match="PREFLIGHT_BUDGET is dollars above 0"):
        options(FILE, {"PREFLIGHT_BUDGET": "much"})
    assert options(FILE, {"PREFLIGHT_BUDGET": "much"}, budget_usd="1")["budget_usd"] == "1"


def test_a_prompt_of_a_stronger_source_replaces_prompt_and_prompt_file_of_a_weaker_one() -> None:
    files = {"p.txt": "from a file"}
    by_option = completed(FILE + 'prompt_file = "p.txt"', files, initial_prompt="said")
    assert by_option.initial_prompt == "said"
    by_file_option = completed(FILE + 'prompt = "said"', files, prompt_file="p.txt")
    assert by_file_option.initial_prompt == "from a file"
    with pytest.raises(ConfigError, match="contradict"):
        completed(FILE, files, initial_prompt="said", prompt_file="p.txt")


def test_env_wins_over_an_env_file() -> None:
    files = {"a.env": "A=1\nB=1\nHF_TOKEN", "b.env": "B=2\nC=2"}
    found = completed(FILE + '[env]\nC = "file"', files, env_file=["a.env", "b.env"])
    assert found.env == {"A": "1", "B": "2", "C": "file", "HF_TOKEN": "hf"}


def test_an_empty_value_of_a_stronger_source_gives_nothing() -> None:
    assert merged({"egress": [], "image_name": None}, {"egress": ["a:1"], "image_name": "i"}) == {
        "egress": ["a:1"],
        "image_name": "i",
    }


def test_a_process_has_no_network_unless_a_source_names_one() -> None:
    assert "network" not in options(models=["a/b"], sandbox="process")
    assert options(models=["a/b"], sandbox="process", network="sealed")["network"] == "sealed"
    assert options(FILE, sandbox="process")["network"] == "bridge"
