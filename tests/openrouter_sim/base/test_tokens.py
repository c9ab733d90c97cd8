"""Each counter counts as its tokenizer does, or as text of its kind can be counted at most."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_sim import Scenario
from openrouter_sim.base import tokens
from openrouter_sim.base.tokens import Tokenizer, count
from openrouter_sim.scenario_file import load_scenario
from tests.support.cases import each


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_usual_and_real_text_have_never_more_tokens_than_bytes(text: str) -> None:
    assert count(text) <= len(text.encode())
    assert count(text, Tokenizer.O200K) <= len(text.encode())


def test_four_ascii_characters_are_a_token_and_others_cost_more() -> None:
    assert count("") == 0
    assert count("abcd") == 1
    assert count("abcde") == 2
    assert count("abcdé") == 2


def test_the_nfc_form_can_have_more_tokens_than_the_text_has_bytes() -> None:
    assert count("\U0001d160", Tokenizer.BYTES) == 4
    assert count("\U0001d160", Tokenizer.NFC) == 12


@each(
    "text, number",
    [
        ("", 0),
        ("hello world", 2),
        ("tiktoken is great!", 6),
        ("antidisestablishmentarianism", 6),
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 8),
        ("<|endoftext|>", 7),
        ("a\ud800b", 3),
    ],
)
def test_the_real_counter_is_that_of_the_gpt_family(text: str, number: int) -> None:
    """The figures are tiktoken's for o200k_base; four are in OpenAI's cookbook, "How to count tokens with tiktoken"."""
    assert count(text, Tokenizer.O200K, "Claude") == number
    assert count(text, Tokenizer.REALISTIC, "GPT") == number


@each(
    "family, text, number",
    [
        ("Claude", "ab", 4),
        ("Claude", "ab é", 8),
        ("Claude 4.7", "abcdefghij", 17),
        ("GPT", "ab é", 5),
        ("Other", "ab", 2),
        ("Claude", "", 0),
    ],
)
def test_dense_text_has_a_token_a_byte_and_more_for_claude(family: str, text: str, number: int) -> None:
    assert count(text, Tokenizer.DENSE, family) == number


def test_without_the_package_a_scenario_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rs_bpe.bpe", None)
    monkeypatch.setattr(tokens, "_o200k", tokens._o200k.__wrapped__)
    file = tmp_path / "scenario.toml"
    for name in ("o200k", "realistic"):
        file.write_text(f'tokenizer = "{name}"')
        with pytest.raises(ValueError, match=r"rs-bpe, which is not installed\. Run"):
            load_scenario(file)
    assert Scenario(tokenizer=Tokenizer.DENSE).tokenizer is Tokenizer.DENSE
