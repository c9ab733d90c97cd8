"""Commands that run agents: `run`, whose options are mostly those that `RunSettings` declares, and `demo`."""

from __future__ import annotations

import contextlib
import inspect
import signal
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from agent_preflight.base.config import variable
from agent_preflight.cli.shared import RunsDir, argument, complain, complete_run_ids, emit_json, option, read_flag
from agent_preflight.options import kinds
from agent_preflight.options.kinds import Option, OptionKind
from agent_preflight.options.settings import COMMAND_NETWORK, DEFAULTS, OPTIONS
from agent_preflight.options.text_files import FileError

INTERRUPTED = "Interrupted. No agent was started and nothing was spent."
OTHER_DEFAULTS = {"network": COMMAND_NETWORK}
"""Defaults of the command line that are not those of `run_multi`."""


def run(
    *,
    container_args: Annotated[
        list[str] | None, argument("ARGUMENTS", "The agents' arguments; with --sandbox process the command line.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A preflight.toml or pyproject.toml. [default: the one in this folder]",
            show_default=False,
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each trial, at the end.")] = False,
    **values: Any,  # noqa: ANN401 - what Typer makes of each option
) -> None:
    """Run agents, one for each model, in a live table.

    Everything may stand in a preflight.toml, see `agent-preflight init`; an option wins. Keys come from OR_ADMIN_KEY (or
    OPENROUTER_ADMIN_KEY) and OPENROUTER_API_KEY. The agent finds the proxy in OPENROUTER_BASE_URL, a token in
    OPENROUTER_API_KEY and its model in PREFLIGHT_MODEL.

    Example: agent-preflight run --image my-agent --model openai/gpt-4.1-nano --budget 0.05 -- --fast

    Example: agent-preflight run --resume run-20270131-120000
    """
    values["container_args"] = container_args
    request = {name: _read(name, value) for name, value in values.items() if value not in (None, [])}
    if "resume" in request:
        if request.get("run_id") not in (None, request["resume"]):
            raise typer.BadParameter("--run-id and --resume name different runs")
        request |= {"run_id": request["resume"], "resume": True}
    elif "retry_failed" in request:
        raise typer.BadParameter("--retry-failed needs --resume RUN_ID, the run whose failed trials run again")
    try:
        code = _run(request, config, as_json)
    except KeyboardInterrupt as exc:
        if type(exc) is KeyboardInterrupt:  # not a ToldInterrupt, whose module may not be loaded yet
            complain(INTERRUPTED)
        raise
    raise typer.Exit(code)


def _run(request: dict[str, Any], config: Path | None, as_json: bool) -> int:
    from agent_preflight.launch.run_command import NOTHING_SPENT, run_command
    from agent_preflight.preflight import PreflightError

    try:
        with interruptible():
            return run_command(request, config, as_json=as_json)
    except PreflightError as exc:
        complain(f"{exc.below_report}\n{NOTHING_SPENT}")
        return 1
    except FileError as exc:
        if exc.path in (*request.get("env_file", ()), request.get("prompt_file")):
            raise typer.BadParameter(str(exc)) from exc
        raise


def _kind(name: str) -> OptionKind:
    """Return how the command line writes an option. `--resume` takes the run's id there."""
    return kinds.RUN_ID if name == "resume" else OPTIONS[name].kind


def _read(name: str, value: Any) -> Any:  # noqa: ANN401 - as run_multi takes it
    """Return an option as `run_multi` takes it.

    Raises:
        BadParameter: The value is wrong.
    """
    kind, flag = _kind(name), next(iter(OPTIONS[name].flags), "ARGUMENTS")
    pairs: dict[str, str | None] | None = None
    if kind in (kinds.ENV, kinds.SERVICES, kinds.TAGS):
        pairs = dict(_pair(text, f"{flag} {kind.metavar}", kind is not kinds.ENV) for text in value)
        for unset in (each for each, text in pairs.items() if text is None and variable(each) is None):
            from agent_preflight.launch.run_command import NOTHING_SPENT

            raise typer.BadParameter(
                f"{flag} hands on the variable {unset[:80]!a}, but it is not set here. {NOTHING_SPENT}"
            )
    if value == "" and kind is not kinds.TEXT:
        raise typer.BadParameter(f"{flag} is {kind.form}, not ''.")
    read_flag(kind, value if pairs is None else {each: text or "" for each, text in pairs.items()}, flag)
    return value if pairs is None else pairs


def _pair(text: str, form: str, needs_value: bool) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not name or (needs_value and not equals):
        raise typer.BadParameter(f"give {form}, not {text[:80]!r}")
    return name, value if equals else None


def _signature() -> inspect.Signature:
    """Return what Typer reads: the parameters of `run`, with an option for each field of `RunSettings` that has a flag."""
    own = inspect.signature(run, eval_str=True).parameters
    fields = [_parameter(name, option) for name, option in OPTIONS.items() if option.flags]
    return inspect.Signature([own["container_args"], own["config"], *fields, own["as_json"]])


def _parameter(name: str, option: Option) -> inspect.Parameter:
    kind = _kind(name)

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        if name == "resume":
            return complete_run_ids(ctx, incomplete)
        return [choice for choice in kind.choices if choice.startswith(incomplete)]

    info = typer.Option(
        *option.flags,
        metavar="|".join(kind.choices) or kind.metavar,
        help=option.help + _default_text(name),
        show_default=False,
        autocompletion=complete,
    )
    of_typer: Any = bool if kind is kinds.SWITCH else list[str] if kind.repeats else str
    annotation = Annotated[of_typer | None, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _default_text(name: str) -> str:
    default = OTHER_DEFAULTS.get(name, DEFAULTS[name])
    if default is True:
        return " [default: yes]"
    if default in (None, False, "", ()):
        return ""
    return f" [default: {default:g}]" if isinstance(default, float) else f" [default: {default}]"


run.__signature__ = _signature()  # type: ignore[attr-defined]  # what `inspect.signature` reads


class DemoSandbox(StrEnum):
    """Where the demo's agents run. It is no `Literal`, which Typer reads only from 0.19 on."""

    AUTO = "auto"
    DOCKER = "docker"
    PROCESS = "process"


def demo(
    sandbox: Annotated[
        DemoSandbox, typer.Option(help="What agents run in; auto: containers where they work.")
    ] = DemoSandbox.AUTO,
    base: Annotated[
        str | None,
        option("IMAGE", "An image with Python to build on.  [default: PREFLIGHT_DEMO_BASE, or python:3.12-slim]"),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="The two sums as one JSON object.")] = False,
) -> None:
    """Run four agents offline, each under a budget.

    Each has $0.25 to spend at a simulated OpenRouter. At the end our ledger is compared with the simulator's bill.
    Needs no account, no money and no Docker; pulls no image. Exits with 0 only if ledger and bill agree.

    Example: agent-preflight demo --sandbox process
    """
    from agent_preflight.launch.demo import run_demo

    shown = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    sums: list[Mapping[str, Any]] = []
    with interruptible(), shown:
        code = run_demo(sandbox.value, base, runs_dir, compared=sums.append)
    for each in sums if as_json else ():
        emit_json(each)
    raise typer.Exit(code)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP as Ctrl-C while the context lasts: every trial is ended in order.

    A signal that is ignored stays so: `nohup` has SIGHUP ignored. If SIGINT is ignored, as a shell does for what a script starts
    with `&`, the two signals interrupt all the same.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    handled = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, previous[number])
