"""Which boot this is."""

from preflight_proxy.ledger.boot import boot_id


def test_a_boot_has_one_id() -> None:
    """The same whoever asks, as long as the machine runs; empty only where the system tells none."""
    assert boot_id() == boot_id()
    assert boot_id() == boot_id().strip()
