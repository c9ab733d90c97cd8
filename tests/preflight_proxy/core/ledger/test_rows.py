"""What is derived of an account's row."""

from msgspec.structs import replace

from preflight_proxy.core.ledger.rows import USAGE_UNREAD, Account

ACCOUNT = Account("a", "run", 1000, posted_pusd=300, pending_pusd=200)


def test_available_is_what_neither_bill_nor_reservation_holds() -> None:
    """It goes below zero after an overrun or a cut limit."""
    assert ACCOUNT.available_pusd == 500
    assert replace(ACCOUNT, limit_pusd=400).available_pusd == -100


def test_an_account_is_frozen_by_a_person_or_by_a_usage_that_was_not_read() -> None:
    """The person's reason is the one that is told: it does not end by itself."""
    assert ACCOUNT.frozen is None
    assert replace(ACCOUNT, usage_unread=True).frozen == USAGE_UNREAD
    assert replace(ACCOUNT, usage_unread=True, frozen_reason="by hand").frozen == "by hand"
