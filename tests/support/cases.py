"""Runs many cases as one test, and names every case that fails.

A test of its own for each case would be slower: this suite has thousands of cases, and pytest takes milliseconds for each test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def each(names: str, cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Make a test that runs the decorated function with every case; it fails with all cases that fail.

    For pure claims without fixtures: a case must leave nothing behind for the next one.

    Args:
        names: Parameters, separated by commas; with more than one, a case is a tuple of their values.
        cases: The cases; a mapping stands for its keys.
    """
    parameters, rows = [name.strip() for name in names.split(",")], list(cases)

    def decorate(function: Callable[..., None]) -> Callable[[], None]:
        def test() -> None:
            failed: list[Exception] = []
            assert rows, "no cases"
            for case in rows:
                values = dict(zip(parameters, (case,) if len(parameters) == 1 else case, strict=True))
                try:
                    function(**values)
                except (Exception, pytest.fail.Exception) as exc:
                    failed.append(exc if isinstance(exc, Exception) else AssertionError(str(exc)))
                    failed[-1].add_note(f"case: {values!r}")
            if failed:
                raise failed[0] if len(failed) == 1 else ExceptionGroup(f"{len(failed)} cases fail", failed)

        test.__name__, test.__doc__, test.__module__ = function.__name__, function.__doc__, function.__module__
        test.__qualname__ = function.__qualname__
        return test

    return decorate
