"""The answers of the management API, read without trust; what is done with them is in test_provision."""

from decimal import Decimal

from agent_preflight.openrouter.subkeys import key_in, path_of, used_usd
from tests.support.cases import each


def test_the_key_stands_beside_data() -> None:
    assert key_in({"key": "sk", "data": {"hash": "h"}}) == ("sk", "h")


@each("body", [None, [], "x", {}, {"data": []}, {"key": 5, "data": {"hash": 5}}])
def test_an_answer_of_another_form_has_no_key(body: object) -> None:
    assert key_in(body) == ("", "")


def test_a_hash_cannot_lead_to_another_path() -> None:
    assert path_of("../credits?x#y") == "/keys/..%2Fcredits%3Fx%23y"


def test_what_provider_keys_of_the_users_own_were_billed_counts_as_used() -> None:
    assert used_usd({"usage": Decimal("0.1"), "byok_usage": Decimal("0.25")}) == Decimal("0.35")
    assert used_usd({"usage": Decimal("0.1")}) == Decimal("0.1")


@each("entry", [{}, {"usage": None}, {"usage": 1, "byok_usage": "1"}, {"usage": True}])
def test_a_usage_that_cannot_be_read_whole_is_none(entry: dict[str, object]) -> None:
    assert used_usd(entry) is None
