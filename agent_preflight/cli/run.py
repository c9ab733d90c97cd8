"""`agent-preflight run`: its options are those that `RunSettings` declares, and a few of the command's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from agent_preflight.base.config import variable
from agent_preflight.cli.group import complain
from agent_preflight.cli.options import complete_run_ids, read_flag
from agent_preflight.options import kinds
from agent_preflight.options.kinds import Option
from agent_preflight.options.settings import COMMAND_NETWORK, DEFAULTS, OPTIONS
from agent_preflight.options.text_files import FileError

INTERRUPTED = "Interrupted. No agent was started and nothing was spent."
OTHERWISE = {"network": COMMAND_NETWORK}
"""Defaults of the command line that are not those of `run_multi`."""


def run(
    config: Path | None,
    as_json: bool,
    **said: Any,  # noqa: ANN401 - what Typer makes of each option
) -> None:
    """Run agents, one for each model, in a live table.

    Everything may stand in a preflight.toml, see `agent-preflight init`; an option wins. Keys come from OR_ADMIN_KEY (or
    OPENROUTER_ADMIN_KEY) and OPENROUTER_API_KEY. The agent finds the proxy in OPENROUTER_BASE_URL, a token in
    OPENROUTER_API_KEY and its model in PREFLIGHT_MODEL.

    Example: agent-preflight run --image my-agent --model openai/gpt-4.1-nano --budget 0.05 -- --fast

    Example: agent-preflight run --resume run-20270131-120000
    """
    given = {name: _read(name, value) for name, value in said.items() if value not in (None, [])}
    if "resume" in given:
        if given.get("run_id") not in (None, given["resume"]):
            raise typer.BadParameter("--run-id and --resume name different runs")
        given |= {"run_id": given["resume"], "resume": True}
    elif "retry_failed" in given:
        raise typer.BadParameter("--retry-failed needs --resume RUN_ID, the run whose failed trials run again")
    try:
        code = _run(given, config, as_json)
    except KeyboardInterrupt as exc:
        if type(exc) is KeyboardInterrupt:  # no ToldInterrupt, whose module may not be there yet
            complain(INTERRUPTED)
        raise
    raise typer.Exit(code)


def _run(given: dict[str, Any], config: Path | None, as_json: bool) -> int:
    from agent_preflight.cli.signals import interruptible
    from agent_preflight.launch.run_command import NOTHING_SPENT, run_command
    from agent_preflight.preflight import PreflightError

    try:
        with interruptible():
            return run_command(given, config, as_json=as_json)
    except PreflightError as exc:
        complain(f"{exc.below_report}\n{NOTHING_SPENT}")
        return 1
    except FileError as exc:
        if exc.path in (*given.get("env_file", ()), given.get("prompt_file")):
            raise typer.BadParameter(str(exc)) from exc
        raise


def _read(name: str, value: Any) -> Any:  # noqa: ANN401 - as run_multi takes it
    """Return an option as `run_multi` takes it; what it cannot be is a usage error."""
    option = OPTIONS[name]
    flag = option.flags[0] if option.flags else "ARGUMENTS"
    given = value
    if option.kind in (kinds.ENV, kinds.SERVICES):
        given = dict(_pair(text, f"{flag} {option.kind.metavar}", option.kind is kinds.SERVICES) for text in value)
        value = {name: text or "" for name, text in given.items()}
        for unset in (each for each, text in given.items() if text is None and variable(each) is None):
            from agent_preflight.launch.run_command import NOTHING_SPENT

            raise typer.BadParameter(
                f"{flag} hands on the variable {unset[:80]!a}, but it is not set here. {NOTHING_SPENT}"
            )
    if value == "" and option.kind is not kinds.TEXT:
        raise typer.BadParameter(f"{flag} is {option.kind.form}, not ''.")
    read_flag(kinds.RUN_ID if name == "resume" else option.kind, value, flag)
    return given


def _pair(text: str, form: str, needs_value: bool) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not name or (needs_value and not equals):
        raise typer.BadParameter(f"give {form}, not {text[:80]!r}")
    return name, value if equals else None


def _parameters() -> Iterator[inspect.Parameter]:
    """What Typer is told: the agents' arguments, `--config`, each option that has a flag, `--json`."""
    told = "The agents' arguments; with --sandbox process the command line."
    arguments = typer.Argument(help=told, show_default=False, metavar="ARGUMENTS")
    yield _parameter("container_args", list[str] | None, arguments)
    told = "A preflight.toml or pyproject.toml. [default: the one in this folder]"
    config = typer.Option(help=told, show_default=False, metavar="FILE", exists=True, dir_okay=False, readable=True)
    yield _parameter("config", Path | None, config)
    for name, option in OPTIONS.items():
        if option.flags:
            kind = option.kind
            metavar = "RUN_ID" if name == "resume" else "|".join(kind.choices) or kind.metavar
            complete = complete_run_ids if name == "resume" else _completion(kind.choices)
            help_text = option.help + _default_text(name)
            info = _typer_option(help_text, *option.flags, metavar=metavar, complete=complete)
            yield _parameter(name, _type(name, option), info)
    as_json = _typer_option("One JSON object for each trial, at the end.", "--json")
    yield _parameter("as_json", bool, as_json, default=False)


def _parameter(name: str, kind: Any, info: object, default: object = None) -> inspect.Parameter:  # noqa: ANN401 - a type
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _completion(choices: tuple[str, ...]) -> Callable[..., list[str]] | None:
    return (lambda incomplete: [each for each in choices if each.startswith(incomplete)]) if choices else None


def _typer_option(
    help_text: str, *flags: str, metavar: str | None = None, complete: Callable[..., list[str]] | None = None
) -> object:
    return typer.Option(*flags, help=help_text, show_default=False, metavar=metavar, autocompletion=complete)


def _type(name: str, option: Option) -> Any:  # noqa: ANN401 - a type
    if option.kind is kinds.SWITCH and name != "resume":
        return bool | None
    return list[str] | None if option.kind.repeats else str | None


def _default_text(name: str) -> str:
    default = OTHERWISE.get(name, DEFAULTS[name])
    if default is True:
        return " [default: yes]"
    if default in (None, False, "", ()):
        return ""
    return f" [default: {default:g}]" if isinstance(default, float) else f" [default: {default}]"


run.__signature__ = inspect.Signature(list(_parameters()))  # type: ignore[attr-defined]  # what `inspect.signature` reads
