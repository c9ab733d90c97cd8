"""Commands for the time before a run: `preflight` checks, `estimate` counts the calls that fit, `init` writes a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_preflight.base.config import Environment
from agent_preflight.base.console import say
from agent_preflight.base.tables import show
from agent_preflight.base.usd import pusd
from agent_preflight.cli.shared import complain, emit_json, option, read_flag
from agent_preflight.options.settings import OPTIONS, RunSettings, read_settings
from preflight_proxy.core.errors import ConfigError

if TYPE_CHECKING:
    from agent_preflight.estimates.calls_that_fit import Estimate

OF_ESTIMATE = ("models", "budget_usd", "expect_tokens", "byok", "bound", "openrouter_base_url")
"""The options of a run that an estimate depends on."""


def preflight(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each finding.")] = False,
) -> None:
    """Check money, models, keys and caching before a run.

    Reads OR_ADMIN_KEY (or OPENROUTER_ADMIN_KEY), OPENROUTER_API_KEY, PREFLIGHT_MODELS (ids, separated by commas) and
    PREFLIGHT_BUDGET (dollars per model, 0.25 if unset). Exits with 0 if all checks passed, with 1 otherwise.

    Example: PREFLIGHT_MODELS=openai/gpt-4.1-nano agent-preflight preflight
    """
    from agent_preflight.preflight import PreflightError
    from agent_preflight.preflight import preflight as check

    admin_key, api_key, models, budget_usd = Environment.read().preflight_inputs()
    if as_json:
        from agent_preflight.checks.inputs import Inputs, unique
        from agent_preflight.checks.suite import checked_lines
        from agent_preflight.runner.api import run_container

        keys, chosen = (admin_key.reveal(), api_key.reveal()), unique(models)
        inputs = Inputs(*keys, chosen, float(budget_usd), log_fn=complain, run_trial=run_container)
        ok = True
        for line in checked_lines(inputs):
            emit_json(line.to_json())
            ok &= line.ok is not False
        raise typer.Exit(0 if ok else 1)
    try:
        check(admin_key.reveal(), api_key.reveal(), list(models), float(budget_usd))
    except PreflightError as exc:
        complain(exc.below_report)
        raise typer.Exit(1) from exc


def estimate(
    model: Annotated[list[str] | None, option("ID", "A model, may be repeated.  [default: those of a run]")] = None,
    budget: Annotated[str | None, option("USD", "Dollars for each model.  [default: those of a run]")] = None,
    expect_tokens: Annotated[str | None, option("N", "Tokens of a call's prompt.  [default: 20000]")] = None,
    max_tokens: Annotated[
        str | None,
        option("N", "The max_tokens that a call asks for.  [default: none, so the most that the model makes]"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A preflight.toml or pyproject.toml.  [default: the one in this folder]"),
    ] = None,
    bound: Annotated[
        str | None, option("NAME", "How prompts are counted: measured or proven.  [default: that of a run]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each model.")] = False,
) -> None:
    """Say how many calls each budget affords; spends nothing.

    Models and budgets are those of `run`: an option wins over a variable, that over preflight.toml. Reads the public prices; a
    key is not needed. Exits with 1 if a budget affords no call.

    Example: agent-preflight estimate --model openai/gpt-4.1-nano --budget 0.25 --max-tokens 4096
    """
    from agent_preflight.estimates.calls_that_fit import EXPECT_TOKENS
    from agent_preflight.estimates.report import report
    from agent_preflight.openrouter.reachable import trouble

    environment = Environment.read()
    values = {"models": model, "budget_usd": budget, "expect_tokens": expect_tokens, "bound": bound}
    values = {name: _read(name, value) for name, value in values.items() if value not in (None, [])}
    settings = _settings(values, environment, config)
    tokens = EXPECT_TOKENS if settings.expect_tokens is None else settings.expect_tokens
    asked = None if max_tokens is None else _read("expect_tokens", max_tokens, "--max-tokens")
    estimates = _estimates(settings, environment, tokens, asked)
    if as_json:
        for row in estimates:
            emit_json(row.to_json())
    elif all(row.why_unread for row in estimates):
        reasons = "; ".join(dict.fromkeys(row.why_unread for row in estimates))
        cause = trouble(environment.api_key, settings.openrouter_base_url)
        complain(cause or f"Nothing was estimated: {reasons}")
    else:
        show(*report(estimates, tokens, settings.bound))
    raise typer.Exit(0 if all(row.calls for row in estimates) else 1)


def _read(name: str, value: object, flag: str | None = None) -> Any:  # noqa: ANN401 - the option's type
    option = OPTIONS[name]
    return read_flag(option.kind, value, flag or option.flags[0])


def _settings(values: Mapping[str, Any], environment: Environment, config: Path | None) -> RunSettings:
    """Return what a run would have, without the keys that it needs."""
    from agent_preflight.options.config_file import load_config
    from agent_preflight.options.sources import merged, of_environment

    file, _ = load_config(config, Path.cwd())
    sources = merged(values, of_environment(environment), file)
    if "models" not in sources:
        raise ConfigError("Name a model with --model, in PREFLIGHT_MODELS, or under `models` in preflight.toml.")
    return read_settings({name: sources[name] for name in OF_ESTIMATE if name in sources})


def _estimates(settings: RunSettings, environment: Environment, tokens: int, asked: int | None) -> list[Estimate]:
    """Return an estimate for each model and budget. A pair that occurs twice is estimated once."""
    from agent_preflight.estimates.price_list import read_estimate

    key, base_url, budgets = environment.api_key, settings.openrouter_base_url, settings.budget_usd
    pairs = [
        (model, pusd(budgets[alias] if isinstance(budgets, Mapping) else budgets)) for model, alias in settings.pairs
    ]
    return [
        read_estimate(
            model,
            budget_pusd,
            key,
            base_url,
            expect_tokens=tokens,
            max_tokens=asked,
            byok=settings.byok,
            bound=settings.bound,
        )
        for model, budget_pusd in dict.fromkeys(pairs)
    ]


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path("preflight.toml"),
) -> None:
    """Write a commented preflight.toml for `agent-preflight run`.

    Nothing is ever overwritten: if the file is there, it stays as it is and the exit code is 1.

    Example: agent-preflight init && agent-preflight run
    """
    from importlib.resources import files

    example = files("agent_preflight.options") / "example.toml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(example.read_text("utf-8"))
    except OSError as exc:
        exists = isinstance(exc, FileExistsError)
        complain(
            f"{path} is there already; it stays as it is." if exists else f"{path} cannot be written: {exc.strerror}."
        )
        raise typer.Exit(1) from None
    say(f"Wrote {path}: set the models and the image, then `agent-preflight run`.")
