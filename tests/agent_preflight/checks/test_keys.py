"""The key check in its bounds; what it does on the wire is in test_preflight."""

from agent_preflight.checks import keys
from agent_preflight.checks.inputs import Facts, Inputs


def test_it_may_spend_a_cent_at_most() -> None:
    assert str(keys.LIMIT_USD) == "0.01"


def test_whatever_goes_wrong_is_a_finding() -> None:
    inputs = Inputs("admin\nkey", "key", (), 1.0)
    (line,) = keys.check_key_smoke(inputs, Facts(inputs))
    assert line.ok is False
    assert line.failure.startswith("Key provisioning failed: ")
    assert "admin" not in line.failure
