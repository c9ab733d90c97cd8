"""The exact configuration of a run, to do it again: the text of a preflight.toml, and the command. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import msgspec

from agent_preflight.options.settings import DEFAULTS, KEYS
from agent_preflight.runs.plan_file import by_alias, is_in_clear
from agent_preflight.runs.plan_options import plan_options
from preflight_proxy.core.errors import ConfigError

COMMAND = "agent-preflight run --config preflight.toml"
OF_A_MODEL = ("models", "budget_usd", "command", "container_args")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Rerun(msgspec.Struct, frozen=True):
    """How to do a run again.

    Attributes:
        command: For a shell, where `toml` is the content of preflight.toml; empty if there is no plan that can be read.
        toml: The options that are not at their defaults.
        notes: What the file does not hold, and what a person must do.
    """

    command: str
    toml: str
    notes: tuple[str, ...] = ()


def rerun_of(plan: Mapping[str, Any]) -> Rerun:
    """Return how to do a run again, from its plan.json."""
    trials = by_alias(plan)
    if not trials:
        return Rerun("", "", ("The run has no plan that can be read.",))
    clear = plan
    if not is_in_clear(plan):
        clear = {**plan, "prompt": None, "trials": [{**trial, "command": []} for trial in trials.values()]}
    try:
        options = plan_options(clear)
    except ConfigError as exc:
        return Rerun("", "", (str(exc),))
    return Rerun(COMMAND, "".join(f"{line}\n" for line in _lines(clear, options)), tuple(_notes(plan)))


def _lines(plan: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the file's lines: the models with what is their own, then the other options that are not at their defaults."""
    first = {str(trial.get("base") or alias): trial for alias, trial in reversed(by_alias(plan).items())}
    commands = {base: _with_places(trial) for base, trial in reversed(first.items())}
    budgets = {base: str(first[base]["budget_usd"]) for base in commands}
    same_budget, same_command = len(set(budgets.values())) == 1, len(set(commands.values())) == 1
    is_process = plan.get("sandbox") == "process"
    alike = takewhile(lambda texts: len(set(texts)) == 1, zip(*commands.values(), strict=False))
    common = [texts[0] for texts in alike] if is_process or same_command else []
    yield "models = ["
    for base, command in commands.items():
        own: dict[str, Any] = {} if same_budget else {"budget": budgets[base]}
        own |= {} if same_command else {"arguments": list(command[len(common) :])}
        yield f"    {_toml({'id': first[base].get('model_id'), 'alias': base, **own})},"
    yield "]"
    if same_budget:
        yield f"budget = {_toml(next(iter(budgets.values())))}"
    if common:
        yield f"{'command' if is_process else 'arguments'} = {_toml(common)}"
    if names := plan.get("env_names"):
        yield f"pass_env = {_toml(names)}"
    for key, name in KEYS.items():
        if name in options and name not in OF_A_MODEL and (options[name] != DEFAULTS[name] or name == "network"):
            yield f"{key} = {_toml(options[name])}"


def _with_places(trial: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a trial's arguments; those of a repeat with `{alias}` where its own alias stands."""
    alias = str(trial["alias"]) if trial.get("repeat") else ""
    return tuple(str(text).replace(alias, "{alias}") if alias else str(text) for text in trial.get("command") or ())


def _toml(value: object) -> str:
    """Return a value in TOML, in one line."""
    if isinstance(value, Mapping):
        pairs = (f"{name if _BARE.fullmatch(name) else _toml(name)} = {_toml(each)}" for name, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_toml, value))}]"
    # A JSON text is one of TOML too, but for this character, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _notes(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the file does not hold."""
    origin = plan.get("origin")
    origin = origin if isinstance(origin, Mapping) else {}
    if not is_in_clear(plan):
        yield (
            "The prompt and the arguments are too long for the plan, which has their digests only (prompt "
            f"{plan.get('prompt')}): give those of the run."
        )
    if functions := origin.get("functions"):
        yield f"A script gave {', '.join(map(str, functions))}, which no file can keep: run it again from the script."
    if origin.get("config"):
        yield f"Policies and checks are not in the plan: copy them from {origin['config']}, if it has some."
    if names := plan.get("env_names"):
        yield f"Values of variables are not kept: set {', '.join(map(str, names))} in the environment first."
