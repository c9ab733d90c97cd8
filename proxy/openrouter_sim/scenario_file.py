"""A scenario from a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from openrouter_sim.base.tokens import Tokenizer
from openrouter_sim.calls.scenario import FaultRule, Rule, Scenario, ToolCall
from openrouter_sim.faults import make_fault


def load_scenario(path: Path) -> Scenario:
    """Return the scenario of a TOML file.

    The keys are the attributes of `Scenario`. `[[replies]]` has those of `Rule`, with tables for `tool_calls`. `[[faults]]`
    has those of `FaultRule`, where `fault` is a name and the table `with` its parameters.

    Raises:
        ValueError: a name is unknown, a value has the wrong form, or the file is not TOML.
        OSError: the file cannot be read.
    """
    try:
        return _scenario(tomllib.loads(path.read_text("utf-8")))
    except TypeError as exc:
        raise ValueError(f"{path}: {exc}") from exc


def _scenario(data: dict[str, Any]) -> Scenario:
    values = _known(Scenario, data)
    values["replies"] = tuple(_rule(row) for row in data.get("replies", ()))
    values["faults"] = tuple(_fault_rule(row) for row in data.get("faults", ()))
    if "tokenizer" in data:
        values["tokenizer"] = Tokenizer(data["tokenizer"])
    return Scenario(**values)


def _rule(row: dict[str, Any]) -> Rule:
    values = _known(Rule, row)
    if isinstance(values.get("tokens"), list):
        values["tokens"] = (int(row["tokens"][0]), int(row["tokens"][1]))
    values["tool_calls"] = tuple(ToolCall(**_known(ToolCall, call)) for call in row.get("tool_calls", ()))
    return Rule(**values)


def _fault_rule(row: dict[str, Any]) -> FaultRule:
    values = dict(row)
    parameters = values.pop("with", {})
    fault = make_fault(values.pop("fault"), parameters)
    return FaultRule(fault=fault, **_known(FaultRule, values))


def _known(kind: type, row: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    if unknown := sorted(set(row) - names):
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}")
    return dict(row)
