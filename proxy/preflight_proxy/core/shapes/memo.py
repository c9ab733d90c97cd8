"""Remembers the results of a pure function: each call of a conversation repeats most texts of the call before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Generic, TypeVar

from preflight_proxy.core.recent import Recent

DIGEST_BYTES = 16
"""128 bits: nobody can find two texts with the same digest."""

Result = TypeVar("Result")


def digest16(raw: bytes) -> bytes:
    """Return a digest of 16 bytes."""
    return hashlib.sha256(raw).digest()[:DIGEST_BYTES]


class Memo(Generic[Result]):
    """Results of a function by the digest of its argument. It stores no text. Threads may share it.

    Args:
        compute: A pure function; what it raises is not remembered.
        results_max: How many results are kept; those not used for long are forgotten first.
    """

    def __init__(self, compute: Callable[[bytes], Result], results_max: int) -> None:
        self._compute = compute
        self._results: Recent[bytes, Result] = Recent(results_max)

    def __call__(self, raw: bytes) -> Result:
        """Return the result for `raw`; it is computed if it is not remembered."""
        key = digest16(raw)
        result = self._results.get(key)
        if result is None:
            result = self._compute(raw)
            self._results.put(key, result)
        return result
