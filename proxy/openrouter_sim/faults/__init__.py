"""What can go wrong: calls that are refused, answers that fail, charges that differ. Each fault has a name for scenarios."""

from __future__ import annotations

from typing import Any

import msgspec

from openrouter_sim.calls.scenario import Fault, fault_name
from openrouter_sim.faults import answers, charges, refusals

FAULTS: dict[str, type[Fault]] = {
    fault_name(kind): kind
    for file in (answers, charges, refusals)
    for kind in vars(file).values()
    if isinstance(kind, type) and issubclass(kind, Fault) and kind is not Fault
}
"""Every fault by its name."""


def make_fault(name: str, parameters: dict[str, Any] | None = None) -> Fault:
    """Return the named fault with these parameters. A number is accepted for a Decimal.

    Raises:
        ValueError: no fault has that name, or the fault has no such parameter, or it is of another type.
    """
    if name not in FAULTS:
        raise ValueError(f"no fault is named {name!r}; there are {', '.join(sorted(FAULTS))}")
    return msgspec.convert(parameters or {}, FAULTS[name])
