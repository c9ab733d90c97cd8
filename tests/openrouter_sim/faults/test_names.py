"""Faults by name."""

from decimal import Decimal

import pytest

from openrouter_sim import FAULTS, make_fault
from openrouter_sim.faults.charges import WrongBound


def test_a_fault_is_made_by_name_with_exact_parameters() -> None:
    assert make_fault("wrong_bound", {"factor": 1.5}) == WrongBound(factor=Decimal("1.5"))
    assert all(make_fault(name).name == name for name in FAULTS)
    assert len(FAULTS) > 25


@pytest.mark.parametrize(("name", "parameters"), [("nope", {}), ("reset", {"x": 1})])
def test_what_is_unknown_is_an_error(name: str, parameters: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        make_fault(name, parameters)
