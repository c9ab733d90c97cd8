"""What a function returned, or a command printed, becomes a score, or a reason why there is none."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from agent_preflight.runs.record import Score
from agent_preflight.scoring.reading import (
    DETAILS_CHARS_MAX,
    REASON_CHARS_MAX,
    SCORE_LINE_BYTES_MAX,
    score_of,
    score_of_output,
    unscored,
)
from tests.support.cases import each


@each(
    "given, score, success, kind",
    [
        (0.4, 0.4, False, "number"),
        (1, 1.0, True, "number"),
        (-3, -3.0, False, "number"),
        (Decimal("1.5"), 1.5, True, "number"),
        (Fraction(1, 2), 0.5, False, "number"),
        (True, 1.0, True, "bool"),
        (False, 0.0, False, "bool"),
        ({"score": 0.2, "success": True}, 0.2, True, "number"),
        ({"score": 7, "success": False}, 7.0, False, "number"),
        ({"score": True, "success": False}, 1.0, False, "bool"),
        ({"score": 2, "success": None}, 2.0, True, "number"),
    ],
)
def test_a_number_a_bool_or_a_mapping_is_a_score(given: object, score: float, success: bool, kind: str) -> None:
    found = score_of(given, 1.0)
    assert (found.value, found.success, found.kind, found.reason, found.details) == (score, success, kind, None, None)


def test_the_least_score_that_is_a_success_is_given() -> None:
    assert [score_of(0.5, least).success for least in (0.5, 0.51, -1.0)] == [True, False, True]
    assert score_of(False, 0.0).success is False


@each(
    "given, why",
    [
        (None, "the score is None"),
        ("1", "the score is '1', not a number"),
        ([1], "the score is of the type list"),
        (1j, "of the type complex"),
        (math.nan, "not finite"),
        (-math.inf, "not finite"),
        (10**400, "not finite"),
        (Decimal("NaN"), "not finite"),
        (Decimal("sNaN"), "not finite"),
        ({}, "no `score`"),
        ({"success": True}, "no `score`"),
        ({"score": None}, "the score is None"),
        ({"score": math.nan, "success": True}, "not finite"),
        ({"score": 1, "success": 1}, "`success` is 1, not true or false"),
        ({"score": {"score": 1}}, "of the type dict"),
    ],
)
def test_anything_else_is_no_score_and_never_zero(given: object, why: str) -> None:
    found = score_of(given, 1.0)
    assert (found.value, found.success, found.kind) == (None, None, None)
    assert why in str(found.reason)


def test_the_text_of_a_foreign_object_is_not_asked_for() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise AssertionError

    assert "of the type Hostile" in str(score_of(Hostile(), 1.0).reason)


def test_what_else_a_mapping_says_is_kept_as_plain_json() -> None:
    given: dict[Any, Any] = {"score": 0.5, "passed": ["a", "b"], 3: {"x": None}}
    found = score_of(given, 1.0)
    given["passed"].append("c")
    assert found.details == {"passed": ["a", "b"], "3": {"x": None}}


def endless(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@each(
    "details, why",
    [
        ({"x": object()}, "not JSON serializable"),
        ({"x": math.nan}, "Out of range"),
        ({"x": "y" * DETAILS_CHARS_MAX}, "longer than 65536 characters"),
        ({"x": endless(100_000)}, "recursion"),
        ({"x": endless(300)}, "deeper than 100 levels"),
    ],
)
def test_details_that_cannot_be_kept_cost_nothing_but_themselves(details: dict[str, Any], why: str) -> None:
    found = score_of({"score": 0.5, **details}, 1.0)
    assert (found.value, found.success, found.details) == (0.5, False, None)
    assert str(found.reason).startswith("the details are left out: ")
    assert why in str(found.reason)


def read(text: bytes) -> Score:
    return score_of_output(text, 1.0)


@each(
    "printed, score",
    [
        (b"0.83\n", 0.83),
        (b"collected 3 items\n...\n\xff\xfe\n 1 \n\n  \n", 1.0),
        (b"true", 1.0),
        (b"false\r\n", 0.0),
        (b'{"score": 0.5, "why": "\xc3\xbc"}\n', 0.5),
        (b"x" * 100 + b"\n2e1\n", 20.0),
    ],
)
def test_the_last_line_that_is_not_empty_is_the_score(printed: bytes, score: float) -> None:
    assert read(printed).value == score


@each(
    "printed, why",
    [
        (b"", "it printed nothing"),
        (b" \n\n\t\n", "it printed nothing"),
        (b"1\nthree passed\n", "no number and no JSON: 'three passed'"),
        (b"1\n\xff\xfe\n", "no number and no JSON"),
        (b"True\n", "no number and no JSON: 'True'"),
        (b'"1"', "the score is '1', not a number"),
        (b"null", "the score is None"),
        (b"[1, 2]", "of the type list"),
        (b"NaN", "not finite"),
        (b"-Infinity", "not finite"),
        (b"9" * 5000, "no number and no JSON"),
        (b"[" * 100_000, "no number and no JSON"),
        (b'{"score": ' * 100_000, "no number and no JSON"),
        (b"\x1b[31mred\n", "no number and no JSON"),
    ],
)
def test_a_last_line_that_says_no_score_is_a_reason(printed: bytes, why: str) -> None:
    found = read(printed)
    assert found.value is None
    assert why in str(found.reason)
    assert "\x1b" not in str(found.reason)
    assert len(str(found.reason)) <= REASON_CHARS_MAX


def test_a_line_whose_begin_was_not_kept_is_no_score() -> None:
    whole = b"1" + b" " * (SCORE_LINE_BYTES_MAX - 1)
    assert read(whole).value == 1.0
    assert "longer than 1048576 bytes" in str(read(b"1" + whole).reason)
    assert read(b"5" * 2**20 + b"\n1").value == 1.0


def test_a_reason_is_one_short_line_without_escapes() -> None:
    assert unscored("a\n\x1b[31mb" + "c" * 1000).reason == ("a b" + "c" * 1000)[:REASON_CHARS_MAX]


def test_the_document_of_a_score_has_each_field() -> None:
    document = score_of({"score": True, "n": 1}, 1.0).document()
    assert json.loads(json.dumps(document)) == {
        "score": 1.0,
        "success": True,
        "kind": "bool",
        "reason": None,
        "details": {"n": 1},
        "duration_s": 0.0,
    }
    with pytest.raises(AttributeError):
        unscored("x").value = 1  # type: ignore[misc]  # that is what is tested
