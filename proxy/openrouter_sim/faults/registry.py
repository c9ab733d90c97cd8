"""Finds faults by name, as a scenario file states them."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any

from openrouter_sim.calls.fault import Fault
from openrouter_sim.faults import charges, connections, encoding, refusals, streams, usage

_FILES = (charges, connections, encoding, refusals, streams, usage)

FAULTS: dict[str, type[Fault]] = {
    kind.name: kind
    for file in _FILES
    for kind in vars(file).values()
    if isinstance(kind, type) and issubclass(kind, Fault) and kind is not Fault
}
"""Every fault by its name."""


def make_fault(name: str, parameters: dict[str, Any] | None = None) -> Fault:
    """Return the named fault with these parameters. A number is accepted for a Decimal.

    Raises:
        ValueError: no fault has that name, or the fault has no such parameter.
    """
    if name not in FAULTS:
        raise ValueError(f"no fault is named {name!r}; there are {', '.join(sorted(FAULTS))}")
    kind = FAULTS[name]
    types = {field.name: field.type for field in fields(kind)}
    values = dict(parameters or {})
    if unknown := sorted(values.keys() - types.keys()):
        raise ValueError(f"fault {name} has no {', '.join(unknown)}")
    decimals = {key: Decimal(str(value)) for key, value in values.items() if types[key] == "Decimal"}
    return kind(**values | decimals)
