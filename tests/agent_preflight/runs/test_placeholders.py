"""The names of a trial in its mounts and arguments: three of them, and every other text as it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.runs.placeholders import Names
from tests.support.cases import each

NAMES = Names("nano", "openai/gpt-4.1-nano:free", "run-1")


def test_the_three_names_are_replaced_in_an_argument() -> None:
    assert NAMES.in_argument("{alias} {model} {run_id} {alias}") == "nano openai/gpt-4.1-nano:free run-1 nano"


@each(
    "text",
    [
        *('{"alias": "x"}', "{ alias }", "{Alias}", "{aliases}", "{}", "{{", "}", "{alias", "alias}", "%(alias)s"),
        *("{0}", "{alias!r}", "{alias:>9}", "{model.id}", '{"model": {"run": 1}}', "${run}", "\\{", "{run-id}"),
    ],
)
def test_any_other_text_in_braces_stays_as_it_is(text: str) -> None:
    assert NAMES.in_argument(text) == text
    assert NAMES.in_mount(text) == text


@given(st.text().filter(lambda text: not any(name in text for name in ("{alias}", "{model}", "{run_id}"))))
def test_a_text_without_them_stays_byte_for_byte(text: str) -> None:
    assert (NAMES.in_argument(text), NAMES.in_mount(text)) == (text, text)


def test_what_a_name_holds_is_not_replaced_again() -> None:
    assert Names("{model}", "m", "r").in_argument("{alias}") == "{model}"


def test_of_a_mount_only_the_source_is_replaced_and_a_models_id_is_one_folder() -> None:
    assert (
        NAMES.in_mount("./out/{alias}/{model}:/out/{alias}:rw") == "./out/nano/openai-gpt-4.1-nano-free:/out/{alias}:rw"
    )
