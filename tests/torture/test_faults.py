"""The sets of faults of a torture run."""

import pytest

from tests.torture.faults import lawful, lawless


def test_the_rates_add_up_and_lawless_has_more() -> None:
    assert sum(rule.probability for rule in lawful(0.1).faults) == pytest.approx(0.1)
    assert sum(rule.probability for rule in lawless(0.1).faults) == pytest.approx(0.1)
    assert {"wrong_bound", "late_charge"} <= {rule.fault.name for rule in lawless(0.1).faults}
    assert not {"wrong_bound", "late_charge", "price_rise"} & {rule.fault.name for rule in lawful(0.1).faults}
