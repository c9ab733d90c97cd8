"""Remembers the result of a pure function for what was read last: a conversation comes again with each of its calls."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

DIGEST_BYTES = 16
"""128 bits: nobody can find two texts with the same digest."""

Value = TypeVar("Value")


def digest16(raw: bytes) -> bytes:
    """16 bytes that stand for `raw`."""
    return hashlib.sha256(raw).digest()[:DIGEST_BYTES]


class Memo(Generic[Value]):
    """Results by digest, the least recently used forgotten first. It keeps no text. Threads may share it.

    Args:
        compute: A pure function; what it raises is not remembered.
        results_max: How many results are kept.
    """

    def __init__(self, compute: Callable[[bytes], Value], results_max: int) -> None:
        self._compute = compute
        self._results_max = results_max
        self._results: OrderedDict[bytes, Value] = OrderedDict()

    def __call__(self, raw: bytes) -> Value:
        """The result for `raw`, computed if it is not remembered."""
        key = digest16(raw)
        found = self._results.get(key)
        if found is not None:
            with suppress(KeyError):  # another thread has just let it go
                self._results.move_to_end(key)
            return found
        computed = self._compute(raw)
        self._results[key] = computed
        if len(self._results) > self._results_max:
            with suppress(KeyError):
                self._results.popitem(last=False)
        return computed
