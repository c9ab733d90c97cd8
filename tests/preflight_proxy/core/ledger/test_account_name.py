"""Names of accounts, and which accounts a stand-alone proxy opens."""

from preflight_proxy.core.ledger.account_name import NAME_CHARS_MAX, is_account_name, is_kept
from preflight_proxy.core.ledger.rows import CLOSED, Account
from tests.support.cases import each


@each("name", ["a", "A", "0", "alice", "a.b-c_d", "a..b", "a" * NAME_CHARS_MAX])
def test_a_name_is_letters_digits_dots_dashes_and_underscores(name: str) -> None:
    assert is_account_name(name)


@each("name", ["", ".", "..", "../a", "a/b", ".a", "-a", "_a", "a b", "a\n", "\x1b[31ma", "a=1", "ä", "٣", "a" * 65])
def test_no_other_text_is_a_name(name: str) -> None:
    assert not is_account_name(name)


def test_an_account_is_kept_unless_it_is_a_runs_or_removed_or_has_no_name() -> None:
    assert is_kept(Account("a", "", 1))
    assert is_kept(Account("a", "", 1, frozen_reason="by hand"))
    assert not is_kept(Account("a", "", 1, frozen_reason=CLOSED))
    assert not is_kept(Account("a", "run", 1))
    assert not is_kept(Account("../a", "", 1))
