"""What the command `run` does: its options and the environment become a request, the run is shown while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_preflight.config import Environment
from agent_preflight.console import say
from agent_preflight.runner.api import run_multi
from agent_preflight.runner.arguments import request_of, with_defaults
from agent_preflight.runner.exit_code import exit_code
from agent_preflight.runner.loop import run_blocking
from agent_preflight.runner.plan import default_alias
from agent_preflight.runner.run import run_field
from agent_preflight.table import files_line, print_table, run_view
from preflight_proxy.errors import ConfigError


def run_command(models: Sequence[str], arguments: Sequence[str], given: Mapping[str, Any]) -> int:
    """Run a field of agents, show it, and return the exit code.

    Args:
        models: `ID` or `ID=ALIAS` each; PREFLIGHT_MODELS if there are none.
        arguments: The agents' arguments; their command line for processes.
        given: Keyword arguments of `run_multi`; a budget of None is taken from the environment.

    Raises:
        ConfigError: A key or the models are missing, or an option cannot be carried out.
        PreflightError: A check failed.
        KeyboardInterrupt: Ctrl-C; everything has been ended.
    """
    view = run_view()
    options = _with_environment(models, given, Environment.read())
    options["command" if given["sandbox"] == "process" else "container_args"] = list(arguments)
    request = request_of(with_defaults(run_multi, {**options, "log_fn": view.say}))

    with view:
        finished = run_blocking(lambda stop: run_field(request, stop, view.board))
    print_table(view.board.rows())
    say(files_line(finished.run_dir))
    return exit_code(finished.results)


def _with_environment(models: Sequence[str], given: Mapping[str, Any], environment: Environment) -> dict[str, Any]:
    if environment.admin_key is None:
        raise ConfigError("Set OR_ADMIN_KEY or OPENROUTER_ADMIN_KEY to a management key of OpenRouter.")
    if environment.api_key is None and not given["skip_preflight"]:
        raise ConfigError("Set OPENROUTER_API_KEY to an inference key of OpenRouter, or use --skip-preflight.")
    wanted = models or environment.models
    if not wanted:
        raise ConfigError("Name a model with --model, or set PREFLIGHT_MODELS.")
    return {
        **given,
        "models": [_pair(model) for model in wanted],
        "admin_key": environment.admin_key.reveal(),
        "or_key": environment.api_key.reveal() if environment.api_key is not None else "",
        "budget_usd": given["budget_usd"] if given["budget_usd"] is not None else environment.budget_usd(),
    }


def _pair(text: str) -> tuple[str, str]:
    model, equals, alias = text.partition("=")
    return model, alias if equals else default_alias(model)
