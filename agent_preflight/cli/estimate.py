"""`agent-preflight estimate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_preflight.cli.group import complain, emit_json
from agent_preflight.cli.options import read_flag

if TYPE_CHECKING:
    from agent_preflight.estimates.calls_that_fit import Estimate
    from agent_preflight.options.settings import RunSettings


def estimate(
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A model, may be repeated.  [default: those of a run]", show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="USD", help="Dollars for each model.  [default: those of a run]", show_default=False),
    ] = None,
    expect_tokens: Annotated[
        str | None,
        typer.Option(metavar="N", help="Tokens of a call's prompt.  [default: 20000]", show_default=False),
    ] = None,
    max_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="The max_tokens that a call asks for.  [default: none, so the most that the model makes]",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A preflight.toml or pyproject.toml.  [default: the one in this folder]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each model.")] = False,
) -> None:
    """Say how many calls each budget affords; spends nothing.

    Models and budgets are those of `run`: an option wins over a variable, that over preflight.toml. Reads the public prices; a
    key is not needed. Exits with 1 if a budget affords no call.

    Example: agent-preflight estimate --model openai/gpt-4.1-nano --budget 0.25 --max-tokens 4096
    """
    from agent_preflight.base.tables import show
    from agent_preflight.estimates.calls_that_fit import EXPECT_TOKENS
    from agent_preflight.estimates.report import report

    settings = _settings({"models": model, "budget_usd": budget, "expect_tokens": expect_tokens}, config)
    tokens = EXPECT_TOKENS if settings.expect_tokens is None else settings.expect_tokens
    bound = None if max_tokens is None else _read("expect_tokens", max_tokens, "--max-tokens")
    estimates = _estimates(settings, tokens, bound)
    if as_json:
        for each in estimates:
            emit_json(json.dumps(each.to_json()))
    elif all(each.why_unread for each in estimates):
        reasons = "; ".join(dict.fromkeys(each.why_unread for each in estimates))
        complain(_unreachable(settings) or f"Nothing was estimated: {reasons}")
    else:
        show(*report(estimates, tokens))
    raise typer.Exit(0 if all(each.calls for each in estimates) else 1)


def _settings(given: dict[str, Any], config: Path | None) -> RunSettings:
    """Return what a run would have; the keys that it needs are not asked for."""
    from agent_preflight.base.config import Environment
    from agent_preflight.options.config_file import load_config
    from agent_preflight.options.settings import read_settings
    from agent_preflight.options.sources import merged, of_environment
    from preflight_proxy.core.errors import ConfigError

    given = {name: _read(name, value) for name, value in given.items() if value not in (None, [])}
    file, _ = load_config(config, Path.cwd())
    said = merged(given, of_environment(Environment.read()), file)
    if "models" not in said:
        raise ConfigError("Name a model with --model, in PREFLIGHT_MODELS, or under `models` in preflight.toml.")
    wanted = ("models", "budget_usd", "expect_tokens", "byok", "openrouter_base_url")
    return read_settings({name: said[name] for name in wanted if name in said})


def _read(name: str, value: object, flag: str | None = None) -> Any:  # noqa: ANN401 - whatever the option is
    from agent_preflight.options.settings import OPTIONS

    option = OPTIONS[name]
    return read_flag(option.kind, value, flag or option.flags[0])


def _unreachable(settings: RunSettings) -> str:
    from agent_preflight.base.config import Environment
    from agent_preflight.openrouter.reachable import trouble

    return trouble(Environment.read().api_key, settings.openrouter_base_url)


def _estimates(settings: RunSettings, tokens: int, bound: int | None) -> list[Estimate]:
    """Read the prices of each model, and estimate it for each of its budgets."""
    from agent_preflight.base.config import Environment
    from agent_preflight.base.usd import pusd
    from agent_preflight.estimates.price_list import read_estimate

    key, base_url, budgets = Environment.read().api_key, settings.openrouter_base_url, settings.budget_usd
    pairs = [
        (model, pusd(budgets[alias] if isinstance(budgets, Mapping) else budgets)) for model, alias in settings.pairs
    ]
    return [
        read_estimate(model, budget, key, base_url, expect_tokens=tokens, max_tokens=bound, byok=settings.byok)
        for model, budget in dict.fromkeys(pairs)
    ]
