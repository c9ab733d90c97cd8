"""A merged test fails with each case that fails, and says which."""

import pytest

from tests.support.cases import each


def small(number: int) -> None:
    assert number < 3


def test_a_case_that_fails_is_named() -> None:
    with pytest.raises(AssertionError) as caught:
        each("number", [1, 3, 2])(small)()
    assert caught.value.__notes__ == ["case: {'number': 3}"]


def test_all_that_fail_are_named() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        each("number", [4, 1, 5])(small)()
    assert [exc.__notes__ for exc in caught.value.exceptions] == [["case: {'number': 4}"], ["case: {'number': 5}"]]


def test_what_was_to_be_raised_and_was_not_is_a_failure_too() -> None:
    def raises(text: str) -> None:
        with pytest.raises(ValueError, match="invalid"):
            int(text)

    each("text", ["x"])(raises)()
    with pytest.raises(AssertionError, match="DID NOT RAISE"):
        each("text", ["x", "1"])(raises)()


def test_a_case_of_several_values_is_a_tuple() -> None:
    seen = []
    each("left, right", [(1, 2), (3, 4)])(lambda left, right: seen.append(left + right))()
    assert seen == [3, 7]


def test_no_cases_are_no_success() -> None:
    with pytest.raises(AssertionError, match="no cases"):
        each("number", [])(small)()
