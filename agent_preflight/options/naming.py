"""The models of a run and their aliases. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec
from msgspec.structs import replace

DEFAULT_ALIAS_CHARS = 16
ALIAS_CHARS_MAX = 64
RUN_ID_CHARS_MAX = 2 * ALIAS_CHARS_MAX
REPEATS_MAX = 1000
MODEL_ID_CHARS_MAX = 256
T = TypeVar("T")

FORM = "a list of model ids, 'ID=ALIAS' or pairs of id and alias"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_RUN_FILES = frozenset(
    {"lock", "plan.json", "ledger.sqlite3", "costs.jsonl", "proxy.log", "control.json", "swept.json"}
)
_MODEL_ID = re.compile(rf"[!-~]{{1,{MODEL_ID_CHARS_MAX}}}", re.ASCII)


class NamedModel(msgspec.Struct, frozen=True):
    """One agent of a run.

    Attributes:
        id: The model's id.
        alias: The trial's name; None if it is to be made from the id.
        budget_usd: Dollars for this agent; None for the budget of the run.
        arguments: Arguments of this agent; None for those of the run.
        base: The alias of the model, if the model is repeated; else empty.
        repeat: Which repeat of the model this is, from 1; 0 if it is not repeated.
    """

    id: str
    alias: str | None = None
    budget_usd: Decimal | None = None
    arguments: Sequence[str] | None = None
    base: str = ""
    repeat: int = 0


def read_models(models: object) -> tuple[NamedModel, ...]:
    """Return the models of a run, each with an alias.

    Args:
        models: A list of `"ID"`, `"ID=ALIAS"`, pairs of id and alias, or `NamedModel`.

    Raises:
        ValueError: It is something else, or an id or alias is not allowed. The text says which.
    """
    if isinstance(models, str | bytes) or not isinstance(models, Iterable):
        raise ValueError
    named = _with_aliases([_model(model) for model in models])
    for model in named:
        if not _MODEL_ID.fullmatch(model.id):
            raise ValueError(f"{model.id[:80]!a} cannot be a model's id, such as openai/gpt-4.1-nano")
        check_alias(str(model.alias))
    aliases = [str(model.alias) for model in named]
    if twice := {alias for alias in aliases if aliases.count(alias) > 1}:
        raise ValueError(f"each trial needs an alias of its own; given more than once: {', '.join(sorted(twice))}")
    return named


def repeated(models: Sequence[NamedModel], repeats: int) -> tuple[NamedModel, ...]:
    """Return an agent for each repeat of each model: the first of every model, then the second of every model.

    So the repeats of all models start at about the same times. With one repeat the models are returned as they are.

    Args:
        models: The models, each with an alias.
        repeats: How many agents each model has.

    Raises:
        ValueError: There are too many, or an alias with its number is too long or the alias of another model.
    """
    if repeats > REPEATS_MAX:
        raise ValueError(f"a model can be repeated {REPEATS_MAX} times at most")
    if repeats == 1:
        return tuple(models)
    agents = tuple(
        replace(model, alias=f"{model.alias}-{number}", base=str(model.alias), repeat=number)
        for number in range(1, repeats + 1)
        for model in models
    )
    bases = {str(model.alias) for model in models}
    for agent in agents:
        if agent.alias in bases:
            raise ValueError(
                f"{agent.alias} would name repeat {agent.repeat} of {agent.base}, and it is the alias of another model: "
                "give that model another alias"
            )
        check_alias(str(agent.alias))
    return agents


def of_agents(by_alias: Mapping[str, T], agents: Sequence[NamedModel]) -> dict[str, T]:
    """Return a mapping with an entry for each agent that has one: its own, else that of its model."""
    return {
        str(agent.alias): by_alias[name]
        for agent in agents
        for name in (agent.base, str(agent.alias))
        if name in by_alias
    }


def check_alias(alias: str) -> None:
    """Check a trial's name.

    Raises:
        ValueError: The name is not allowed. The text says why.
    """
    if not _NAME.fullmatch(alias) or len(alias) > ALIAS_CHARS_MAX or alias in _RUN_FILES:
        raise ValueError(
            f"{alias[:80]!a} cannot be an alias: it names a folder and a container, so it is at most {ALIAS_CHARS_MAX} "
            "letters, digits, '-', '_' and '.', and begins with a letter or digit"
        )


def check_run_id(run_id: str) -> str:
    """Return a run's id if it is allowed as the name of a folder.

    Raises:
        ValueError: It is not allowed.
    """
    if not _NAME.fullmatch(run_id) or len(run_id) > RUN_ID_CHARS_MAX:
        raise ValueError(
            f"{run_id[:80]!a} cannot be a run's id: it is at most {RUN_ID_CHARS_MAX} letters, digits, '-', '_' and '.', "
            "and begins with a letter or digit"
        )
    return run_id


def _model(model: object) -> NamedModel:
    if isinstance(model, NamedModel):
        return model
    if isinstance(model, str):
        model_id, equals, alias = model.partition("=")
        return NamedModel(model_id, alias if equals else None)
    if isinstance(model, Iterable) and len(pair := list(model)) == 2:
        return NamedModel(str(pair[0]), str(pair[1]))
    raise ValueError


def _with_aliases(models: Sequence[NamedModel]) -> tuple[NamedModel, ...]:
    """Give each model without an alias one that is made from its id. The second of one name ends in `-2`."""
    taken = {model.alias for model in models if model.alias is not None}
    named = []
    for model in models:
        alias = _free_alias(default_alias(model.id), taken) if model.alias is None else model.alias
        taken.add(alias)
        named.append(replace(model, alias=alias))
    return tuple(named)


def _free_alias(wanted: str, taken: set[str]) -> str:
    alias, number = wanted, 1
    while alias in taken:
        number += 1
        ending = f"-{number}"
        alias = wanted[: DEFAULT_ALIAS_CHARS - len(ending)].rstrip("-_") + ending
    return alias


def default_alias(model_id: str) -> str:
    """Return a short name for a model: the last part of its id, without what a folder or a container cannot have in its name."""
    last = model_id.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9_-]", "-", last)[:DEFAULT_ALIAS_CHARS].strip("-_") or "model"
