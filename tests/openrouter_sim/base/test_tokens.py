"""Counts keep within what byte-level tokenizers can do."""

from hypothesis import given
from hypothesis import strategies as st

from openrouter_sim.base.tokens import Tokenizer, count


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_usual_text_has_never_more_tokens_than_bytes(text: str) -> None:
    assert count(text) <= len(text.encode())


def test_four_ascii_characters_are_a_token_and_others_cost_more() -> None:
    assert count("") == 0
    assert count("abcd") == 1
    assert count("abcde") == 2
    assert count("abcdé") == 2


def test_the_nfc_form_can_have_more_tokens_than_the_text_has_bytes() -> None:
    assert count("\U0001d160", Tokenizer.BYTES) == 4
    assert count("\U0001d160", Tokenizer.NFC) == 12
