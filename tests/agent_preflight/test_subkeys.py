"""The answers of the management API, read without trust; what is done with them is in test_provision."""

from agent_preflight.subkeys import key_in, path_of
from tests.cases import each


def test_the_key_stands_beside_data() -> None:
    assert key_in({"key": "sk", "data": {"hash": "h"}}) == ("sk", "h")


@each("body", [None, [], "x", {}, {"data": []}, {"key": 5, "data": {"hash": 5}}])
def test_an_answer_of_another_form_has_no_key(body: object) -> None:
    assert key_in(body) == ("", "")


def test_a_hash_cannot_lead_to_another_path() -> None:
    assert path_of("../credits?x#y") == "/keys/..%2Fcredits%3Fx%23y"
