"""The options of a run are declared once. The keywords of Python, the file, the command line and the docs agree with that."""

import inspect
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.options.kinds import SettingError
from agent_preflight.options.settings import (
    COMMAND_NETWORK,
    DEFAULTS,
    KEYS,
    OPTIONS,
    RunSettings,
    read_option,
    read_settings,
    unused_by_processes,
)
from agent_preflight.runner.api import run_container, run_multi
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret
from tests.support.cases import each
from tests.support.cli_commands import invoke

ONLY_IN_A_FILE = {"pass_env"}
"""Options without a keyword, because a script can read variables itself."""
OF_RUN_CONTAINER = {"model_id", "alias", "run_dir"}
"""Keywords of `run_container` in place of a list of models and a folder of runs."""
NEEDED = {"models", "budget_usd"}
"""Keywords without a default."""


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def test_run_multi_has_a_keyword_for_each_option_and_no_other() -> None:
    assert parameters(run_multi).keys() == OPTIONS.keys() - ONLY_IN_A_FILE


@each("name", sorted(OPTIONS.keys() - ONLY_IN_A_FILE - NEEDED))
def test_a_keywords_default_is_the_declared_one(name: str) -> None:
    default, declared = parameters(run_multi)[name].default, DEFAULTS[name]
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
    flags = [flag for option in OPTIONS.values() for text in option.flags for flag in text.split("/")]
    assert len(flags) == len(set(flags))
    assert len(KEYS) == len(set(KEYS.values()))


def test_each_default_is_a_value_of_its_option() -> None:
    for name, default in DEFAULTS.items():
        if default not in (None, ()):
            assert read_option(name, default) == default, name


def test_an_option_that_is_none_or_missing_has_its_default() -> None:
    assert read_settings({}) == read_settings(dict.fromkeys(OPTIONS)) == RunSettings()


def test_a_wrong_value_says_which_option_and_what_it_must_be() -> None:
    with pytest.raises(SettingError, match=r"^max_workers is a whole number above 0, not '0'\.$"):
        read_settings({"max_workers": 0})
    with pytest.raises(ConfigError, match=r"^--gate is 'auto', 'shared' or 'portable', not 'vm'"):
        read_option("gate", "vm", "--gate")


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="imag_name"):
        read_settings({"imag_name": "x"})


def test_the_text_of_settings_shows_no_keys_prompts_or_variables() -> None:
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


DOCS = Path(__file__).resolve().parents[3] / "docs"
OF_SCRIPTS = OPTIONS.keys() - ONLY_IN_A_FILE - {"models"}


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells of each row of a page's tables whose first cell is a name, by that name; of several rows the first."""
    lines = [
        line.strip("|").split(" | ") for line in (DOCS / page).read_text("utf-8").splitlines() if line.startswith("| `")
    ]
    return {name: cells for cells in reversed(lines) for name in re.findall(r"`(\w+)`", cells[0])}


def test_the_table_for_scripts_has_each_option() -> None:
    assert sorted(OF_SCRIPTS - rows("python.md").keys()) == []


def test_the_table_of_the_file_has_each_key() -> None:
    assert sorted(KEYS.keys() - rows("config.md").keys()) == []


@each("page", ["config.md", "python.md"])
def test_the_default_that_a_page_shows_is_the_declared_one(page: str) -> None:
    names = dict(KEYS) if page == "config.md" else {name: name for name in OF_SCRIPTS}
    found = rows(page)
    for shown, name in names.items():
        cells = found[shown]
        if "," in cells[0] or name == "expect_tokens" or (name == "budget_usd" and page == "python.md"):
            continue
        declared = {**DEFAULTS, "network": COMMAND_NETWORK if page == "config.md" else "bridge"}[name]
        if isinstance(declared, bool):
            assert cells[1] == str(declared).lower(), shown
        elif isinstance(declared, int | float | Decimal) and cells[1]:
            assert read_option(name, cells[1].strip('`"')) == declared, shown
        elif isinstance(declared, str) and declared:
            assert cells[1].strip('`"') == declared, shown


def test_the_help_has_each_flag_with_its_sentence() -> None:
    told = " ".join(invoke("run", "--help").stdout.split())
    for option in OPTIONS.values():
        for flags in option.flags:
            assert flags.replace("/", " / ") in told or flags in told
        assert not option.flags or option.help.split()[0] in told


OF_CONTAINERS: dict[str, Any] = {
    "network": "sealed", "mounts": ["/a:/b"], "docker_args": ["--init"], "memory": "1g", "cpus": "1", "gate": "shared",
    "workspace_path": "/w", "keep_output": False, "output_path": "/o", "output_timeout_s": 1, "output_max_bytes": 1,
    "output_max_files": 1, "output_max_depth": 1,
}  # fmt: skip


@each("name", list(OF_CONTAINERS))
def test_an_option_of_containers_has_no_effect_on_processes_and_is_named(name: str) -> None:
    assert unused_by_processes(read_settings({name: OF_CONTAINERS[name]})) == [name]


def test_options_that_processes_use_or_that_are_at_their_defaults_are_not_named() -> None:
    used = {
        "command": ["sh"],
        "env": {"A": "1"},
        "timeout_s": 5,
        "stdin": "open",
        "initial_prompt": "p",
        "image_name": "i",
    }
    assert unused_by_processes(read_settings(used)) == []
    assert unused_by_processes(read_settings({"network": "host"})) == []


@each("name, value", [("admin_key", b"sk-or-v1-bytes"), ("or_key", 5551234), ("env", "NAME=s3cret")])
def test_an_error_about_a_key_or_a_variable_does_not_show_its_value(name: str, value: object) -> None:
    with pytest.raises(SettingError) as caught:
        read_option(name, value)
    assert not [text for text in ("sk-or-v1-bytes", "5551234", "s3cret") if text in str(caught.value)]


@each(
    "stdin, prompt, closes",
    [("open", None, False), ("close", "text", True), ("auto", "text", False), ("auto", None, True)],
)
def test_standard_input_stays_open_after_a_prompt_unless_an_option_says_otherwise(
    stdin: str, prompt: str | None, closes: bool
) -> None:
    assert read_settings({"stdin": stdin, "initial_prompt": prompt}).closes_stdin is closes


def test_repeats_give_each_agent_its_own_budget_and_arguments() -> None:
    settings = read_settings(
        {
            "models": ["a/m=nano", "b/m=haiku"],
            "repeats": 2,
            "budget_usd": {"nano": 1, "haiku": 2, "haiku-2": 3},
            "container_args": {"nano-1": ["--first"]},
        }
    )
    assert settings.pairs == [("a/m", "nano-1"), ("b/m", "haiku-1"), ("a/m", "nano-2"), ("b/m", "haiku-2")]
    assert settings.budget_usd == {"nano-1": 1, "nano-2": 1, "haiku-1": 2, "haiku-2": 3}
    assert (settings.command_of("nano-1"), settings.command_of("nano-2")) == (("--first",), ())
    with pytest.raises(SettingError, match=r"^repeats: x-1 would name repeat 1 of x, .* another alias\.$"):
        read_settings({"models": ["a/m=x", "b/m=x-1"], "repeats": 2})
