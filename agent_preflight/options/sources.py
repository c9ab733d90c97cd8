"""Merges the sources of a run's options: the command line wins over variables, they win over the file, and it wins over defaults.

A source is a mapping of `run_multi`'s keywords to values. None, an empty list and an empty mapping give no value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from agent_preflight.base.config import Environment
from agent_preflight.options.naming import NamedModel
from agent_preflight.options.settings import COMMAND_NETWORK, DEFAULTS, RunSettings, read_option, read_settings
from agent_preflight.options.text_files import parse_env_file
from preflight_proxy.core.errors import ConfigError

Source = Mapping[str, Any]
Lookup = Callable[[str], str | None]
ReadFile = Callable[[str], str]

BY_OPTION = "option"
"""The source of a variable whose value is from the command line. No file keeps the value."""

MERGED_BY_NAME = ("env", "services", "tags")
"""Mappings that are merged name by name. Of any other option, the strongest source gives the whole value."""
PROMPTS = ("initial_prompt", "prompt_file")
"""Two forms of one option: a source that gives one of them replaces both."""
OF_A_MODEL = {"budget_usd": "budget_usd", "container_args": "arguments"}
"""Options that a model may have of its own. They have no effect if a stronger source than that of the models gives the option."""


def merged(*sources: Source) -> dict[str, Any]:
    """Return the options of several sources.

    Args:
        sources: The strongest first.

    Raises:
        SettingError: The models are wrong.
    """
    given = [{name: value for name, value in source.items() if _is_given(value)} for source in sources]
    options: dict[str, Any] = {}
    for source in reversed(given):
        if any(name in source for name in PROMPTS):
            options = {name: value for name, value in options.items() if name not in PROMPTS}
        maps = {name: {**options.get(name, {}), **source[name]} for name in MERGED_BY_NAME if name in source}
        options |= source | maps
    if "models" in options:
        models: tuple[NamedModel, ...] = read_option("models", options["models"])
        stronger = list(takewhile(lambda source: "models" not in source, given))
        for name, attribute in OF_A_MODEL.items():
            own = {str(model.alias): value for model in models if (value := getattr(model, attribute)) is not None}
            if own and not any(name in source for source in stronger):
                usual = options.get(name, DEFAULTS[name] or ())
                options[name] = {str(model.alias): own.get(str(model.alias), usual) for model in models}
        options["models"] = models
    return options


def _is_given(value: object) -> bool:
    return value is not None and value not in ([], {}, ())


def of_environment(environment: Environment) -> Source:
    """Return the options that environment variables give."""
    return {
        "models": list(environment.models),
        "budget_usd": None if environment.budget is None else environment.budget_usd(),
        "openrouter_base_url": environment.base_url,
    }


def for_command(given: Source, environment: Environment, file: Source) -> dict[str, Any]:
    """Return the options of the command `run`.

    Args:
        given: Those of the command line.
        environment: The known variables.
        file: Those of the file.

    Raises:
        ConfigError: A key or the models are missing, or a value is wrong.
    """
    if _is_given(given.get("budget_usd")):
        environment = replace(environment, budget=None)  # it may be wrong, because it is not used
    options = with_keys(merged(given, of_environment(environment), file), environment)
    is_process = options.get("sandbox") == "process"
    if not is_process:  # a process has no network of its own
        options = {"network": COMMAND_NETWORK, **options}
    if "models" not in options:
        needs_image = not is_process and "image_name" not in options
        image = " Name an image too, with --image or under `image` there." if needs_image else ""
        raise ConfigError(
            f"Name a model with --model, in PREFLIGHT_MODELS, or under `models` in preflight.toml.{image}"
        )
    if is_process and "command" not in options and _is_given(given.get("container_args")):
        options["command"] = options.pop("container_args")
    return options


def with_keys(options: Source, environment: Environment) -> dict[str, Any]:
    """Return a run's options with the API keys that it needs. A key that is not among the options is from the environment.

    Raises:
        ConfigError: A key is missing.
    """
    admin_key = options.get("admin_key") or environment.admin_key
    or_key = options.get("or_key") or environment.api_key
    if admin_key is None:
        raise ConfigError("Set OR_ADMIN_KEY or OPENROUTER_ADMIN_KEY to a management key of OpenRouter.")
    if or_key is None and not options.get("skip_preflight"):
        raise ConfigError(
            "Set OPENROUTER_API_KEY to an inference key of OpenRouter, or leave the checks out (--skip-preflight)."
        )
    return {**options, "admin_key": admin_key, "or_key": or_key}


@dataclass(frozen=True, slots=True)
class AgentVariables:
    """The agents' variables.

    Attributes:
        values: The value of each variable; None for the value that it has in this process.
        sources: The source of each value: `option`, `environment`, `config` or `env_file`.
        files: The env files, in the order in which they were read.
    """

    values: Mapping[str, str | None] = field(repr=False)
    sources: Mapping[str, str]
    files: tuple[str, ...]


def read_variables(given: Source, file: Source, read_file: ReadFile) -> AgentVariables:
    """Return the agents' variables. An option wins over the file's table, that over `pass_env`, that over env files.

    Args:
        given: Options of the command line or of a script.
        file: Those of the file.
        read_file: Returns a file's text. Raises ConfigError.

    Raises:
        ConfigError: An env file cannot be read.
    """
    paths = read_option("env_file", given.get("env_file") or file.get("env_file") or ())
    names = read_option("pass_env", given.get("pass_env") or file.get("pass_env") or ())
    values: dict[str, str | None] = {}
    sources: dict[str, str] = {}
    for source, variables in (
        *(("env_file", parse_env_file(read_file(path), path)) for path in paths),
        ("environment", dict.fromkeys(names)),
        ("config", _variables(file)),
        (BY_OPTION, _variables(given)),
    ):
        values |= variables
        sources |= {name: "environment" if value is None else source for name, value in variables.items()}
    return AgentVariables(values, sources, paths)


def _variables(source: Source) -> Mapping[str, str | None]:
    env = source.get("env") or {}
    return env if isinstance(env, Mapping) else read_option("env", env)


def settings_of(options: Source, env: Mapping[str, str | None], lookup: Lookup, read_file: ReadFile) -> RunSettings:
    """Return the settings of a run, with its prompt and the agents' variables.

    Args:
        options: The run's options, with its keys.
        env: The agents' variables. None stands for the value in this process.
        lookup: Returns a variable of this process.
        read_file: Returns a file's text. Raises ConfigError.

    Raises:
        ConfigError: The prompt's file cannot be read, a variable is not set, a value is wrong, or there are two prompts.
        TypeError: There is no such option.
    """
    options = {
        **options,
        "env": {name: _value(name, lookup) if value is None else value for name, value in env.items()},
    }
    if options.get("prompt_file") is not None:
        if options.get("initial_prompt") is not None:
            raise ConfigError("prompt and prompt_file contradict each other; keep one.")
        options["initial_prompt"] = read_file(read_option("prompt_file", options["prompt_file"]))
    return read_settings(options)


def _value(name: str, lookup: Lookup) -> str:
    value = lookup(name)
    if value is None:
        raise ConfigError(f"Agents are to get the variable {name}, but it is not set here.")
    return value
