"""Where a run's options come from: an option wins over a variable, that over the file, that over the default. Pure.

A source is a mapping of `run_multi`'s keywords to what it says; None, and an empty list or map, says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent_preflight.base.config import Environment
from agent_preflight.options.naming import NamedModel
from agent_preflight.options.settings import COMMAND_NETWORK, RunSettings, defaults, read_option, read_settings
from agent_preflight.options.text_files import parse_env_file
from preflight_proxy.core.errors import ConfigError

Source = Mapping[str, Any]
Lookup = Callable[[str], str | None]
ReadFile = Callable[[str], str]

BY_OPTION = "option"
"""The source of a variable whose value was given on the command line. It is kept nowhere."""

MERGED_BY_NAME = ("env", "services")
"""Maps of several sources are one; of everything else the strongest source is taken whole."""
ALTERNATIVES = (("initial_prompt", "prompt_file"),)
"""Of such options the strongest source decides which is meant."""
OF_A_MODEL = {"budget_usd": "budget_usd", "container_args": "arguments"}
"""What a model may have of its own, unless a stronger source than the one that names the models speaks for all."""


def merged(*sources: Source) -> dict[str, Any]:
    """Return what several sources say together.

    Args:
        sources: The strongest first.

    Raises:
        SettingError: The models are none.
    """
    given = [{name: value for name, value in source.items() if _says(value)} for source in sources]
    for options in ALTERNATIVES:
        for stronger, weaker in ((a, b) for number, a in enumerate(given) for b in given[number + 1 :]):
            if any(name in stronger for name in options):
                for name in options:
                    weaker.pop(name, None)
    said = {name: value for source in reversed(given) for name, value in source.items()}
    for name in MERGED_BY_NAME:
        if maps := [source[name] for source in reversed(given) if name in source]:
            said[name] = {key: value for each in maps for key, value in each.items()}
    return _with_what_models_have(said, given)


def _says(value: object) -> bool:
    return value is not None and value not in ([], {}, ())


def _with_what_models_have(said: dict[str, Any], sources: list[dict[str, Any]]) -> dict[str, Any]:
    """Turn what models have of their own into mappings by alias."""
    if "models" not in said:
        return said
    models: tuple[NamedModel, ...] = read_option("models", said["models"])
    at = next(number for number, source in enumerate(sources) if "models" in source)
    for name, attribute in OF_A_MODEL.items():
        own = {str(model.alias): value for model in models if (value := getattr(model, attribute)) is not None}
        if own and not any(name in source for source in sources[:at]):
            for_all = said.get(name, defaults()[name] or ())
            said[name] = {str(model.alias): own.get(str(model.alias), for_all) for model in models}
    said["models"] = tuple(replace(model, budget_usd=None, arguments=None) for model in models)
    return said


def of_environment(environment: Environment) -> Source:
    """Return what the known variables say of a run."""
    return {
        "models": list(environment.models),
        "budget_usd": None if environment.budget is None else environment.budget_usd(),
        "openrouter_base_url": environment.base_url,
    }


def for_command(options: Source, environment: Environment, file: Source) -> dict[str, Any]:
    """Return what the command `run` is told.

    Args:
        options: The command line's.
        environment: The known variables.
        file: What the file says.

    Raises:
        ConfigError: A key or the models are missing, or a value is none.
    """
    variables = of_environment(
        environment if not _says(options.get("budget_usd")) else replace(environment, budget=None)
    )
    said = with_keys(merged(options, variables, file), environment)
    if said.get("sandbox") != "process":  # which has no network of its own
        said = {"network": COMMAND_NETWORK, **said}
    if "models" not in said:
        needs_image = said.get("sandbox") != "process" and "image_name" not in said
        image = " Name an image too, with --image or under `image` there." if needs_image else ""
        raise ConfigError(
            f"Name a model with --model, in PREFLIGHT_MODELS, or under `models` in preflight.toml.{image}"
        )
    if said.get("sandbox") == "process" and "command" not in said and _says(options.get("container_args")):
        said["command"] = said.pop("container_args")
    return said


def with_keys(given: Source, environment: Environment) -> dict[str, Any]:
    """Return a run's options with the keys that it needs, from the environment where they are not given.

    Raises:
        ConfigError: One is missing.
    """
    said = dict(given)
    said["admin_key"] = said.get("admin_key") or environment.admin_key
    said["or_key"] = said.get("or_key") or environment.api_key
    if said["admin_key"] is None:
        raise ConfigError("Set OR_ADMIN_KEY or OPENROUTER_ADMIN_KEY to a management key of OpenRouter.")
    if said["or_key"] is None and not said.get("skip_preflight"):
        raise ConfigError(
            "Set OPENROUTER_API_KEY to an inference key of OpenRouter, or leave the checks out (--skip-preflight)."
        )
    return said


@dataclass(frozen=True, slots=True)
class AgentVariables:
    """The agents' variables as the sources of a run give them.

    Attributes:
        values: Each variable's value. None for one whose value in this process is handed on.
        sources: Where each comes from: `option`, `environment`, `config` or `env_file`.
        files: The env files, in the order in which they were read.
    """

    values: Mapping[str, str | None] = field(repr=False)
    sources: Mapping[str, str]
    files: tuple[str, ...]


def read_variables(options: Source, file: Source, read_file: ReadFile) -> AgentVariables:
    """Return the agents' variables. An option wins over the file's table, that over `pass_env`, that over env files.

    Args:
        options: What the command line or a script says.
        file: What the file says.
        read_file: Returns a file's text. Raises ConfigError.

    Raises:
        ConfigError: An env file cannot be read.
    """
    paths = read_option("env_file", options.get("env_file") or file.get("env_file") or ())
    handed_on = read_option("pass_env", options.get("pass_env") or file.get("pass_env") or ())
    named: list[tuple[str, Mapping[str, str | None]]] = [
        *(("env_file", parse_env_file(read_file(path), path)) for path in paths),
        ("environment", dict.fromkeys(handed_on)),
        ("config", _mapping(file)),
        (BY_OPTION, _mapping(options)),
    ]
    values = {name: value for _, variables in named for name, value in variables.items()}
    sources = {
        name: "environment" if value is None else source
        for source, variables in named
        for name, value in variables.items()
    }
    return AgentVariables(values, sources, paths)


def _mapping(source: Source) -> Mapping[str, str | None]:
    own = source.get("env") or {}
    return own if isinstance(own, Mapping) else read_option("env", own)


def settings_of(said: Source, env: Mapping[str, str | None], lookup: Lookup, read_file: ReadFile) -> RunSettings:
    """Return the settings that a run's options make, with its prompt and the agents' variables.

    Args:
        said: What is said of a run, with its keys.
        env: The agents' variables. None stands for a value of this process.
        lookup: Returns a variable of this process.
        read_file: Returns a file's text. Raises ConfigError.

    Raises:
        ConfigError: The prompt's file cannot be read, a variable is not set, a value is none, or there are two prompts.
        TypeError: There is no such option.
    """
    options = dict(said)
    if options.get("prompt_file") is not None:
        if options.get("initial_prompt") is not None:
            raise ConfigError("prompt and prompt_file contradict each other; keep one.")
        options["initial_prompt"] = read_file(read_option("prompt_file", options["prompt_file"]))
    options["env"] = {name: _value(name, lookup) if value is None else value for name, value in env.items()}
    return read_settings(options)


def _value(name: str, lookup: Lookup) -> str:
    value = lookup(name)
    if value is None:
        raise ConfigError(f"The variable {name} is to be handed on to the agents, but it is not set.")
    return value
