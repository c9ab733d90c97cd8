"""The longest known beginning of a prompt is found, in bounded work and bounded memory."""

import sys
from typing import Any

from preflight_proxy.core.pricing.known_prefixes import TRIED_BYTES_MAX, TRIES_MAX, KnownPrefixes, PrefixFields
from preflight_proxy.core.shapes.memo import DIGEST_BYTES
from preflight_proxy.core.shapes.shape import Prompt
from tests.support.quote_cases import CHAT, read

FIELDS: PrefixFields = ("a", "m/x", "tag", b"fields")
OTHER: PrefixFields = ("b", "m/x", "tag", b"fields")


def prompt(*texts: str) -> Prompt:
    messages = [{"role": "user", "content": text} for text in texts]
    return read(CHAT, {"model": "m/x", "messages": messages}).prompt


def remember(known: KnownPrefixes[str], value: str, *texts: str, fields: PrefixFields = FIELDS) -> None:
    asked = prompt(*texts)
    known.remember(fields, len(texts), asked.prefix_digest(len(texts)), value)


def test_the_longest_prefix_with_the_same_fields_is_returned_with_its_length() -> None:
    known = KnownPrefixes[str](8)
    remember(known, "short", "one")
    remember(known, "long", "one", "two")
    remember(known, "another", "one", "two", "three", fields=OTHER)
    remember(known, "different", "one", "two", "four")
    asked = prompt("one", "two", "three")
    assert known.longest(FIELDS, asked, 3) == (2, "long")
    assert known.longest(FIELDS, asked, 1) == (1, "short")
    assert known.longest(("c", "m/x", "tag", b"fields"), asked, 3) is None


def test_what_was_used_last_is_kept_and_the_rest_is_forgotten() -> None:
    known = KnownPrefixes[str](4)
    remember(known, "used", "one")
    for number in range(20):
        remember(known, str(number), f"other {number}")
        assert known.longest(FIELDS, prompt("one"), 1) == (1, "used")
    assert known.longest(FIELDS, prompt("other 0"), 1) is None


def test_a_value_is_replaced_by_the_next_one_of_the_same_prefix() -> None:
    known = KnownPrefixes[str](8)
    remember(known, "before", "one")
    remember(known, "after", "one")
    assert known.longest(FIELDS, prompt("one", "two"), 2) == (1, "after")


def test_a_prefix_of_thousands_of_messages_is_looked_for_in_bounded_work() -> None:
    """Else each of its lengths would be hashed for each endpoint."""
    known = KnownPrefixes[str](4096)
    texts = [str(number) for number in range(3000)]
    other = prompt("other", *texts)
    for count in range(1, 3000, 20):
        known.remember(FIELDS, count, other.prefix_digest(count), "")
    asked, tried = prompt(*texts), []
    digest = Prompt.prefix_digest

    def counted(frame: Any, event: str, _arg: Any) -> None:
        if event == "call" and frame.f_code is digest.__code__:
            tried.append(frame.f_locals["count"])

    sys.setprofile(counted)
    try:
        assert known.longest(FIELDS, asked, 3000) is None
    finally:
        sys.setprofile(None)
    assert 0 < len(tried) <= TRIES_MAX
    assert sum(tried) * DIGEST_BYTES <= TRIED_BYTES_MAX + 3000 * DIGEST_BYTES
