"""A scenario from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from openrouter_sim.calls.scenario import FaultRule, Scenario
from openrouter_sim.faults import make_fault


def load_scenario(path: Path) -> Scenario:
    """Return the scenario of a TOML file.

    The keys are the attributes of `Scenario`. `[[replies]]` has those of `Rule`, with tables for `tool_calls`. `[[faults]]`
    has those of `FaultRule`, where `fault` is a name and the table `with` its parameters.

    Raises:
        ValueError: a name is unknown, a value has the wrong form, or the file is not TOML.
        OSError: the file cannot be read.
    """
    data = tomllib.loads(path.read_text("utf-8"))
    try:
        faults = tuple(_fault_rule(**row) for row in data.pop("faults", ()))
    except TypeError as exc:
        raise ValueError(f"{path}: {exc}") from exc
    return replace(msgspec.convert(data, Scenario), faults=faults)


def _fault_rule(fault: str, **values: Any) -> FaultRule:  # noqa: ANN401 - `FaultRule` has their types
    return FaultRule(make_fault(fault, values.pop("with", {})), **values)
