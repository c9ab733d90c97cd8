"""A key cannot be printed, formatted, encoded or pickled by accident."""

import copy
import dataclasses
import json
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.secret import Secret
from tests.support.cases import each

KEY = "sk-or-v1-0123456789abcdef"


@each("shown", [repr(Secret(KEY)), str(Secret(KEY)), f"{Secret(KEY)}", f"{Secret(KEY):>60}", "%s" % Secret(KEY)])  # noqa: UP031
def test_no_way_of_printing_shows_the_value(shown: str) -> None:
    assert KEY not in shown
    assert KEY[:12] not in shown


def test_only_reveal_gives_the_value() -> None:
    assert Secret(KEY).reveal() == KEY


def test_the_fingerprint_is_the_start_of_the_sha256() -> None:
    assert Secret("abc").fingerprint == "ba7816bf"


def test_the_same_text_is_the_same_secret() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret(KEY + "x")
    assert len({Secret(KEY), Secret(KEY)}) == 1
    assert Secret(KEY) != KEY


def test_text_outside_ascii_compares_too() -> None:
    assert Secret("ключ") == Secret("ключ")


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret(KEY)


def test_pickle_refuses() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(KEY))


def test_a_copy_is_the_same_object() -> None:
    secret = Secret(KEY)
    assert copy.deepcopy([secret])[0] is secret
    assert copy.copy(secret) is secret


def test_encoders_refuse() -> None:
    with pytest.raises(TypeError):
        json.dumps(Secret(KEY))
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret(KEY))


def test_a_dataclass_that_holds_one_keeps_it_hidden() -> None:
    @dataclasses.dataclass(frozen=True)
    class Holder:
        key: Secret

    assert KEY not in repr(Holder(Secret(KEY)))
    assert KEY not in str(dataclasses.asdict(Holder(Secret(KEY))))


def test_it_has_no_dict_to_look_into() -> None:
    with pytest.raises(TypeError):
        vars(Secret(KEY))


def escaped(key: str, places: set[int], spelling: str = "\\u{:04x}") -> bytes:
    """The key with the characters at these places written as escapes."""
    return "".join(spelling.format(ord(char)) if place in places else char for place, char in enumerate(key)).encode()


@given(
    st.sets(st.integers(0, len(KEY) - 1)), st.sampled_from(["\\u{:04x}", "\\u{:04X}", "\\\\u{:04x}", "\\\\\\u{:04X}"])
)
def test_a_key_is_taken_out_however_it_is_escaped(places: set[int], spelling: str) -> None:
    text = b'{"a": "' + escaped(KEY, places, spelling) + b'", "b": "' + KEY.encode() + b'"}'
    assert Secret(KEY).redact(text) == b'{"a": "[key]", "b": "[key]"}'
    assert Secret(KEY).is_in(text)


def test_text_without_the_key_stays_byte_for_byte() -> None:
    text = b'{"a": "\\u0073\\u006b-or \\u00e9 ' + KEY[:-1].encode() + b'"}'
    assert Secret(KEY).redact(text) == text
    assert not Secret(KEY).is_in(text)


def test_an_empty_key_takes_nothing_out() -> None:
    assert Secret("").redact(b"\\u0073 a") == b"\\u0073 a"
